//! The layer around an axum router.
#![allow(clippy::unwrap_used)]

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Path;
use axum::routing::get;
use http::{Method, Request, Uri};
use rproxy_target_rules::{TargetDecision, TargetRulesLayer, TrailingSlash};
use tower::{Layer, ServiceExt};

fn layer() -> TargetRulesLayer {
    TargetRulesLayer::builder()
        .canonical_host("example.org")
        .redirect("/old/** -> /new/{path} permanent".parse().unwrap())
        .respond("/health -> 200 text/plain ok\\n".parse().unwrap())
        .trailing_slash(TrailingSlash::Remove)
        .rewrite("/u/{name} -> /users/{name}".parse().unwrap())
        .build()
        .unwrap()
}

#[tokio::test]
async fn router_receives_rewritten_paths_and_clients_receive_redirects() {
    let routes =
        Router::new().route("/users/{name}", get(async |Path(name): Path<String>, uri: Uri| format!("{name} {uri}")));
    let app = layer().layer(routes);
    for (method, host, target, status, location, body) in [
        (Method::GET, "example.org", "/u/ann?x=1", 200, None, "ann /users/ann?x=1"),
        (
            Method::GET,
            "www.example.org",
            "/u/ann?x=1",
            301,
            Some("http://example.org/u/ann?x=1"),
            "Moved Permanently\n",
        ),
        (Method::POST, "www.example.org", "/u/ann", 308, Some("http://example.org/u/ann"), "Permanent Redirect\n"),
        (Method::GET, "example.org", "/old/a?b", 301, Some("/new/a?b"), "Moved Permanently\n"),
        (Method::HEAD, "example.org", "/old/a", 301, Some("/new/a"), ""),
        (Method::GET, "example.org", "/health", 200, None, "ok\n"),
        (Method::POST, "example.org", "/health", 405, None, "Method Not Allowed\n"),
        (Method::GET, "example.org", "/users/ann/?b", 301, Some("/users/ann?b"), "Moved Permanently\n"),
        (Method::POST, "example.org", "/users/ann/", 404, None, ""),
    ] {
        let request = Request::builder().method(&method).uri(target).header("host", host).body(Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), status, "{method} {host} {target}");
        assert_eq!(response.headers().get("location").map(|location| location.to_str().unwrap()), location, "{target}");
        let is_own = response.extensions().get::<TargetDecision>().is_some();
        assert_eq!(is_own, status != 200 && status != 404 || target == "/health", "{target}");
        assert_eq!(to_bytes(Body::new(response.into_body()), 1000).await.unwrap(), body, "{method} {host} {target}");
    }
}
