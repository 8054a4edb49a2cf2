//! Tests of [`CompressionLayer`] in an axum router.
#![allow(clippy::unwrap_used)]

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use rproxy_compression::CompressionLayer;
use tower::ServiceExt;

/// Returns an axum router that serves a document, and responds to PUT with the received `If-Match`.
fn app() -> Router {
    let document = get(async || ([("etag", "\"v1\"")], "compress me ".repeat(100)))
        .put(async |headers: HeaderMap| headers["if-match"].to_str().unwrap().to_owned());
    Router::new().route("/", document).layer(CompressionLayer::new())
}

#[tokio::test]
async fn if_match_reaches_handlers_with_the_entity_tag_that_they_sent() {
    let request = Request::get("/").header("accept-encoding", "gzip, br").body(Body::empty()).unwrap();
    let response = app().oneshot(request).await.unwrap();
    assert_eq!((response.status(), &response.headers()["content-encoding"]), (StatusCode::OK, &"br".parse().unwrap()));
    let etag = response.headers()["etag"].clone();
    assert_eq!(etag, "\"v1-br\"");
    assert!(response.into_body().collect().await.unwrap().to_bytes().len() < 100);

    let request = Request::put("/").header("if-match", etag).body(Body::empty()).unwrap();
    let body = app().oneshot(request).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(body.to_bytes(), "\"v1\"");
}

#[tokio::test]
async fn response_to_head_has_the_header_fields_of_get_in_axum() {
    let mut heads = Vec::new();
    for method in ["GET", "HEAD"] {
        let request = Request::builder().method(method).uri("/").header("accept-encoding", "gzip");
        let response = app().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        heads.push(response.headers().clone());
    }
    assert_eq!(heads[0], heads[1]);
}
