//! Middleware that compresses responses with brotli, gzip or zstd.
//!
//! The layer of tower-http gives every response a body with room for the state of an encoder, about 6 kB, which each
//! outer layer would move. This layer allocates that state on the heap, only for responses that are compressed.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod budget;

use std::future::{Future, Ready, ready};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready as try_ready};

use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Either;
use pin_project_lite::pin_project;
use tower_http::compression::predicate::{DefaultPredicate, Predicate};
use tower_http::compression::{Compression, CompressionBody, ResponseFuture as TowerResponseFuture};
use tower_layer::Layer;
use tower_service::Service;

use self::budget::BudgetedBody;

/// Compresses responses with brotli, gzip or zstd, as the client prefers.
#[derive(Clone, Copy, Debug)]
pub struct CompressionLayer;

impl<S> Layer<S> for CompressionLayer {
    type Service = CompressionService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CompressionService { inner }
    }
}

/// Middleware that compresses response bodies. See [`CompressionLayer`].
#[derive(Clone, Debug)]
pub struct CompressionService<S> {
    inner: S,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for CompressionService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: Body,
{
    type Response = Response<MaybeCompressed<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let accepted = accepted(request.headers());
        let is_head = *request.method() == Method::HEAD;
        ResponseFuture { accepted, is_head, inner: self.inner.call(request) }
    }
}

/// A compressed body, or the original one.
pub type MaybeCompressed<B> = Either<Pin<Box<WithPermit<CompressionBody<BudgetedBody<B>>>>>, B>;

pin_project! {
    /// A body with an encoder and its permit.
    pub struct WithPermit<B> {
        #[pin]
        body: B,
        permit: EncoderPermit,
    }
}

