//! Tests of the layer inside `Router::nest`, which strips a prefix from the path.
#![cfg(feature = "axum")]
#![allow(clippy::unwrap_used)]

use axum::Router;
use axum::body::Body;
use http::request::Parts;
use http::{Request, StatusCode};
use rproxy_rate_limit::{Quota, RateLimitLayer, original_uri};
use tower::ServiceExt;

#[tokio::test]
async fn exempt_function_receives_the_original_path_in_a_nested_router() {
    let layer = RateLimitLayer::builder(Quota::per_second(1).burst(1))
        .key(|_: &Parts| Some("all clients"))
        .exempt(|head| original_uri(head).path() == "/v1/health")
        .build()
        .unwrap();
    let inner = Router::new().fallback(async || "served").layer(layer);
    let app = Router::new().nest("/v1", inner.clone()).nest("/v2", inner);
    for (path, status) in [
        ("/v2/health", StatusCode::OK),
        ("/v2/health", StatusCode::TOO_MANY_REQUESTS),
        ("/v1/health", StatusCode::OK),
        ("/v1/health", StatusCode::OK),
    ] {
        let response = app.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), status, "{path}");
    }
}
