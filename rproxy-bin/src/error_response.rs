//! Error responses that the proxy generates, in the format that the client prefers.
//!
//! `rproxy-problem` formats them, and catches panics. [`ErrorHooks`] adds the request ID to pages, and `Proxy-Status`.
//!
//! Only a page for the operator, on the machine of the proxy, names the cause and the setting that decides.

mod operator;

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{Extensions, HeaderValue, Request, Response};
use rproxy_client_ip::TrustedPeer;
use rproxy_core::{ProxyErrorType, Rejection};
use rproxy_forward_headers::RequestId;
use rproxy_problem::{PageTexts, ProblemHooks, ProblemLayer};
use rproxy_server::CloseConnection;
use rproxy_static_files::FileDecision;

use crate::rejections;

/// The layer that formats error responses and catches panics.
pub type ErrorResponseLayer = ProblemLayer<ErrorHooks>;

/// The parts of error responses that this proxy decides.
///
/// With [`ProblemLayer::discard_by_hooks`], requests for blocked paths get no response ([`CloseConnection`]). Requests from trusted
/// proxies still get one: a load balancer would count a closed connection as a failure of this proxy.
// A field here would add eight bytes to each copy of the service, of which idle sites have many.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ErrorHooks {}

/// The data of a request that its error response needs.
#[derive(Debug)]
pub struct ErrorRequest {
    /// The ID that a trusted proxy sent.
    request_id: Option<Box<RequestId>>,
    /// Whether error pages name the cause of the error, because the client is the operator.
    is_operator: bool,
    is_from_trusted_proxy: bool,
}

impl ProblemHooks for ErrorHooks {
    type Request = ErrorRequest;

    fn read_request<B>(&self, request: &Request<B>, prefers_format: bool) -> ErrorRequest {
        ErrorRequest {
            // Only an HTML page has these.
            request_id: if prefers_format { RequestId::of_request(request).map(Box::new) } else { None },
            is_operator: prefers_format && operator::is_operator(request),
            is_from_trusted_proxy: request.extensions().get::<TrustedPeer>().is_some(),
        }
    }

    /// Returns the texts of a page, whose request ID also appears in the access log.
    fn page_texts(
        &self,
        request: &ErrorRequest,
        rejection: Option<&Rejection>,
        extensions: &mut Extensions,
    ) -> PageTexts {
        let explanation = rejection.filter(|_| request.is_operator).and_then(rejections::explanation);
        let id = extensions.get().or(request.request_id.as_deref()).cloned().unwrap_or_else(RequestId::generate);
        let mut texts = PageTexts::default();
        texts.request_id = Some(id.as_str().to_owned());
        texts.note = explanation.map(|explanation| ("Only shown on this machine", explanation));
        extensions.insert(id);
        texts
    }

    fn replaces_error(&self, _: &ErrorRequest, extensions: &Extensions) -> bool {
        extensions.get::<BackendError>().is_some()
    }

    fn discards_response(&self, request: &ErrorRequest, rejection: &Rejection, extensions: &mut Extensions) -> bool {
        let is_discarded = !request.is_from_trusted_proxy && rejection.reason() == "blocked_path";
        if is_discarded {
            extensions.insert(CloseConnection);
        }
        is_discarded
    }

    fn proxy_name(&self) -> Option<&'static str> {
        Some("rproxy")
    }

    fn proxy_status(&self, error_type: ProxyErrorType) -> Option<HeaderValue> {
        PROXY_STATUS.get(error_type as usize).cloned()
    }

    fn panicked(message: &str) {
        PANICS.fetch_add(1, Ordering::Relaxed);
        // The panic hook has printed the location; this adds the panic to the log.
        tracing::error!(panic = message, "panic while serving a request");
    }
}

/// Response extension: an error response of the backend, not of a layer in front of it.
#[derive(Clone, Copy, Debug)]
struct BackendError;

/// Marks an error response of the backend, whose content a page may replace. Those of an authentication service, and fixed
/// responses, are not marked.
pub(crate) fn mark_backend_error<B>(mut response: Response<B>) -> Response<B> {
    // The status of a condition or a range of a file, which clients evaluate, is not an error of the backend.
    let is_of_file = response.extensions().get::<FileDecision>().is_some();
    if response.status().as_u16() >= 400 && !is_of_file {
        response.extensions_mut().insert(BackendError);
    }
    response
}

/// Returns the number of panics caught by this process.
pub(crate) fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

// One counter for the process, for the panics of all services.
static PANICS: AtomicU64 = AtomicU64::new(0);

