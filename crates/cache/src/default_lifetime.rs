//! A layer that adds a lifetime to responses without caching fields.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{CACHE_CONTROL, EXPIRES, HeaderName, PRAGMA, SET_COOKIE, VARY};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use pin_project_lite::pin_project;
use rproxy_core::credentials::{has_credentials, is_credential};
use rproxy_core::{Authenticated, PublicContent};
use tower_layer::Layer;
use tower_service::Service;

use crate::paths::CachePaths;
use crate::policy::content_type;

/// A layer that adds `Cache-Control: max-age` to responses without caching fields, by path.
///
/// Place it inside of a [`CacheLayer`](crate::CacheLayer), which then stores these responses, or use it alone for the caches
/// of browsers. Both have the same lifetime, and `Age` tells a browser how much of it has passed.
///
/// Only a response that has no caching fields gets a lifetime:
///
/// - The request is GET or HEAD, without credentials such as `Cookie` or `Authorization`.
/// - The status is 200, 203, 301 or 308. An error must not outlive its cause.
/// - The response has none of `Cache-Control`, `Expires`, `Pragma`, `Set-Cookie` and the targeted fields of RFC 9213, and no
///   `Vary` with `*` or with a credential.
/// - The content type matches the file extension of the path. Single-page applications send their start page, with 200, in
///   place of a missing file.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use rproxy_cache::DefaultLifetimeLayer;
///
/// let layer = DefaultLifetimeLayer::new().paths("/static/**".parse()?, Duration::from_secs(86_400));
/// # let _ = layer;
/// # Ok::<(), rproxy_cache::CachePathsError>(())
/// ```
#[derive(Clone, Default)]
#[must_use]
pub struct DefaultLifetimeLayer {
    lifetimes: Arc<Vec<(CachePaths, HeaderValue)>>,
}

impl DefaultLifetimeLayer {
    /// Creates a layer that adds no lifetimes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a lifetime for paths, in whole seconds. The first entry that contains a path applies.
    pub fn paths(mut self, paths: CachePaths, lifetime: Duration) -> Self {
        let directive = format!("max-age={}", lifetime.as_secs());
        // Digits are valid in a field value.
        if let Ok(value) = HeaderValue::try_from(directive) {
            Arc::make_mut(&mut self.lifetimes).push((paths, value));
        }
        self
    }

    /// Returns whether the layer adds no lifetimes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lifetimes.is_empty()
    }
}

impl fmt::Debug for DefaultLifetimeLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DefaultLifetimeLayer").field("entries", &self.lifetimes.len()).finish()
    }
}

impl<S> Layer<S> for DefaultLifetimeLayer {
    type Service = DefaultLifetimeService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        DefaultLifetimeService { inner, lifetimes: Arc::clone(&self.lifetimes) }
    }
}

/// A service that adds lifetimes to responses, see [`DefaultLifetimeLayer`].
#[derive(Clone, Debug)]
pub struct DefaultLifetimeService<S> {
    inner: S,
    lifetimes: Arc<Vec<(CachePaths, HeaderValue)>>,
}

impl<S> DefaultLifetimeService<S> {
    /// Returns a reference to the inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns a mutable reference to the inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Returns the inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }

    /// Returns the entry for a request, whose response may get its lifetime.
    fn lifetime<B>(&self, request: &Request<B>) -> Option<Lifetime> {
        let path = request.uri().path();
        let is_safe = matches!(*request.method(), Method::GET | Method::HEAD);
        let (_, value) = self.lifetimes.iter().find(|(paths, _)| is_safe && paths.contains(path))?;
        // RFC 9111 §3.5: a shared cache in front must not store what only authenticated clients may see.
        let is_authenticated = request.extensions().get::<Authenticated>().is_some();
        let has_credentials = has_credentials(request.headers());
        (!is_authenticated).then(|| Lifetime { value: value.clone(), path: path.into(), has_credentials })
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for DefaultLifetimeService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = DefaultLifetimeFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        // Boxed: most requests have none.
        let lifetime = self.lifetime(&request).map(Box::new);
        DefaultLifetimeFuture { inner: self.inner.call(request), lifetime }
    }
}

/// The lifetime for the response to a request.
#[derive(Debug)]
struct Lifetime {
    value: HeaderValue,
    path: Box<str>,
    /// Whether the response may be specific to the client.
    has_credentials: bool,
}

impl Lifetime {
    fn add_to<B>(&self, response: &mut Response<B>) {
        if self.has_credentials && response.extensions().get::<PublicContent>().is_none() {
            return;
        }
        let headers = response.headers();
        let is_cacheable = matches!(
            response.status(),
            StatusCode::OK
                | StatusCode::NON_AUTHORITATIVE_INFORMATION
                | StatusCode::MOVED_PERMANENTLY
                | StatusCode::PERMANENT_REDIRECT
        );
        // A redirect has no content of the type that the extension names.
        let has_other_type =
            response.status().is_success() && content_type::matches_extension(&self.path, headers) == Some(false);
        if is_cacheable && !has_other_type && !has_caching_fields(headers) {
            // A full map does not grow; the response then has no lifetime.
            let _ = response.headers_mut().try_insert(CACHE_CONTROL, self.value.clone());
        }
    }
}

