//! Tests of [`ForwardHeadersLayer`] in an axum router.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use rproxy_client_ip::PeerAddr;
use rproxy_forward_headers::{ForwardHeadersLayer, Rejection, RequestId};
use tower::ServiceExt;

#[tokio::test]
async fn sets_forwarding_fields_and_removes_hop_by_hop_fields() {
    let handler = get(async |headers: HeaderMap| {
        assert_eq!(headers["x-forwarded-for"], "192.0.2.1");
        assert!(!headers.contains_key("connection") && !headers.contains_key("x-hop"));
        ([("connection", "x-secret"), ("keep-alive", "timeout=5"), ("x-secret", "1"), ("x-public", "2")], "ok")
    });
    let app = Router::new().route("/", handler).layer(ForwardHeadersLayer::new());
    let peer: SocketAddr = "192.0.2.1:1".parse().unwrap();
    let request = Request::get("/").extension(PeerAddr(peer)).header("connection", "x-hop").header("x-hop", "1");
    let response = app.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    for name in ["connection", "keep-alive", "x-secret"] {
        assert!(!response.headers().contains_key(name), "{name}");
    }
    assert_eq!(response.headers()["x-public"], "2");
    assert_eq!(response.extensions().get::<RequestId>().unwrap().as_str().len(), 36);
}

#[tokio::test]
async fn rejects_request_in_a_proxy_loop_with_508() {
    let app = Router::new().route("/", get(async || "served")).layer(ForwardHeadersLayer::new().via("edge"));
    for (times, status) in [(2, StatusCode::OK), (7, StatusCode::OK), (8, StatusCode::LOOP_DETECTED)] {
        let request = Request::get("/").header("via", vec!["1.1 edge"; times].join(", "));
        let response = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), status, "{times}");
        let reason = response.extensions().get().map(Rejection::reason);
        assert_eq!(reason, (status == StatusCode::LOOP_DETECTED).then_some("loop"));
    }
}

#[tokio::test]
async fn responds_instead_of_forwarding_if_max_forwards_is_zero() {
    let handler = axum::routing::any(async |headers: HeaderMap| headers["max-forwards"].to_str().unwrap().to_owned());
    let app = Router::new().route("/", handler).layer(ForwardHeadersLayer::new());
    for (method, max_forwards, media_type, text) in [
        ("OPTIONS", "3", "text/plain; charset=utf-8", "2"),
        ("OPTIONS", "0", "text/plain; charset=utf-8", ""),
        ("TRACE", "0", "message/http", "TRACE / HTTP/1.1\r\nmax-forwards: 0\r\n\r\n"),
    ] {
        let request = Request::builder().method(method).header("max-forwards", max_forwards).header("cookie", "secret");
        let response = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.headers()["content-type"], media_type);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), text, "{method} {max_forwards}");
    }
}

#[tokio::test]
async fn sends_no_client_address_if_the_peer_address_is_missing() {
    let handler = get(async |headers: HeaderMap| {
        assert!(!headers.contains_key("x-forwarded-for") && !headers.contains_key("x-real-ip"));
    });
    let app = Router::new().route("/", handler).layer(ForwardHeadersLayer::new());
    let request = Request::get("/").header("x-forwarded-for", "6.6.6.6").body(Body::empty()).unwrap();
    assert_eq!(app.oneshot(request).await.unwrap().status(), 200);
}