impl<B: Body> Body for WithPermit<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A permit to use an encoder, of a limited number.
///
/// A brotli encoder takes up to thirty megabytes for a long body. Without a limit, clients that request large
/// responses without reading them could cause thousands of encoders.
#[derive(Debug)]
struct EncoderPermit(&'static AtomicUsize);

impl EncoderPermit {
    fn acquire(used: &'static AtomicUsize) -> Option<Self> {
        let one_more = |permits| (permits < MAX_ENCODERS).then_some(permits + 1);
        used.fetch_update(Relaxed, Relaxed, one_more).is_ok().then(|| Self(used))
    }
}

impl Drop for EncoderPermit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

// One counter for the process, as memory is shared by all workers.
static ENCODERS: AtomicUsize = AtomicUsize::new(0);

/// The maximum number of encoders. Beyond it, responses are sent uncompressed.
const MAX_ENCODERS: usize = 64;

pin_project! {
    /// The response future of [`CompressionService`].
    pub struct ResponseFuture<F> {
        accepted: Option<HeaderValue>,
        is_head: bool,
        #[pin]
        inner: F,
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<MaybeCompressed<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = try_ready!(this.inner.poll(cx))?;
        if *this.is_head {
            adjust_head_response(response.headers_mut(), this.accepted.is_some());
            return Poll::Ready(Ok(response.map(Either::Right)));
        }
        if !is_compressible(&response) {
            return Poll::Ready(Ok(response.map(Either::Right)));
        }
        vary(response.headers_mut());
        let Some(accepted) = this.accepted.take() else {
            return Poll::Ready(Ok(response.map(Either::Right)));
        };
        let Some(permit) = EncoderPermit::acquire(&ENCODERS) else {
            return Poll::Ready(Ok(response.map(Either::Right)));
        };
        let status = response.status();
        // The response is ready, so this future never waits, and need not be stored in `self`.
        let response = response.map(BudgetedBody::new);
        let mut response = try_ready!(pin!(compress::<_, E>(accepted, response)).poll(cx))?;
        // tower-http answers 406 if the client accepts neither a coding nor `identity`. The backend chose to respond
        // anyway.
        *response.status_mut() = status;
        if response.headers().contains_key(CONTENT_ENCODING) {
            weaken_etag(response.headers_mut());
        }
        Poll::Ready(Ok(response.map(|body| Either::Left(Box::pin(WithPermit { body, permit })))))
    }
}

/// Sets the headers of a HEAD response as for GET, except for the length, which is unknown without compressing (RFC
/// 9110 §9.3.2).
fn adjust_head_response(headers: &mut HeaderMap, compressed: bool) {
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if !allows_compression(headers) || length.is_some_and(|length| length < MIN_SIZE) {
        return;
    }
    vary(headers);
    if compressed {
        headers.remove(CONTENT_LENGTH);
        weaken_etag(headers);
    }
}

/// Returns the supported codings that the client accepts, on one line; `None` if there are none.
fn accepted(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut lines = headers.get_all(ACCEPT_ENCODING).iter();
    let (first, is_only) = (lines.next()?, lines.next().is_none());
    let members = headers.get_all(ACCEPT_ENCODING).iter().flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    let members = members.take(MAX_CODINGS).map(<[u8]>::trim_ascii).filter(|member| member.len() <= MAX_CODING_LENGTH);
    let is = |member: &[u8], coding: &[u8]| {
        let name = member.split(|&byte| byte == b';').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(coding)
    };
    let is_supported = |member: &[u8]| SUPPORTED_CODINGS.iter().any(|offered| is(member, offered));
    if is_only && first.len() <= SHORT_LIST_LENGTH {
        return { members }.any(is_supported).then(|| first.clone());
    }
    // RFC 9110 §5.3: several field lines are one list.
    let known: Vec<&[u8]> = members.filter(|member| is_supported(member) || is(member, b"identity")).collect();
    let has_supported = known.iter().any(|member| is_supported(member));
    HeaderValue::from_bytes(&known.join(&b',')).ok().filter(|_| has_supported)
}

/// The supported codings, and `*`.
const SUPPORTED_CODINGS: [&[u8]; 5] = [b"gzip", b"x-gzip", b"br", b"zstd", b"*"];

/// The maximum length of an `Accept-Encoding` that is used as it is. A longer one is reduced to the supported
/// codings.
const SHORT_LIST_LENGTH: usize = 128;

/// The maximum number of members that are read. Fewer codings are registered, but a client could send thousands.
const MAX_CODINGS: usize = 64;

/// The length of `identity;q=0.001` with some white space.
const MAX_CODING_LENGTH: usize = 32;

/// Returns whether a response is large enough, complete, of a compressible type, and may be changed.
fn is_compressible<B: Body>(response: &Response<B>) -> bool {
    let is_large = response.body().size_hint().upper().is_none_or(|most| most >= MIN_SIZE);
    is_large && allows_compression(response.headers()) && DefaultPredicate::new().should_compress(response)
}

fn allows_compression(headers: &HeaderMap) -> bool {
    // One pass over the present fields is faster than a lookup of each possible one.
    let mut has_compressible_type = false;
    for (name, value) in headers {
        match *name {
            CONTENT_TYPE => has_compressible_type = is_compressible_type(value.as_bytes()),
            CONTENT_ENCODING | CONTENT_RANGE => return false,
            CACHE_CONTROL if forbids_transformation(value.as_bytes()) => return false,
            // RFC 9530: a digest covers the bytes that are sent, or those before any coding.
            ref name if *name == CONTENT_DIGEST || *name == REPR_DIGEST => return false,
            _ => {}
        }
    }
    has_compressible_type
}

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");
const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");

/// The minimum size in bytes. Below it, compression saves little or nothing, and would cost the strong `ETag`.
const MIN_SIZE: u64 = 256;

/// Returns whether the media type is text or similar. Most other types are compressed already.
fn is_compressible_type(content_type: &[u8]) -> bool {
    let media_type = content_type.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    let begins = |prefix: &[u8]| media_type.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    let ends = |suffix: &[u8]| {
        let start = media_type.len().checked_sub(suffix.len());
        start.is_some_and(|start| media_type[start..].eq_ignore_ascii_case(suffix))
    };
    let is = |name: &&[u8]| media_type.eq_ignore_ascii_case(name);
    begins(b"text/") || ends(b"+json") || ends(b"+xml") || ends(b"+text") || COMPRESSIBLE_TYPES.iter().any(is)
}

const COMPRESSIBLE_TYPES: [&[u8]; 18] = [
    b"application/json",
    b"application/javascript",
    b"application/x-javascript",
    b"application/ecmascript",
    b"application/xml",
    b"application/x-ndjson",
    b"application/jsonlines",
    b"application/graphql",
    b"application/wasm",
    b"application/manifest",
    b"application/rtf",
    b"application/vnd.ms-fontobject",
    b"application/x-font-ttf",
    b"font/ttf",
    b"font/otf",
    b"image/bmp",
    b"image/x-icon",
    b"image/vnd.microsoft.icon",
];

/// Returns whether `Cache-Control` contains `no-transform` (RFC 9111 §5.2.2.6).
fn forbids_transformation(cache_control: &[u8]) -> bool {
    let mut directives = cache_control.split(|&byte| byte == b',');
    directives.any(|directive| directive.trim_ascii().eq_ignore_ascii_case(b"no-transform"))
}

/// Adds `Accept-Encoding` to `Vary`, since other clients may get another response (RFC 9110 §12.5.5).
fn vary(headers: &mut HeaderMap) {
    let covers_encoding = |member: &[u8]| matches!(member, b"*") || member.eq_ignore_ascii_case(b"accept-encoding");
    let mut lines = headers.get_all(VARY).iter();
    if !lines.any(|line| line.as_bytes().split(|&byte| byte == b',').any(|member| covers_encoding(member.trim_ascii())))
    {
        headers.append(VARY, HeaderValue::from_static("accept-encoding"));
    }
}

/// Compresses a response with the coding that tower-http selects. The request passed to it carries the response.
fn compress<B: Body, E>(
    accepted: HeaderValue,
    response: Response<B>,
) -> TowerResponseFuture<Ready<Result<Response<B>, E>>, DefaultPredicate> {
    let mut request = Request::new(response);
    request.headers_mut().insert(ACCEPT_ENCODING, accepted);
    let answer = tower::service_fn(|request: Request<Response<B>>| ready(Ok(request.into_body())));
    Compression::new(answer).call(request)
}

/// Makes a strong `ETag` weak, since the bytes have changed (RFC 9110 §8.8.3.3).
fn weaken_etag(headers: &mut HeaderMap) {
    let strong = headers.get(ETAG).filter(|etag| !etag.as_bytes().starts_with(b"W/"));
    if let Some(weak) = strong.and_then(|etag| HeaderValue::from_bytes(&[b"W/", etag.as_bytes()].concat()).ok()) {
        headers.insert(ETAG, weak);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http::StatusCode;
    use http_body_util::{BodyExt, Full};
    use std::convert::Infallible;
    use tower::ServiceExt;

    const TEXT: &str = "compress me, compress me, compress me, compress me, compress me, compress me, compress me, \
        compress me, compress me, compress me, compress me, compress me, compress me, compress me, compress me, \
        compress me, compress me, compress me, compress me, compress me, compress me, compress me, compress me";

    /// Returns the response to a client that accepts `codings`, with `TEXT` and these fields.
    async fn answer(codings: &[&str], fields: &[(&'static str, &'static str)]) -> Response<Bytes> {
        let mut response = Response::builder().header("content-length", TEXT.len());
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        let response = response.body(Full::<Bytes>::from(TEXT)).unwrap();
        let inner = tower::service_fn(move |_: Request<()>| ready(Ok::<_, Infallible>(response.clone())));
        let mut request = Request::get("/");
        for line in codings {
            request = request.header(ACCEPT_ENCODING, *line);
        }
        let response = CompressionLayer.layer(inner).oneshot(request.body(()).unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        Response::from_parts(head, body.collect().await.unwrap().to_bytes())
    }

    const HTML: (&str, &str) = ("content-type", "text/html; charset=utf-8");

    #[tokio::test]
    async fn compresses_text_with_the_preferred_coding() {
        for (codings, coding) in [
            (&["gzip"][..], Some("gzip")),
            (&["gzip;q=0.5, br"], Some("br")),
            (&["deflate", "ZSTD"], Some("zstd")),
            (&["deflate"], None),
            (&["identity"], None),
            (&[], None),
        ] {
            let response = answer(codings, &[HTML]).await;
            assert_eq!(response.headers().get(CONTENT_ENCODING).map(|coding| coding.to_str().unwrap()), coding);
            assert_eq!(response.body() != TEXT, coding.is_some());
            assert_eq!(response.headers().contains_key("content-length"), coding.is_none());
            assert_eq!(response.headers()[VARY], "accept-encoding", "{codings:?}");
        }
    }

    #[test]
    fn reduces_long_accept_encoding_to_supported_codings() {
        for (lines, read) in [
            (&["gzip, br;q=0.5"][..], Some("gzip, br;q=0.5")),
            (&["gzip, x", "br , identity;q=0.1"], Some("gzip,br,identity;q=0.1")),
            (&[&("br,".to_owned() + &"made-up,".repeat(3000))], Some("br")),
            (&[&("made-up,".repeat(3000) + "br")], None),
            (&[&("gzip;q=".to_owned() + &"0".repeat(30_000))], None),
            (&["identity", "deflate"], None),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(ACCEPT_ENCODING, HeaderValue::from_str(line).unwrap());
            }
            assert_eq!(accepted(&headers).as_ref().map(|list| list.to_str().unwrap()), read);
        }
    }

    #[tokio::test]
    async fn leaves_incompressible_and_protected_responses_unchanged() {
        for fields in [
            &[("content-type", "image/png")][..],
            &[("content-type", "video/mp4")],
            &[("content-type", "application/octet-stream")],
            &[("content-type", "text/event-stream")],
            &[],
            &[HTML, ("content-encoding", "br")],
            &[HTML, ("content-range", "bytes 0-298/500")],
            &[HTML, ("cache-control", "public, No-Transform")],
        ] {
            let response = answer(&["gzip"], fields).await;
            assert_eq!(response.body(), TEXT, "{fields:?}");
            assert!(!response.headers().contains_key(VARY), "{fields:?}");
            assert_eq!(response.headers()["content-length"], TEXT.len().to_string());
        }
    }

    #[tokio::test]
    async fn other_tasks_run_while_a_large_response_is_compressed() {
        const ROUNDS: usize = 50;
        let page = Bytes::from(vec![b'a'; ROUNDS * budget::BUDGET]);
        for coding in ["gzip", "br", "zstd"] {
            let response = Response::builder().header(CONTENT_TYPE, "text/html").body(Full::new(page.clone())).unwrap();
            let inner = tower::service_fn(move |_: Request<()>| ready(Ok::<_, Infallible>(response.clone())));
            let request = Request::get("/").header(ACCEPT_ENCODING, coding).body(()).unwrap();
            let response = CompressionLayer.layer(inner).oneshot(request).await.unwrap();
            assert_eq!(response.headers()[CONTENT_ENCODING], coding);
            let compressed = tokio::spawn(response.into_body().collect());
            let mut rounds = 0;
            while !compressed.is_finished() {
                tokio::task::yield_now().await;
                rounds += 1;
            }
            assert!(!compressed.await.unwrap().unwrap().to_bytes().is_empty());
            assert!(rounds >= ROUNDS - 1, "{coding}: {rounds}");
        }
    }

    #[tokio::test]
    async fn weakens_etag_of_compressed_responses_only() {
        for (codings, fields, expected) in [
            (&["gzip"][..], &[HTML, ("etag", "\"a\"")][..], "W/\"a\""),
            (&["gzip"], &[HTML, ("etag", "W/\"a\"")], "W/\"a\""),
            (&[], &[HTML, ("etag", "\"a\"")], "\"a\""),
            (&["gzip"], &[HTML, ("etag", "\"a\""), ("content-encoding", "br")], "\"a\""),
        ] {
            assert_eq!(answer(codings, fields).await.headers()[ETAG], expected);
        }
    }

    #[tokio::test]
    async fn sends_uncompressed_response_if_no_coding_is_acceptable() {
        let response = answer(&["gzip;q=0, identity;q=0"], &[HTML]).await;
        assert_eq!((response.status(), response.body().as_ref()), (StatusCode::OK, TEXT.as_bytes()));
    }

    #[tokio::test]
    async fn adds_accept_encoding_to_vary_once() {
        for (given, expected) in
            [("Accept-Encoding", &["Accept-Encoding"][..]), ("origin", &["origin", "accept-encoding"])]
        {
            let response = answer(&["gzip"], &[HTML, ("vary", given)]).await;
            assert_eq!(response.headers().get_all(VARY).iter().collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn head_response_has_the_headers_of_get() {
        for (content_type, length, compressed, vary, said) in [
            ("text/html", "2400", true, true, None),
            ("text/html", "2400", false, true, Some("2400")),
            ("text/html", "255", true, false, Some("255")),
            ("image/png", "2400", true, false, Some("2400")),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static(length));
            headers.insert(ETAG, HeaderValue::from_static("\"a\""));
            adjust_head_response(&mut headers, compressed);
            assert_eq!(headers.contains_key(VARY), vary, "{content_type} {length}");
            assert_eq!(headers.get(CONTENT_LENGTH).map(|length| length.to_str().unwrap()), said);
            assert_eq!(headers[ETAG], if said.is_none() { "W/\"a\"" } else { "\"a\"" });
        }
    }

    #[test]
    fn limits_the_number_of_encoders() {
        static TAKEN: AtomicUsize = AtomicUsize::new(0);
        let mut permits: Vec<_> = (0..MAX_ENCODERS).map_while(|_| EncoderPermit::acquire(&TAKEN)).collect();
        assert_eq!(permits.len(), MAX_ENCODERS);
        assert!(EncoderPermit::acquire(&TAKEN).is_none());
        permits.pop();
        assert!(EncoderPermit::acquire(&TAKEN).is_some());
        drop(permits);
        assert_eq!(TAKEN.load(Relaxed), 0);
    }

    #[test]
    fn recognises_compressible_types() {
        for (media_type, verbose) in [
            ("text/plain", true),
            ("TEXT/CSS; charset=utf-8", true),
            ("application/ld+json", true),
            ("image/svg+xml", true),
            ("application/json;x=y", true),
            ("application/zip", false),
            ("font/woff2", false),
            ("", false),
            ("json", false),
        ] {
            assert_eq!(is_compressible_type(media_type.as_bytes()), verbose, "{media_type}");
        }
    }
}
