//! The layer in an axum router.
#![allow(clippy::unwrap_used)]

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request};
use rproxy_header_rules::HeaderRulesLayer;
use tower::ServiceExt;

#[tokio::test]
async fn handler_and_client_receive_changed_fields() {
    let environment = async |headers: HeaderMap| {
        ([("x-debug-time", "7")], headers["x-environment"].clone().to_str().unwrap().to_owned())
    };
    let layer = HeaderRulesLayer::builder()
        .request("X-Environment: production".parse().unwrap())
        .response("-X-Debug-*".parse().unwrap())
        .build()
        .unwrap();
    let app = Router::new().fallback(environment).layer(layer);
    let request = Request::get("/").header("x-environment", "spoofed").body(Body::empty()).unwrap();
    let response = app.oneshot(request).await.unwrap();
    assert!(!response.headers().contains_key("x-debug-time"));
    assert_eq!(axum::body::to_bytes(response.into_body(), 100).await.unwrap(), "production");
}
