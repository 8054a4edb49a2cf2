//! The layer in an axum router.
#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::routing::post;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt;
use rproxy_request_guard::{RejectedHead, Rejection, RequestGuardLayer};
use tower::ServiceExt;

fn app() -> Router {
    let handler = post(async |body: String| body);
    Router::new().route("/", handler).layer(RequestGuardLayer::new().max_body(Some(5)))
}

fn request(host: &str, body: &'static str) -> Request<Body> {
    Request::post("/").header("host", host).body(Body::from(body)).unwrap()
}

#[tokio::test]
async fn forwards_a_valid_request() {
    let response = app().oneshot(request("Example.org.:80", "hello")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
}

#[tokio::test]
async fn rejects_with_status_and_reason() {
    let streamed = Body::new(Parts(PARTS.iter()));
    let mut rejected = request("example.org", "");
    rejected.extensions_mut().insert(RejectedHead::TooLarge);
    for (request, status, reason) in [
        (request("a.example, b.example", ""), 400, "bad_host"),
        (request("example.org", "123456"), 413, "body_too_large"),
        (Request::post("/").header("host", "example.org").body(streamed).unwrap(), 413, "body_too_large"),
        (rejected, 431, "head_too_large"),
    ] {
        let response = app().oneshot(request).await.unwrap();
        let rejection = response.extensions().get::<Rejection>().unwrap();
        assert_eq!((response.status().as_u16(), rejection.reason()), (status, reason));
        assert_eq!((rejection.layer(), rejection.is_malformed_head()), ("request_guard", status != 413));
        assert_eq!(response.headers()["connection"], "close", "{reason}");
    }
}

const PARTS: &[&str] = &["123", "456"];

/// A body of unknown length.
struct Parts(std::slice::Iter<'static, &'static str>);

impl http_body::Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.next().map(|part| Ok(Frame::data(Bytes::from_static(part.as_bytes())))))
    }
}
