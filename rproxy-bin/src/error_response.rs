//! Error responses that the proxy generates, in the format that the client prefers.
//!
//! The layers reject requests with plain text and record the reason in a response extension, which [`ErrorReason`]
//! recognises. [`ErrorResponseLayer`] turns such a response into an HTML page if `Accept` prefers HTML, into
//! `application/problem+json` (RFC 9457) if it prefers JSON, or into a gRPC status if the request is a gRPC call. It adds
//! `Proxy-Status` (RFC 9209), and removes the body from responses to HEAD, which hyper would send over HTTP/2. Error
//! responses of the backend pass unchanged.
//!
//! Only a page for the operator, on the machine of the proxy, names the cause and the setting that decides.
//!
//! The layer also catches panics. A panic becomes a 500, or an error of the body if the response has started. It
//! fails only its request, and over HTTP/1.1 the connection, since an incomplete chunked body cannot be signalled in
//! another way.

mod accept;
mod body;
mod explanation;
mod future;
mod grpc;
mod operator;
mod page;
mod panic;
mod reason;

use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY,
    CONTENT_TYPE, ETAG, HeaderName, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, response};
use http_body::Body;
use rproxy_client_ip::TrustedPeer;
use rproxy_forward_headers::RequestId;
use rproxy_server::CloseConnection;
use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

use self::accept::{Accept, ErrorFormat};
pub use self::body::ResponseBody;
pub use self::future::ResponseFuture;
pub(crate) use self::grpc::GrpcError;
pub(crate) use self::panic::panics;
pub use self::reason::ErrorReason;

/// Layer that formats the error responses of the proxy, and catches panics.
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct ErrorResponseLayer {
    closes_on_blocked_path: bool,
}

impl ErrorResponseLayer {
    /// Creates a layer that formats the error responses of the proxy.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether requests for blocked paths get no response ([`CloseConnection`]). Off by default.
    ///
    /// Requests from trusted proxies still get a response: a load balancer would count a closed connection as a
    /// failure of this proxy.
    pub fn close_on_blocked_path(mut self, closes_on_blocked_path: bool) -> Self {
        self.closes_on_blocked_path = closes_on_blocked_path;
        self
    }
}

impl<S> Layer<S> for ErrorResponseLayer {
    type Service = ErrorResponseService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ErrorResponseService { inner, closes_on_blocked_path: self.closes_on_blocked_path }
    }
}

/// Middleware that formats error responses and catches panics. See [`ErrorResponseLayer`].
#[derive(Clone, Debug)]
pub struct ErrorResponseService<S> {
    inner: S,
    closes_on_blocked_path: bool,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for ErrorResponseService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: Body<Data = Bytes, Error: Into<BoxError>>,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let accept = Accept::of(request.headers());
        let client = ClientPreferences {
            // Only an HTML page has these.
            request_id: if accept.is_specific() { RequestId::of_request(&request) } else { None },
            is_operator: accept.is_specific() && operator::is_operator(&request),
            accept,
            grpc: grpc::content_type(&request),
            is_head: *request.method() == Method::HEAD,
            closes_on_blocked_path: self.closes_on_blocked_path && request.extensions().get::<TrustedPeer>().is_none(),
        };
        ResponseFuture::new(client, panic::catch_panic(|| self.inner.call(request)))
    }
}

/// The properties of a request that determine the format of an error response.
struct ClientPreferences {
    accept: Accept,
    /// The request ID that a trusted proxy sent.
    request_id: Option<RequestId>,
    /// Whether error pages name the cause of the error, because the client is the operator.
    is_operator: bool,
    /// The content type of the gRPC call, if the request is one.
    grpc: Option<HeaderValue>,
    is_head: bool,
    closes_on_blocked_path: bool,
}

