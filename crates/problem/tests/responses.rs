//! The responses of the layer, seen from outside.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, RETRY_AFTER, VARY,
};
use http::{Extensions, HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use rproxy_problem::{PageTexts, ProblemHooks, ProblemLayer, Rejection, ResponseBody};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};

type Answer = Result<Response<Full<Bytes>>, BoxError>;

const PROXY_STATUS: &str = "proxy-status";

fn request(method: &str, path: &str, accept: Option<&str>) -> Request<()> {
    let mut request = Request::builder().method(method).uri(path).body(()).unwrap();
    if let Some(accept) = accept {
        request.headers_mut().insert(ACCEPT, accept.parse().unwrap());
    }
    request
}

/// A proxy that rejects some paths, in front of a backend without `/missing`.
async fn inner(request: Request<()>) -> Answer {
    let blocked = Rejection::new("filter", "blocked_path", StatusCode::NOT_FOUND);
    let rejection = match request.uri().path() {
        "/.env" => blocked,
        "/closed" => Rejection::new("office_hours", "closed", StatusCode::FORBIDDEN)
            .with_message("Open from 9 to 17, <not> \"before\".")
            .with_retry_after(Duration::from_millis(1500)),
        path => {
            let status = if path == "/missing" { 404 } else { 200 };
            let response = Response::builder().status(status).header(CONTENT_TYPE, "text/html");
            return Ok(response.body(Full::new(Bytes::from_static(b"<p>from the backend</p>")))?);
        }
    };
    let text = format!("{}\n", rejection.status().canonical_reason().unwrap());
    Ok(rejection.into_response(Full::from(text)))
}

/// Hooks of a proxy with the name `edge`.
#[derive(Clone)]
struct Edge;

impl ProblemHooks for Edge {
    type Request = String;

    fn read_request<B>(&self, request: &Request<B>, prefers_format: bool) -> String {
        if prefers_format { request.uri().path().to_owned() } else { String::new() }
    }

    fn page_texts(&self, path: &String, rejection: &Rejection, extensions: &mut Extensions) -> PageTexts {
        extensions.insert(7_u8);
        let mut texts = PageTexts::default();
        texts.request_id = Some(format!("id-of-{path}"));
        texts.note = Some(("For operators", rejection.to_string()));
        texts
    }

    fn discards_response(&self, path: &String, _: &Rejection, _: &mut Extensions) -> bool {
        path == "/closed"
    }

    fn proxy_name(&self) -> Option<&'static str> {
        Some("edge")
    }
}

async fn answer(request: Request<()>) -> (http::response::Parts, Bytes) {
    answer_with((), request).await
}

async fn answer_with<H: ProblemHooks + Clone>(hooks: H, request: Request<()>) -> (http::response::Parts, Bytes) {
    let service = ProblemLayer::with_hooks(hooks).layer(service_fn(inner));
    let (head, body) = service.oneshot(request).await.unwrap().into_parts();
    (head, body.collect().await.unwrap().to_bytes())
}

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";

#[tokio::test]
async fn rejected_grpc_call_gets_a_trailers_only_response() {
    let mut request = request("POST", "/.env", Some("application/json"));
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc+proto"));
    let (head, body) = answer(request).await;
    assert_eq!(head.status, 200);
    assert_eq!(head.headers[CONTENT_TYPE], "application/grpc");
    assert_eq!(head.headers["grpc-status"], "12");
    assert_eq!(head.headers["grpc-message"], "404 Not Found (blocked_path)");
    assert!(!head.headers.contains_key(CONTENT_LENGTH));
    assert!(body.is_empty());
    assert_eq!(head.extensions.get().map(Rejection::status), Some(StatusCode::NOT_FOUND));
}

#[tokio::test]
async fn grpc_error_of_the_backend_passes_unchanged() {
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
    assert_eq!(head.headers[VARY], "accept");
    let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(problem, serde_json::json!({"type": "about:blank", "title": "Not Found", "status": 404}));
}

#[tokio::test]
async fn sends_plain_text_by_default() {
    for accept in [None, Some("*/*"), Some("text/plain, text/html")] {
        let (head, body) = answer(request("GET", "/.env", accept)).await;
        assert_eq!(head.headers[CONTENT_TYPE], "text/plain; charset=utf-8");
        assert_eq!(body, "Not Found\n");
    }
}

