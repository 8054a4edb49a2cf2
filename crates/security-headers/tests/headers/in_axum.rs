//! Tests of [`SecurityHeadersLayer`] in an axum router.

use axum::body::Body;
use axum::response::Html;
use axum::routing::get;
use axum::{Extension, Router};
use http::uri::Scheme;
use http::{Request, header};
use http_body_util::BodyExt;
use rproxy_security_headers::SecurityHeadersLayer;
use tower::ServiceExt;

#[tokio::test]
async fn adds_security_headers_to_pages_and_keeps_headers_of_the_handler() {
    let page = get(async || ([(header::SERVER, "axum"), (header::REFERRER_POLICY, "origin")], Html("<p>hello")));
    let app = Router::new()
        .route("/", page)
        .route("/data", get(async || "hello"))
        .layer(SecurityHeadersLayer::recommended().content_security_policy("default-src 'self'"))
        .layer(Extension(Scheme::HTTPS));

    let request = Request::get("/").body(Body::empty()).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    for (name, value) in [
        ("content-security-policy", "default-src 'self'"),
        ("referrer-policy", "origin"),
        ("strict-transport-security", "max-age=31536000"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "SAMEORIGIN"),
    ] {
        assert_eq!(response.headers()[name], value, "{name}");
    }
    assert!(!response.headers().contains_key(header::SERVER));
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "<p>hello");

    let request = Request::get("/data").body(Body::empty()).unwrap();
    let response = app.oneshot(request).await.unwrap();
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    assert!(!response.headers().contains_key("content-security-policy"));
    assert!(!response.headers().contains_key("x-frame-options"));
}

#[tokio::test]
async fn adds_security_headers_to_404_responses_of_the_router() {
    let app = Router::<()>::new().layer(SecurityHeadersLayer::recommended());
    let response = app.oneshot(Request::get("/nowhere").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 404);
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
}