impl ClientPreferences {
    fn present<B>(&self, response: Response<ResponseBody<B>>) -> Response<ResponseBody<B>>
    where
        B: Body<Data = Bytes, Error: Into<BoxError>>,
    {
        let Some(reason) = ErrorReason::of(&response) else {
            return response;
        };
        let (mut head, body) = response.into_parts();
        if self.closes_on_blocked_path && reason == ErrorReason::BlockedPath {
            head.extensions.insert(CloseConnection);
            return Response::from_parts(head, ResponseBody::own(Bytes::new()));
        }
        head.headers.insert(PROXY_STATUS, reason.proxy_status());
        if let Some(content_type) = &self.grpc {
            return grpc::present(Response::from_parts(head, body), reason, content_type);
        }
        head.headers.append(VARY, HeaderValue::from_static("accept"));
        // RFC 9110 §15.1: caches may store some errors, such as a 404, without a lifetime.
        head.headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        let body = match self.accept.error_format() {
            ErrorFormat::PlainText => body,
            ErrorFormat::ProblemJson => {
                replace_content_type(&mut head.headers, "application/problem+json");
                ResponseBody::own(problem(head.status))
            }
            ErrorFormat::Html => {
                replace_content_type(&mut head.headers, "text/html; charset=utf-8");
                // The policy of the site would block the style of the page.
                head.headers.insert(CONTENT_SECURITY_POLICY, page::CONTENT_SECURITY_POLICY);
                head.headers.remove(CONTENT_SECURITY_POLICY_REPORT_ONLY);
                ResponseBody::own(self.page(&mut head, reason))
            }
        };
        if !self.is_head {
            return Response::from_parts(head, body);
        }
        if let Some(length) = body.size_hint().exact() {
            head.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        Response::from_parts(head, ResponseBody::own(Bytes::new()))
    }

    /// Returns an HTML error page with the request ID that the access log contains.
    fn page(&self, head: &mut response::Parts, reason: ErrorReason) -> Bytes {
        let explanation = if self.is_operator { reason.explanation(&head.extensions) } else { None };
        let id = head.extensions.get().or(self.request_id.as_ref()).cloned().unwrap_or_else(RequestId::generate);
        let page = page::page(head.status, id.as_str(), explanation.as_deref());
        head.extensions.insert(id);
        page
    }

    fn panicked<B>(&self) -> Response<ResponseBody<B>>
    where
        B: Body<Data = Bytes, Error: Into<BoxError>>,
    {
        let mut response = Response::new(ResponseBody::own(Bytes::from_static(b"Internal Server Error\n")));
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        response.extensions_mut().insert(ErrorReason::Panicked);
        self.present(response)
    }
}

fn replace_content_type(headers: &mut HeaderMap, content_type: &'static str) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    for name in [CONTENT_LENGTH, CONTENT_ENCODING, ETAG] {
        headers.remove(name);
    }
}

