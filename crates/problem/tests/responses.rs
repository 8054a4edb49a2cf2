//! The responses of the layer, seen from outside.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, RETRY_AFTER, VARY,
};
use http::{Extensions, HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use rproxy_problem::{ErrorPages, PageTexts, ProblemHooks, ProblemLayer, Rejection, ResponseBody};
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

    fn page_texts(&self, path: &String, rejection: Option<&Rejection>, extensions: &mut Extensions) -> PageTexts {
        extensions.insert(7_u8);
        let mut texts = PageTexts::default();
        texts.request_id = Some(format!("id-of-{path}"));
        texts.note = rejection.map(|rejection| ("For operators", rejection.to_string()));
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
    let service = ProblemLayer::with_hooks(hooks).discard_by_hooks(true).layer(service_fn(inner));
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
async fn hooks_can_discard_the_response_if_the_layer_lets_them() {
    let (head, body) = answer_with(Edge, request("GET", "/closed", Some(BROWSER))).await;
    assert!(body.is_empty() && !head.headers.contains_key(VARY) && !head.headers.contains_key(PROXY_STATUS));
    let service = ProblemLayer::with_hooks(Edge).layer(service_fn(inner));
    let response = service.oneshot(request("GET", "/closed", None)).await.unwrap();
    assert!(!response.into_body().collect().await.unwrap().to_bytes().is_empty());
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

fn pages() -> ErrorPages {
    ErrorPages::new()
        .page("404.html", "<style>h1{color:red}</style><h1>::STATUS:: ::REASON::</h1> <i>::REQUEST_ID::</i>")
        .unwrap()
        .page("5xx.html", "<h1>Oops</h1>")
        .unwrap()
        .page("maintenance.html", "<h1>Back soon</h1>")
        .unwrap()
}

/// An application whose path is the status of its response.
async fn application(request: Request<()>) -> Answer {
    let response = Response::builder()
        .status(&request.uri().path()[1..])
        .header(CONTENT_TYPE, "text/plain")
        .header("content-encoding", "gzip")
        .header("content-disposition", "attachment")
        .header("content-range", "bytes */10")
        .header("last-modified", "Thu, 01 Jan 1970 00:00:00 GMT")
        .header(ETAG, "\"1\"")
        .header(CONTENT_SECURITY_POLICY, "default-src 'none'")
        .header(CACHE_CONTROL, "public, max-age=60")
        .header("expires", "Thu, 01 Jan 2099 00:00:00 GMT")
        .header("set-cookie", "a=1")
        .header("set-cookie", "b=2")
        .header("www-authenticate", "Basic")
        .header(RETRY_AFTER, "7");
    Ok(response.body(Full::from("from the application"))?)
}

async fn replaced(
    layer: ProblemLayer<impl ProblemHooks + Clone>,
    request: Request<()>,
) -> (http::response::Parts, Bytes) {
    let (head, body) = layer.layer(service_fn(application)).oneshot(request).await.unwrap().into_parts();
    (head, body.collect().await.unwrap().to_bytes())
}

fn replacing(statuses: &str) -> ProblemLayer {
    ProblemLayer::new().pages(pages()).replace_errors(statuses.parse().unwrap())
}

#[tokio::test]
async fn page_of_the_operator_replaces_the_built_in_page() {
    let layer = ProblemLayer::with_hooks(Edge).pages(pages());
    let send = async |request: Request<()>| {
        let (head, body) = layer.clone().layer(service_fn(inner)).oneshot(request).await.unwrap().into_parts();
        (head, body.collect().await.unwrap().to_bytes())
    };
    let (head, body) = send(request("GET", "/.env", Some(BROWSER))).await;
    let page = "<style>h1{color:red}</style><h1>404 Not Found</h1> <i>id-of-/.env</i>";
    assert_eq!((head.status.as_u16(), &*body), (404, page.as_bytes()));
    assert_eq!(head.headers[CONTENT_TYPE], "text/html; charset=utf-8");
    assert_eq!(
        (&head.headers[VARY], &head.headers[CACHE_CONTROL]),
        (&"accept".parse().unwrap(), &"no-store".parse().unwrap())
    );
    let policy = head.headers[CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.contains("style-src 'self' 'unsafe-inline'") && policy.contains("script-src 'none'"), "{policy}");
    assert_eq!(head.headers[PROXY_STATUS], "edge; error=http_request_denied");

    let (head, body) = send(request("HEAD", "/.env", Some(BROWSER))).await;
    assert_eq!((&head.headers[CONTENT_LENGTH], body.len()), (&HeaderValue::from(page.len()), 0));
    // Other formats stay.
    let (_, body) = send(request("GET", "/.env", Some("application/json"))).await;
    assert!(body.starts_with(b"{\"type\":"), "{body:?}");
    let (_, body) = send(request("GET", "/.env", None)).await;
    assert_eq!(body, "Not Found\n");
    // Errors of the application stay.
    let (head, body) = send(request("GET", "/missing", Some(BROWSER))).await;
    assert_eq!((head.headers.contains_key(VARY), &*body), (false, &b"<p>from the backend</p>"[..]));
}

#[tokio::test]
async fn status_without_a_page_keeps_the_built_in_page() {
    let layer = ProblemLayer::new().pages(ErrorPages::new().page("5xx.html", "oops").unwrap());
    let response = layer.layer(service_fn(inner)).oneshot(request("GET", "/.env", Some(BROWSER))).await.unwrap();
    let policy = response.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
    assert!(policy.contains("style-src 'sha256-"), "{policy}");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(body.starts_with(b"<!doctype html>"), "{body:?}");
}

#[tokio::test]
async fn maintenance_has_a_page_that_other_503_do_not_get() {
    for (reason, expected) in [("maintenance", "<h1>Back soon</h1>"), ("upstream", "<h1>Oops</h1>")] {
        let service = ProblemLayer::new().pages(pages()).layer(service_fn(async move |_: Request<()>| {
            let rejection = Rejection::new("test", reason, StatusCode::SERVICE_UNAVAILABLE);
            Ok::<_, BoxError>(rejection.into_response(Full::<Bytes>::default()))
        }));
        let response = service.oneshot(request("GET", "/", Some(BROWSER))).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), expected);
    }
}

#[tokio::test]
async fn page_replaces_listed_errors_of_the_application_and_keeps_other_fields() {
    let (head, body) = replaced(replacing("404, 5xx"), request("GET", "/404", Some(BROWSER))).await;
    assert_eq!(
        (head.status.as_u16(), &*body),
        (404, &b"<style>h1{color:red}</style><h1>404 Not Found</h1> <i></i>"[..])
    );
    assert_eq!(head.headers[CONTENT_TYPE], "text/html; charset=utf-8");
    assert_eq!(head.headers[CACHE_CONTROL], "no-store");
    assert_eq!(head.headers[VARY], "accept");
    assert!(head.headers[CONTENT_SECURITY_POLICY].to_str().unwrap().contains("'unsafe-inline'"));
    for name in
        ["content-encoding", "content-disposition", "content-range", "last-modified", "etag", "expires", PROXY_STATUS]
    {
        assert!(!head.headers.contains_key(name), "{name}");
    }
    assert_eq!(head.headers.get_all("set-cookie").iter().collect::<Vec<_>>(), ["a=1", "b=2"]);
    assert_eq!(
        (&head.headers["www-authenticate"], &head.headers[RETRY_AFTER]),
        (&"Basic".parse().unwrap(), &"7".parse().unwrap())
    );
    assert!(head.extensions.get::<Rejection>().is_none());

    let (head, body) = replaced(replacing("4xx, 502"), request("HEAD", "/502", Some(BROWSER))).await;
    assert_eq!((&head.headers[CONTENT_LENGTH], body.len()), (&HeaderValue::from_static("13"), 0));
}

#[tokio::test]
async fn application_errors_stay_for_other_statuses_clients_and_tunnels() {
    let with = |name: &'static str, value: &str, mut request: Request<()>| {
        request.headers_mut().insert(name, value.parse().unwrap());
        request
    };
    let browser = |path: &str| request("GET", path, Some(BROWSER));
    for (case, request, varies) in [
        ("status that is not listed", browser("/403"), false),
        ("status without a page", browser("/405"), false),
        ("success", browser("/200"), false),
        ("redirect", browser("/302"), false),
        ("JSON", request("GET", "/502", Some("application/json")), true),
        ("no preference", request("GET", "/502", None), true),
        ("any type", request("GET", "/502", Some("*/*")), true),
        ("long Accept", request("GET", "/502", Some(&("a/b,".repeat(10_000) + "text/html"))), true),
        ("HTML refused", request("GET", "/502", Some("text/html;q=0, */*")), true),
        ("gRPC", with("content-type", "application/grpc", request("POST", "/502", Some(BROWSER))), false),
        ("WebSocket", with("upgrade", "websocket", browser("/502")), false),
        ("WebSocket over HTTP/2", request("CONNECT", "/502", Some(BROWSER)), false),
    ] {
        let (head, body) = replaced(replacing("404-405, 5xx"), request).await;
        assert_eq!(body, "from the application", "{case}");
        assert_eq!(
            (&head.headers[ETAG], head.headers.contains_key(VARY)),
            (&"\"1\"".parse().unwrap(), varies),
            "{case}"
        );
    }
}

