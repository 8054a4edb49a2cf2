//! Tests of the layer inside `Router::nest`, which strips a prefix from the path.
#![cfg(feature = "axum")]
#![allow(clippy::unwrap_used)]

use axum::Router;
use axum::body::Body;
use http::{Request, StatusCode};
use rproxy_path_filter::{PathFilterLayer, PathRules};
use tower::ServiceExt;

#[tokio::test]
async fn checks_the_original_path_if_a_nested_router_strips_a_prefix() {
    let rules = PathRules::builder().block("/app/private/**").unwrap().allow("/app/private/ok").unwrap();
    let rules = rules.block("/public/**").unwrap().build().unwrap();
    let inner = Router::new().fallback(async || "served").layer(PathFilterLayer::new(rules));
    let app = Router::new().nest("/app", inner);
    for (path, status) in [
        ("/app/private/key", StatusCode::NOT_FOUND),
        ("/app/private/ok", StatusCode::OK),
        ("/app/public/page", StatusCode::OK),
    ] {
        let response = app.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), status, "{path}");
    }
}