/// Whether the response has a field that controls caches, or can be specific to a client.
fn has_caching_fields(headers: &HeaderMap) -> bool {
    const RPROXY_CACHE_CONTROL: HeaderName = HeaderName::from_static("rproxy-cache-control");
    const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");
    let fields = [CACHE_CONTROL, EXPIRES, PRAGMA, SET_COOKIE, RPROXY_CACHE_CONTROL, CDN_CACHE_CONTROL];
    let varies_by_client = |value: &HeaderValue| {
        let is_of_client = |name: &[u8]| {
            let name = name.trim_ascii();
            // An invalid name could be anything.
            !name.is_empty() && HeaderName::from_bytes(name).map_or(true, |name| name == "*" || is_credential(&name))
        };
        value.as_bytes().split(|&byte| byte == b',').any(is_of_client)
    };
    fields.iter().any(|name| headers.contains_key(name)) || headers.get_all(VARY).iter().any(varies_by_client)
}

pin_project! {
    /// The response future of [`DefaultLifetimeService`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct DefaultLifetimeFuture<F> {
        #[pin]
        inner: F,
        lifetime: Option<Box<Lifetime>>,
    }
}

impl<F, B, E> Future for DefaultLifetimeFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut polled = this.inner.poll(cx);
        if let (Poll::Ready(Ok(response)), Some(lifetime)) = (&mut polled, this.lifetime) {
            lifetime.add_to(response);
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use tower::{ServiceExt, service_fn};

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap()))
            .collect()
    }

    /// Returns `Cache-Control` of the response to a request.
    async fn cache_control(request: Request<()>, status: u16, fields: &[(&str, &str)]) -> Option<String> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        *response.headers_mut() = map(fields);
        let inner = service_fn(move |_: Request<()>| {
            let response = response.clone();
            async { Ok::<_, Infallible>(response) }
        });
        let layer = DefaultLifetimeLayer::new()
            .paths("/static/long/**".parse().unwrap(), Duration::from_secs(3600))
            .paths("/static/**".parse().unwrap(), Duration::from_secs(60));
        let response = layer.layer(inner).oneshot(request).await.unwrap();
        response.headers().get(CACHE_CONTROL).map(|value| value.to_str().unwrap().to_owned())
    }

    async fn of_path(path: &str, status: u16, fields: &[(&str, &str)]) -> Option<String> {
        cache_control(Request::get(path).body(()).unwrap(), status, fields).await
    }

    #[tokio::test]
    async fn adds_the_first_matching_lifetime_to_responses_without_caching_fields() {
        for (path, expected) in [
            ("/static/x", Some("max-age=60")),
            ("/static/long/x", Some("max-age=3600")),
            ("/other", None),
            ("/static/%2e%2e/other", None),
        ] {
            assert_eq!(of_path(path, 200, &[]).await.as_deref(), expected, "{path}");
        }
        for status in [200, 203, 301, 308] {
            assert!(
                of_path("/static/x", status, &[("etag", "\"1\""), ("vary", "accept-encoding")]).await.is_some(),
                "{status}"
            );
        }
        for status in [101, 204, 206, 302, 304, 400, 404, 410, 500, 503] {
            assert_eq!(of_path("/static/x", status, &[]).await, None, "{status}");
        }
    }

    #[tokio::test]
    async fn adds_no_lifetime_to_responses_that_control_caches_or_belong_to_a_client() {
        for field in [
            ("cache-control", "private"),
            ("cache-control", "no-store"),
            ("cache-control", ""),
            ("expires", "0"),
            ("pragma", "no-cache"),
            ("set-cookie", "a=b"),
            ("cdn-cache-control", "max-age=1"),
            ("rproxy-cache-control", "no-store"),
            ("vary", "*"),
            ("vary", "accept-encoding, Cookie"),
            ("vary", "authorization"),
            ("vary", "a b"),
        ] {
            let before = (field.0 == "cache-control").then(|| field.1.to_owned());
            assert_eq!(of_path("/static/x", 200, &[field]).await, before, "{field:?}");
        }
    }

    #[tokio::test]
    async fn adds_no_lifetime_for_credentials_unsafe_methods_and_other_content_types() {
        for (name, value) in [("cookie", "a=b"), ("authorization", "Basic eA=="), ("x-api-key", "k")] {
            let request = Request::get("/static/x").header(name, value).body(()).unwrap();
            assert_eq!(cache_control(request, 200, &[]).await, None, "{name}");
        }
        let request = Request::get("/static/x").extension(Authenticated::new()).body(()).unwrap();
        assert_eq!(cache_control(request, 200, &[]).await, None);
        for (method, expected) in [(Method::HEAD, true), (Method::POST, false), (Method::OPTIONS, false)] {
            let request = Request::builder().method(&method).uri("/static/x").body(()).unwrap();
            assert_eq!(cache_control(request, 200, &[]).await.is_some(), expected, "{method}");
        }
        for (content_type, status, expected) in
            [("text/css", 200, true), ("text/html", 200, false), ("text/html", 301, true)]
        {
            let fields = [("content-type", content_type)];
            assert_eq!(of_path("/static/a.css", status, &fields).await.is_some(), expected, "{content_type} {status}");
        }
    }
}
