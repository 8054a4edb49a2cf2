//! Tests of [`PathFilterLayer`] in an axum router.
#![allow(clippy::unwrap_used)]

use axum::Router;
use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use rproxy_path_filter::{PathFilterDecision, PathFilterLayer, PathRules, Rejection};
use tower::ServiceExt;

fn app(layer: PathFilterLayer) -> Router {
    Router::new().fallback(async || "served").layer(layer)
}

async fn get(app: Router, path: &str) -> axum::response::Response {
    app.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap()
}

#[tokio::test]
async fn rejects_blocked_path_with_404_and_names_the_rule_in_the_rejection() {
    let response = get(app(PathFilterLayer::new(PathRules::sensitive())), "/.git/config").await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
    let rejection = response.extensions().get::<Rejection>().unwrap();
    assert_eq!((rejection.layer(), rejection.reason()), ("path_filter", "blocked_path"));
    assert!(rejection.rule().unwrap().contains("git"), "{rejection}");
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "Not Found\n");
}

#[tokio::test]
async fn rejects_blocked_path_with_the_configured_status() {
    let response = get(app(PathFilterLayer::new(PathRules::sensitive()).status(StatusCode::GONE)), "/.env").await;
    assert_eq!(response.status(), StatusCode::GONE);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "Gone\n");
}

#[tokio::test]
async fn shadow_mode_forwards_blocked_paths_and_records_the_decision() {
    let response = get(app(PathFilterLayer::new(PathRules::sensitive()).shadow(true)), "/.env").await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(matches!(response.extensions().get(), Some(PathFilterDecision::WouldBlock { .. })));
}

#[tokio::test]
async fn forwards_allowed_path_without_recording_a_decision() {
    let response = get(app(PathFilterLayer::new(PathRules::sensitive())), "/index.html").await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.extensions().get::<PathFilterDecision>().is_none());
}

#[tokio::test]
async fn checks_the_path_before_and_after_a_rewrite() {
    let rewrite = |uri: &http::Uri| uri.path().strip_prefix("/app")?.parse().ok();
    for (path, rejected) in [
        ("/id_rsa", true),
        ("/app/id_rsa", true),
        ("/app/page", false),
        ("/app", false),
        ("/other/id_rsa", false),
        ("/app/.env", true),
    ] {
        let response = get(app(PathFilterLayer::new(PathRules::sensitive()).rewrite(rewrite)), path).await;
        assert_eq!(response.status() == StatusCode::NOT_FOUND, rejected, "{path}");
    }
}