/// The values of `Proxy-Status`, in the order of the error types.
static PROXY_STATUS: LazyLock<Box<[HeaderValue]>> = LazyLock::new(|| {
    let values = ProxyErrorType::ALL.iter().map(|error_type| format!("rproxy; error={}", error_type.as_str()));
    values.filter_map(|value| HeaderValue::try_from(value).ok()).collect()
});

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http::header::ACCEPT;
    use http::{HeaderValue, Response};
    use http_body_util::{BodyExt, Full};
    use rproxy_path_filter::{PathFilterLayer, PathRules};
    use rproxy_server::LoopbackClient;
    use tower::{BoxError, Layer, ServiceBuilder, ServiceExt, service_fn};

    const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";

    fn request(accept: &str) -> Request<()> {
        Request::get("/.env").header(ACCEPT, accept).body(()).unwrap()
    }

    /// Sends a request for a blocked path.
    async fn answer(request: Request<()>, closes: bool) -> (http::response::Parts, Bytes) {
        let service = ServiceBuilder::new()
            .layer(ErrorResponseLayer::with_hooks(ErrorHooks::default()).discard_by_hooks(closes))
            .layer(PathFilterLayer::new(PathRules::builder().block("/.env").unwrap().build().unwrap()))
            .service(service_fn(async |_: Request<()>| Ok::<_, BoxError>(Response::new(Full::<Bytes>::default()))));
        let (head, body) = service.oneshot(request).await.unwrap().into_parts();
        (head, body.collect().await.unwrap().to_bytes())
    }

    #[tokio::test]
    async fn response_has_proxy_status_and_a_generated_request_id() {
        let (head, body) = answer(request(BROWSER), false).await;
        assert_eq!(head.headers["proxy-status"], "rproxy; error=http_request_denied");
        let page = std::str::from_utf8(&body).unwrap();
        let id: &RequestId = head.extensions.get().unwrap();
        assert!(page.contains(id.as_str()) && page.contains("404"), "{page}");
        assert!(!page.contains(".env") && !page.contains("RPROXY"), "{page}");
        for (index, error_type) in ProxyErrorType::ALL.iter().enumerate() {
            assert_eq!(PROXY_STATUS[index], format!("rproxy; error={}", error_type.as_str()));
        }
    }

    #[tokio::test]
    async fn rejected_grpc_call_names_the_proxy() {
        let mut request = Request::post("/.env").body(()).unwrap();
        request.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        let (head, _) = answer(request, false).await;
        assert_eq!(head.headers["grpc-message"], "rproxy: 404 Not Found (blocked_path)");
        assert_eq!(head.headers["proxy-status"], "rproxy; error=http_request_denied");
    }

    #[tokio::test]
    async fn closes_the_connection_on_a_blocked_path_except_for_trusted_proxies() {
        for (closes, is_trusted, is_closed) in [(true, false, true), (true, true, false), (false, false, false)] {
            let mut request = request("*/*");
            if is_trusted {
                request.extensions_mut().insert(TrustedPeer::default());
            }
            let (head, body) = answer(request, closes).await;
            assert_eq!(head.extensions.get::<CloseConnection>().is_some(), is_closed, "{closes} {is_trusted}");
            assert_eq!(body.is_empty(), is_closed);
        }
    }

    #[tokio::test]
    async fn error_page_shows_request_id_of_trusted_proxies_only() {
        for (is_trusted, sent, is_shown) in [(true, "edge-7", true), (false, "edge-7", false), (true, "<b>", true)] {
            let mut request = request(BROWSER);
            request.headers_mut().insert("x-request-id", sent.parse().unwrap());
            if is_trusted {
                request.extensions_mut().insert(TrustedPeer::default());
            }
            let (_, body) = answer(request, false).await;
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
            let mut request = request(accept);
            request.headers_mut().insert("host", HeaderValue::from_static("localhost:8080"));
            if is_loopback {
                request.extensions_mut().insert(LoopbackClient);
            }
            let (_, body) = answer(request, false).await;
            let text = std::str::from_utf8(&body).unwrap();
            let names = ["/.env", "RPROXY_BLOCKED_PATHS"].map(|name| text.contains(name));
            assert_eq!(names, [is_named; 2], "{is_loopback} {accept} {text}");
        }
    }

    #[tokio::test]
    async fn counts_panics() {
        let before = panics();
        let service = ErrorResponseLayer::with_hooks(ErrorHooks::default()).layer(service_fn(
            |_: Request<()>| -> std::future::Ready<Result<Response<Full<Bytes>>, BoxError>> { panic!("in the call") },
        ));
        let response = service.oneshot(request("*/*")).await.unwrap();
        assert_eq!(response.status(), 500);
        assert_eq!(response.headers()["proxy-status"], "rproxy; error=proxy_internal_error");
        assert!(panics() > before);
    }
}
