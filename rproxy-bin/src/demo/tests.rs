//! Tests of the demo site over real connections.

use futures_util::{SinkExt, StreamExt};
use http::header::{CONTENT_LENGTH, ETAG, IF_NONE_MATCH};
use http_body_util::BodyExt;
use hyper::client::conn::http1 as client;
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;

use super::*;

async fn site() -> SocketAddr {
    let site = Site::bind().await.unwrap();
    let address = site.address();
    tokio::spawn(site.serve(ProxyState { metrics: Metrics::new(), certificates: None }));
    address
}

async fn send(address: SocketAddr, request: Request<Full<Bytes>>) -> Response<Incoming> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = client::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender.send_request(request).await.unwrap()
}

fn bare(method: &str, target: &str) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri(target).header("host", "demo.example");
    request.body(Full::default()).unwrap()
}

async fn content(response: Response<Incoming>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

#[tokio::test]
async fn each_demo_path_rejects_unsupported_methods() {
    let address = site().await;
    for (method, target, status, content_type) in [
        ("GET", "/", 200, "text/html; charset=utf-8"),
        ("GET", "/?utm=x", 200, "text/html; charset=utf-8"),
        ("HEAD", "/", 200, "text/html; charset=utf-8"),
        ("GET", "/static/demo.css", 200, "text/css; charset=utf-8"),
        ("GET", "/static/demo.js", 200, "text/javascript; charset=utf-8"),
        ("GET", "/static/icon.svg", 200, "image/svg+xml"),
        ("GET", "/static/now.txt", 200, "text/plain; charset=utf-8"),
        ("GET", "/static/now.txt?visit=1", 200, "text/plain; charset=utf-8"),
        ("GET", "/api/tls", 200, "application/json"),
        ("HEAD", "/events", 200, "text/event-stream"),
        ("HEAD", "/api/metrics", 200, "text/event-stream"),
        ("GET", "/slow?ms=0", 200, "text/plain; charset=utf-8"),
        ("GET", "/slow?ms=10001", 400, "text/plain; charset=utf-8"),
        ("GET", "/slow?ms=-1", 400, "text/plain; charset=utf-8"),
        ("GET", "/slow?s=1", 400, "text/plain; charset=utf-8"),
        ("GET", "/ws", 426, "text/plain; charset=utf-8"),
        ("POST", "/", 405, "text/plain; charset=utf-8"),
        ("DELETE", "/ws", 405, "text/plain; charset=utf-8"),
        ("POST", "/api/tls", 405, "text/plain; charset=utf-8"),
        ("POST", "/api/metrics", 405, "text/plain; charset=utf-8"),
        ("DELETE", "/api/echo", 200, "application/json"),
        ("GET", "/static/", 404, "text/plain; charset=utf-8"),
        ("POST", "/.env", 404, "text/plain; charset=utf-8"),
    ] {
        let response = send(address, bare(method, target)).await;
        assert_eq!(response.status().as_u16(), status, "{method} {target}");
        assert_eq!(response.headers()[CONTENT_TYPE], content_type, "{method} {target}");
    }
}

#[tokio::test]
async fn head_request_for_demo_page_returns_content_length() {
    let address = site().await;
    let page = include_str!("index.html");
    assert_eq!(content(send(address, bare("GET", "/")).await).await, page);
    let head = send(address, bare("HEAD", "/")).await;
    assert_eq!(head.headers()[CONTENT_LENGTH], page.len().to_string());
    assert!(content(head).await.is_empty());
}

#[tokio::test]
async fn demo_asset_is_fresh_for_a_minute_and_revalidates_with_304() {
    let address = site().await;
    for target in ["/static/demo.css", "/static/demo.js"] {
        let first = send(address, bare("GET", target)).await;
        assert_eq!(first.headers()[CACHE_CONTROL], "public, max-age=60");
        let etag = first.headers()[ETAG].clone();
        assert!(etag.as_bytes().starts_with(b"\""), "strong");

        let mut request = bare("GET", target);
        request.headers_mut().insert(IF_NONE_MATCH, etag.clone());
        let second = send(address, request).await;
        assert_eq!((second.status(), &second.headers()[ETAG]), (StatusCode::NOT_MODIFIED, &etag));
        assert_eq!(second.headers()[CACHE_CONTROL], "public, max-age=60");
        assert!(content(second).await.is_empty());

        let mut request = bare("GET", target);
        request.headers_mut().insert(IF_NONE_MATCH, HeaderValue::from_static("\"another\""));
        assert_eq!(send(address, request).await.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn sends_the_first_event_immediately() {
    let response = send(site().await, bare("GET", "/events")).await;
    assert_eq!(response.headers()[CONTENT_TYPE], "text/event-stream");
    let event = response.into_body().frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(event, "id: 1\ndata: {\"count\":1}\n\n");
}

#[tokio::test]
async fn sends_the_metrics_as_events() {
    let site = Site::bind().await.unwrap();
    let (address, metrics) = (site.address(), Metrics::new());
    tokio::spawn(site.serve(ProxyState { metrics: metrics.clone(), certificates: None }));
    let response = send(address, bare("GET", "/api/metrics")).await;
    let mut events = response.into_body();
    let totals = async |events: &mut Incoming| -> Value {
        let event = events.frame().await.unwrap().unwrap().into_data().unwrap();
        let event = std::str::from_utf8(&event).unwrap();
        serde_json::from_str(event.split_once("data: ").unwrap().1).unwrap()
    };
    let before = totals(&mut events).await;
    for key in ["requests", "in_flight", "body_bytes", "cache_hits", "rate_limited", "blocked_paths"] {
        assert_eq!(before[key], 0, "{key}");
    }
    metrics.count_request_for_tests();
    let after = totals(&mut events).await;
    assert_eq!((&after["requests"], &after["body_bytes"]), (&1.into(), &10.into()));
}

#[tokio::test]
async fn asset_for_the_cache_has_the_time() {
    let response = send(site().await, bare("GET", "/static/now.txt")).await;
    assert_eq!(response.headers()[CACHE_CONTROL], "public, max-age=60");
    let time = String::from_utf8(content(response).await.into()).unwrap();
    let time = httpdate::parse_http_date(time.trim().strip_prefix("backend time: ").unwrap()).unwrap();
    assert!(SystemTime::now().duration_since(time).unwrap() < Duration::from_secs(60));
}

#[tokio::test]
async fn shows_the_tls_session_that_the_proxy_adds() {
    let mut request = bare("GET", "/api/tls");
    for (name, value) in [("demo-tls-version", "TLSv1.3"), ("demo-tls-cipher-suite", "TLS13"), ("demo-tls-alpn", "h2")]
    {
        request.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    let session: Value = serde_json::from_slice(&content(send(site().await, request).await).await).unwrap();
    assert_eq!(
        session,
        serde_json::json!({
            "version": "TLSv1.3", "cipher_suite": "TLS13", "key_exchange": null, "alpn": "h2", "certificate": null
        })
    );
}

#[tokio::test]
async fn echo_returns_the_received_request() {
    let request = Request::post("/api/echo?a=%20b")
        .header("host", "demo.example")
        .header("x-forwarded-for", "192.0.2.1")
        .header("x-forwarded-for", "192.0.2.2")
        .header("x-bytes", HeaderValue::from_bytes(b"\xff").unwrap())
        .body(Full::new(Bytes::from_static(b"hello")))
        .unwrap();
    let response = send(site().await, request).await;
    assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
    let seen: Value = serde_json::from_slice(&content(response).await).unwrap();
    for (pointer, value) in [
        ("/method", "POST"),
        ("/target", "/api/echo?a=%20b"),
        ("/version", "HTTP/1.1"),
        ("/headers/host", "demo.example"),
        ("/headers/x-forwarded-for", "192.0.2.1, 192.0.2.2"),
        ("/headers/x-bytes", "\u{fffd}"),
        ("/body", "hello"),
    ] {
        assert_eq!(seen.pointer(pointer).unwrap(), value, "{pointer}");
    }
}

#[tokio::test]
async fn echo_rejects_large_body_with_413() {
    let mut request = bare("POST", "/api/echo");
    *request.body_mut() = Full::new(Bytes::from(vec![b'a'; (64 << 10) + 1]));
    assert_eq!(send(site().await, request).await.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn websocket_echoes_text_and_binary_messages_and_closes() {
    let address = site().await;
    let (mut socket, response) = tokio_tungstenite::connect_async(format!("ws://{address}/ws")).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    for message in [Message::text("hello"), Message::binary(vec![0; 100_000]), Message::text("")] {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message);
    }
    socket.send(Message::Ping(Bytes::from_static(b"p"))).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::Pong(Bytes::from_static(b"p")));
    socket.close(None).await.unwrap();
    assert!(socket.next().await.unwrap().unwrap().is_close());
    assert!(socket.next().await.is_none());
}