/// Returns a problem of type `about:blank`, with the reason phrase of the status as title (RFC 9457 §4.2.1).
fn problem(status: StatusCode) -> Bytes {
    // The titles of the `http` crate need no escaping.
    let title = status.canonical_reason().unwrap_or("Error");
    Bytes::from(format!("{{\"type\":\"about:blank\",\"title\":\"{title}\",\"status\":{}}}\n", status.as_u16()))
}

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::ACCEPT;
    use http_body_util::{BodyExt, Full};
    use rproxy_path_filter::{PathFilterLayer, PathRules};
    use rproxy_server::LoopbackClient;
    use tower::{ServiceBuilder, ServiceExt, service_fn};

    type Answer = Result<Response<Full<Bytes>>, BoxError>;

    fn request(method: &str, path: &str, accept: Option<&str>) -> Request<()> {
        let mut request = Request::builder().method(method).uri(path).body(()).unwrap();
        if let Some(accept) = accept {
            request.headers_mut().insert(ACCEPT, accept.parse().unwrap());
        }
        request
    }

    /// Sends a request to a backend behind a path filter that blocks `/.env`; the backend has no `/missing`.
    async fn answer(request: Request<()>) -> (http::response::Parts, Bytes) {
        let backend = service_fn(async |request: Request<()>| -> Answer {
            let status = if request.uri().path() == "/missing" { 404 } else { 200 };
            let response = Response::builder().status(status).header(CONTENT_TYPE, "text/html");
            Ok(response.body(Full::new(Bytes::from_static(b"<p>from the backend</p>")))?)
        });
        let service = ServiceBuilder::new()
            .layer(ErrorResponseLayer::new())
            .layer(PathFilterLayer::new(PathRules::builder().block("/.env").unwrap().build().unwrap()))
            .service(backend);
        let (head, body) = service.oneshot(request).await.unwrap().into_parts();
        (head, body.collect().await.unwrap().to_bytes())
    }

    #[tokio::test]
    async fn rejected_grpc_call_gets_a_trailers_only_response() {
        let mut request = request("POST", "/.env", Some("application/json"));
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc+proto"));
        let (head, body) = answer(request).await;
        assert_eq!(head.status, 200);
        assert_eq!(head.headers[CONTENT_TYPE], "application/grpc");
        assert_eq!(head.headers["grpc-status"], "12");
        assert_eq!(head.headers["grpc-message"], "rproxy: 404 Not Found (blocked_path)");
        assert_eq!(head.headers[PROXY_STATUS], "rproxy; error=http_request_denied");
        assert!(!head.headers.contains_key(CONTENT_LENGTH));
        assert!(body.is_empty());
        let rejection = GrpcError { status: StatusCode::NOT_FOUND, reason: ErrorReason::BlockedPath };
        assert_eq!(head.extensions.get(), Some(&rejection));
    }

    #[tokio::test]
    async fn forwards_grpc_error_of_the_backend_unchanged() {
        let mut request = request("POST", "/missing", None);
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        let (head, _) = answer(request).await;
        assert_eq!((head.status.as_u16(), &head.headers[CONTENT_TYPE]), (404, &HeaderValue::from_static("text/html")));
    }

    #[tokio::test]
    async fn sends_problem_json_if_json_is_preferred() {
        let (head, body) = answer(request("GET", "/.env", Some("application/json"))).await;
        assert_eq!(head.status, 404);
        assert_eq!(head.headers[CONTENT_TYPE], "application/problem+json");
        assert_eq!(head.headers[PROXY_STATUS], "rproxy; error=http_request_denied");
        assert_eq!(head.headers[VARY], "accept");
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem, serde_json::json!({"type": "about:blank", "title": "Not Found", "status": 404}));
    }

    #[tokio::test]
    async fn sends_plain_text_by_default() {
        for accept in [None, Some("*/*"), Some("text/plain, text/html")] {
            let (head, body) = answer(request("GET", "/.env", accept)).await;
            assert_eq!(head.headers[CONTENT_TYPE], "text/plain; charset=utf-8");
            assert_eq!(head.headers[PROXY_STATUS], "rproxy; error=http_request_denied");
            assert_eq!(body, "Not Found\n");
        }
    }

    const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";

    #[tokio::test]
    async fn sends_html_page_if_html_is_preferred() {
        let (head, body) = answer(request("GET", "/.env", Some(BROWSER))).await;
        assert_eq!(
            (head.status.as_u16(), head.headers[CONTENT_TYPE].to_str().unwrap()),
            (404, "text/html; charset=utf-8")
        );
        assert_eq!(head.headers[CONTENT_SECURITY_POLICY], page::CONTENT_SECURITY_POLICY);
        assert_eq!(head.headers[VARY], "accept");
        assert_eq!(head.headers[CACHE_CONTROL], "no-store");
        assert!(!head.headers.contains_key(ETAG));
        let page = std::str::from_utf8(&body).unwrap();
        let id: &RequestId = head.extensions.get().unwrap();
        assert!(page.contains(id.as_str()) && page.contains("404"), "{page}");
        assert!(!page.contains(".env") && !page.contains("RPROXY"), "{page}");
        let (head, body) = answer(request("HEAD", "/.env", Some(BROWSER))).await;
        assert_eq!((&head.headers[CONTENT_LENGTH], body.len()), (&HeaderValue::from(page.len()), 0));
    }

    #[tokio::test]
    async fn error_page_shows_request_id_of_trusted_proxies_only() {
        for (is_trusted, sent, is_shown) in [(true, "edge-7", true), (false, "edge-7", false), (true, "<b>", true)] {
            let mut request = request("GET", "/.env", Some(BROWSER));
            request.headers_mut().insert("x-request-id", sent.parse().unwrap());
            if is_trusted {
                request.extensions_mut().insert(TrustedPeer::default());
            }
            let (_, body) = answer(request).await;
            let shown = sent.replace('<', "&lt;").replace('>', "&gt;");
            let expected = format!("<code>{shown}</code>");
            assert_eq!(std::str::from_utf8(&body).unwrap().contains(&expected), is_shown, "{sent} {is_trusted}");
        }
    }

    #[tokio::test]
    async fn only_error_page_for_the_operator_names_the_cause() {
        for (is_loopback, accept, is_named) in
            [(true, BROWSER, true), (false, BROWSER, false), (true, "application/json", false), (true, "*/*", false)]
        {
            let mut request = request("GET", "/.env", Some(accept));
            request.headers_mut().insert("host", HeaderValue::from_static("localhost:8080"));
            if is_loopback {
                request.extensions_mut().insert(LoopbackClient);
            }
            let (_, body) = answer(request).await;
            let text = std::str::from_utf8(&body).unwrap();
            let names = ["/.env", "RPROXY_BLOCKED_PATHS"].map(|name| text.contains(name));
            assert_eq!(names, [is_named; 2], "{is_loopback} {accept} {text}");
        }
    }

    #[tokio::test]
    async fn forwards_backend_errors_unchanged() {
        let (head, body) = answer(request("GET", "/missing", Some("application/json"))).await;
        assert_eq!(head.headers[CONTENT_TYPE], "text/html");
        assert!(!head.headers.contains_key(PROXY_STATUS) && !head.headers.contains_key(VARY));
        assert_eq!(body, "<p>from the backend</p>");
    }

    #[tokio::test]
    async fn error_response_to_head_has_content_length_and_no_body() {
        for (accept, text) in [
            (None, "Not Found\n"),
            (Some("application/json"), "{\"type\":\"about:blank\",\"title\":\"Not Found\",\"status\":404}\n"),
        ] {
            let (head, body) = answer(request("HEAD", "/.env", accept)).await;
            assert_eq!(head.headers[CONTENT_LENGTH], text.len().to_string());
            assert!(body.is_empty());
        }
        // A successful response keeps its body, which hyper removes.
        assert!(!answer(request("HEAD", "/", None)).await.1.is_empty());
    }

    #[tokio::test]
    async fn panic_in_call_or_future_causes_500() {
        fn service<F>(
            call: fn(Request<()>) -> F,
        ) -> impl Service<Request<()>, Response = Response<ResponseBody<Full<Bytes>>>, Error = BoxError>
        where
            F: Future<Output = Answer>,
        {
            ErrorResponseLayer::new().layer(service_fn(call))
        }
        async fn check(response: Response<ResponseBody<Full<Bytes>>>) {
            assert_eq!(response.status(), 500);
            assert_eq!(response.headers()[PROXY_STATUS], "rproxy; error=proxy_internal_error");
            assert_eq!(response.extensions().get(), Some(&ErrorReason::Panicked));
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "Internal Server Error\n");
        }

        let before = panics();
        let in_call = service(|_| -> std::future::Ready<Answer> { panic!("in the call") });
        check(in_call.oneshot(request("GET", "/", None)).await.unwrap()).await;
        let in_future = service(|_| async {
            tokio::task::yield_now().await;
            panic!("in the future")
        });
        check(in_future.oneshot(request("GET", "/", None)).await.unwrap()).await;
        assert!(panics() >= before + 2);
    }

    #[tokio::test]
    async fn panic_in_body_becomes_a_body_error() {
        struct Broken;
        impl Body for Broken {
            type Data = Bytes;
            type Error = BoxError;
            fn poll_frame(
                self: std::pin::Pin<&mut Self>,
                _: &mut Context<'_>,
            ) -> Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
                panic!("in the body")
            }
        }
        let service = ErrorResponseLayer::new()
            .layer(service_fn(async |_: Request<()>| Ok::<_, BoxError>(Response::new(Broken))));
        let mut body = service.oneshot(request("GET", "/", None)).await.unwrap().into_body();
        assert!(body.frame().await.unwrap().is_err());
        assert!(body.frame().await.is_none() && body.is_end_stream());
    }
}