#[tokio::test]
async fn hooks_can_keep_an_error_of_the_application() {
    #[derive(Clone)]
    struct Keep;
    impl ProblemHooks for Keep {
        type Request = ();
        fn read_request<B>(&self, _: &Request<B>, _: bool) {}
        fn replaces_error(&self, (): &(), _: &Extensions) -> bool {
            false
        }
    }
    let layer = ProblemLayer::with_hooks(Keep).pages(pages()).replace_errors("4xx".parse().unwrap());
    assert_eq!(replaced(layer, request("GET", "/404", Some(BROWSER))).await.1, "from the application");
}

/// A body that counts its polls, and ends after `frames` frames of 1 KiB.
struct Counted {
    frames: usize,
    polls: Arc<AtomicUsize>,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = BoxError;
    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.polls.fetch_add(1, Ordering::Relaxed);
        let Some(left) = self.frames.checked_sub(1) else { return Poll::Ready(None) };
        self.frames = left;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; 1024])))))
    }
}

#[tokio::test]
async fn replaced_content_is_read_to_its_end_if_it_is_small() {
    for (frames, polls) in [(0, 1), (3, 4), (1_000_000, 64)] {
        let counter = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&counter);
        let service = replacing("502").layer(service_fn(move |_: Request<()>| {
            let body = Counted { frames, polls: Arc::clone(&counted) };
            std::future::ready(Response::builder().status(502).body(body))
        }));
        let response = service.oneshot(request("GET", "/", Some(BROWSER))).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "<h1>Oops</h1>");
        assert_eq!(counter.load(Ordering::Relaxed), polls, "{frames}");
    }
}
