//! Tests of the layer inside `Router::nest`, which strips a prefix from the path.

use axum::Router;
use axum::body::Body;
use http::Request;
use rproxy_ws_passthrough::{Rejection, WsPassthroughLayer};
use tower::ServiceExt;

#[tokio::test]
async fn allowed_paths_match_the_original_path_inside_a_nested_router() {
    let layer = WsPassthroughLayer::new().paths("/v1/**".parse().unwrap());
    let inner = || Router::new().fallback(async || "own").layer(layer.clone());
    let app = Router::new().nest("/v1", inner()).nest("/v2", inner());
    for (path, cause) in [("/v1/socket", "upgrade_unavailable"), ("/v2/socket", "forbidden_path")] {
        let request = Request::get(path)
            .header("host", "example.org")
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .body(Body::empty())
            .unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.extensions().get().map(Rejection::cause), Some(cause), "{path}");
    }
}