#[tokio::test]
async fn sends_a_page_if_html_is_preferred() {
    let (head, body) = answer(request("GET", "/.env", Some(BROWSER))).await;
    assert_eq!((head.status.as_u16(), head.headers[CONTENT_TYPE].to_str().unwrap()), (404, "text/html; charset=utf-8"));
    let policy = head.headers[CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert_eq!(head.headers[VARY], "accept");
    assert_eq!(head.headers[CACHE_CONTROL], "no-store");
    assert!(!head.headers.contains_key(ETAG));
    let page = std::str::from_utf8(&body).unwrap();
    assert!(page.contains("<h1><span>404</span> Not Found</h1>") && !page.contains("Request ID"), "{page}");
    let (head, body) = answer(request("HEAD", "/.env", Some(BROWSER))).await;
    assert_eq!((&head.headers[CONTENT_LENGTH], body.len()), (&HeaderValue::from(page.len()), 0));
}

#[tokio::test]
async fn errors_of_the_backend_pass_unchanged() {
    let (head, body) = answer(request("GET", "/missing", Some("application/json"))).await;
    assert_eq!(head.headers[CONTENT_TYPE], "text/html");
    assert!(!head.headers.contains_key(PROXY_STATUS) && !head.headers.contains_key(VARY));
    assert_eq!(body, "<p>from the backend</p>");
}

#[tokio::test]
async fn head_response_has_content_length_and_no_body() {
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
async fn message_of_the_rejection_is_the_sentence_of_the_response() {
    let (head, body) = answer(request("GET", "/closed", Some("application/json"))).await;
    assert_eq!((head.status, &head.headers[RETRY_AFTER]), (StatusCode::FORBIDDEN, &HeaderValue::from_static("2")));
    let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(problem["detail"], "Open from 9 to 17, <not> \"before\".");
    let (_, body) = answer(request("GET", "/closed", Some(BROWSER))).await;
    let page = std::str::from_utf8(&body).unwrap();
    assert!(page.contains("<p>Open from 9 to 17, &lt;not&gt; &quot;before&quot;.</p>"), "{page}");
}

#[tokio::test]
async fn adds_retry_after_only_if_the_response_has_none() {
    let service = ProblemLayer::new().layer(service_fn(async |_: Request<()>| {
        let rejection = Rejection::new("limit", "busy", StatusCode::SERVICE_UNAVAILABLE);
        let mut response = rejection.with_retry_after(Duration::from_secs(9)).into_response(Full::<Bytes>::default());
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("30"));
        Ok::<_, BoxError>(response)
    }));
    let response = service.oneshot(request("GET", "/", None)).await.unwrap();
    assert_eq!(response.headers().get_all(RETRY_AFTER).iter().collect::<Vec<_>>(), ["30"]);
}

#[tokio::test]
async fn hooks_name_the_proxy_and_add_texts_to_the_page() {
    let (head, body) = answer_with(Edge, request("GET", "/.env", Some(BROWSER))).await;
    assert_eq!(head.headers[PROXY_STATUS], "edge; error=http_request_denied");
    assert_eq!(head.extensions.get(), Some(&7_u8));
    let page = std::str::from_utf8(&body).unwrap();
    assert!(page.contains("<code>id-of-/.env</code>"), "{page}");
    assert!(page.contains("<strong>For operators</strong> Rejected by filter with 404: blocked_path."), "{page}");

    let mut call = request("POST", "/.env", None);
    call.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let (head, _) = answer_with(Edge, call).await;
    assert_eq!(head.headers["grpc-message"], "edge: 404 Not Found (blocked_path)");
}

#[tokio::test]
async fn hooks_can_discard_the_response() {
    let (head, body) = answer_with(Edge, request("GET", "/closed", Some(BROWSER))).await;
    assert!(body.is_empty() && !head.headers.contains_key(VARY) && !head.headers.contains_key(PROXY_STATUS));
}

#[tokio::test]
async fn panic_in_call_or_future_becomes_500() {
    fn service<F>(
        call: fn(Request<()>) -> F,
    ) -> impl Service<Request<()>, Response = Response<ResponseBody<Full<Bytes>>>, Error = BoxError>
    where
        F: Future<Output = Answer>,
    {
        ProblemLayer::new().layer(service_fn(call))
    }
    async fn check(response: Response<ResponseBody<Full<Bytes>>>) {
        assert_eq!(response.status(), 500);
        assert_eq!(response.extensions().get().map(Rejection::reason), Some("panic"));
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "Internal Server Error\n");
    }

    let in_call = service(|_| -> std::future::Ready<Answer> { panic!("in the call") });
    check(in_call.oneshot(request("GET", "/", None)).await.unwrap()).await;
    let in_future = service(|_| async {
        tokio::task::yield_now().await;
        panic!("in the future")
    });
    check(in_future.oneshot(request("GET", "/", None)).await.unwrap()).await;
}

#[tokio::test]
async fn panic_in_body_becomes_a_body_error() {
    struct Broken;
    impl Body for Broken {
        type Data = Bytes;
        type Error = BoxError;
        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            panic!("in the body")
        }
    }
    let service =
        ProblemLayer::new().layer(service_fn(async |_: Request<()>| Ok::<_, BoxError>(Response::new(Broken))));
    let mut body = service.oneshot(request("GET", "/", None)).await.unwrap().into_body();
    assert!(body.frame().await.unwrap().is_err());
    assert!(body.frame().await.is_none() && body.is_end_stream());
}
