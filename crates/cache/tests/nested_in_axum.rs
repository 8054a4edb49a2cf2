//! Tests of the cache layer below `Router::nest`, which removes a prefix from the path.
#![cfg(feature = "axum")]
#![allow(clippy::unwrap_used)]

use axum::Router;
use axum::body::Body;
use axum::http::header::CACHE_CONTROL;
use axum::http::{Request, StatusCode};
use axum::routing::{get, post};
use http_body_util::BodyExt;
use rproxy_cache::{CacheLayer, CacheStore, Purge};
use tower::ServiceExt;

fn api(version: &'static str, store: &CacheStore, paths: &str) -> Router {
    Router::new()
        .route("/items", get(async move || ([(CACHE_CONTROL, "max-age=60")], version)).merge(post(async || "changed")))
        .layer(CacheLayer::new(store.clone()).paths(paths.parse().unwrap()))
}

fn app(store: &CacheStore, paths: &str) -> Router {
    let inner = Router::new().nest("/b", api("deep", store, paths));
    Router::new().nest("/v1", api("one", store, paths)).nest("/v2", api("two", store, paths)).nest("/a", inner)
}

/// Returns the body and the `Cache-Status` field of a response.
async fn send(app: &Router, method: &str, uri: &str) -> (String, String) {
    let request = Request::builder().method(method).uri(uri).header("host", "example.org").body(Body::empty()).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let status = response.headers().get("cache-status").map(|value| value.to_str().unwrap().to_owned());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (String::from_utf8(body.to_vec()).unwrap(), status.unwrap_or_default())
}

#[tokio::test]
async fn path_prefix_that_axum_removed_is_part_of_the_cache_key() {
    let store = CacheStore::in_memory(1 << 20);
    let app = app(&store, "/**");
    for _ in 0..2 {
        for (uri, body) in [("/v1/items", "one"), ("/v2/items", "two"), ("/a/b/items", "deep")] {
            assert_eq!(send(&app, "GET", uri).await.0, body, "{uri}");
        }
    }
    assert_eq!((store.stats().hits, store.stats().entries), (3, 3));
}

#[tokio::test]
async fn purge_and_unsafe_methods_use_the_original_request_target() {
    let store = CacheStore::in_memory(1 << 20);
    let app = app(&store, "/**");
    for uri in ["/v1/items", "/v2/items"] {
        send(&app, "GET", uri).await;
    }
    assert_eq!(store.purge(&Purge::url("//example.org/v1/items").unwrap()), 1);
    assert!(send(&app, "GET", "/v2/items").await.1.contains("hit"));
    send(&app, "POST", "/v2/items").await;
    assert!(send(&app, "GET", "/v2/items").await.1.contains("fwd=uri-miss"));
}

#[tokio::test]
async fn path_globs_match_the_original_path() {
    let store = CacheStore::in_memory(1 << 20);
    let app = app(&store, "/v1/**");
    assert!(send(&app, "GET", "/v1/items").await.1.contains("stored"));
    assert_eq!(send(&app, "GET", "/v2/items").await.1, "");
}
