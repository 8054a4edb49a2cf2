//! The layers in an axum router.
#![allow(clippy::unwrap_used)]
#![cfg(all(feature = "basic-auth", feature = "forward-auth"))]

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::{Extension, Router};
use http::{HeaderMap, HeaderName, Request, StatusCode};
use http_body_util::{Empty, Full};
use rproxy_access::{
    AddressFilterLayer, AddressList, AddressRules, Authenticated, BasicAuthLayer, ForwardAuthConfig, ForwardAuthLayer,
    Rejection, Users,
};
use rproxy_client_ip::{ClientIp, ClientIpLayer, PeerAddr, TrustedProxies};
use tower::{BoxError, ServiceExt, service_fn};

#[tokio::test]
async fn address_filter_uses_the_client_behind_trusted_proxies_only() {
    let rules = AddressRules::new().allow(AddressList::parse("192.0.2.0/24").unwrap());
    let app = Router::new()
        .fallback(async || "hello")
        .layer(AddressFilterLayer::new(rules))
        .layer(ClientIpLayer::new("10.0.0.1".parse::<TrustedProxies>().unwrap()));
    for (peer, forwarded_for, status, cause) in [
        ("192.0.2.1:1", "203.0.113.9", 200, None),
        ("10.0.0.1:1", "192.0.2.7", 200, None),
        ("10.0.0.1:1", "203.0.113.9", 403, Some("unlisted_address")),
        // A spoofed address of a client that is not a trusted proxy.
        ("203.0.113.9:1", "192.0.2.7", 403, Some("unlisted_address")),
    ] {
        let request = Request::get("/").header("x-forwarded-for", forwarded_for);
        let request = request.extension(PeerAddr(peer.parse().unwrap())).body(Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), status, "{peer} {forwarded_for}");
        assert_eq!(response.extensions().get::<Rejection>().map(Rejection::cause), cause);
    }
}

#[tokio::test]
async fn address_filter_fails_closed_without_a_client_address() {
    let app = Router::new().fallback(async || "hello").layer(AddressFilterLayer::new(AddressRules::new()));
    let response = app.oneshot(Request::new(Body::empty())).await.unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let rejection = response.extensions().get::<Rejection>().unwrap();
    assert_eq!((rejection.reason(), rejection.cause()), ("access_denied", "unknown_address"));
}

/// The password `U*U`.
const HASH: &str = "$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";

fn with_client(request: http::request::Builder) -> Request<Body> {
    request.extension(ClientIp("192.0.2.1".parse().unwrap())).body(Body::empty()).unwrap()
}

async fn text(response: http::Response<Body>) -> String {
    String::from_utf8(axum::body::to_bytes(response.into_body(), 10_000).await.unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn basic_auth_tells_the_handler_the_user() {
    let users = Users::parse(&format!("alice:{HASH}\n")).unwrap();
    let user = async |Extension(authenticated): Extension<Authenticated>, headers: HeaderMap| {
        format!("{:?} {:?}", authenticated.user(), headers.get("authorization"))
    };
    let layer = BasicAuthLayer::builder(users).remove_credentials(true).build().unwrap();
    let app = Router::new().fallback(user).layer(layer);
    // The second request needs no verification.
    for _ in 0..2 {
        let request = with_client(Request::get("/").header("authorization", "Basic YWxpY2U6VSpV"));
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.extensions().get::<Authenticated>().and_then(Authenticated::user), Some("alice"));
        assert_eq!(text(response).await, "Some(\"alice\") None");
    }
    let response = app.clone().oneshot(with_client(Request::get("/"))).await.unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!(response.headers()["www-authenticate"], "Basic realm=\"Restricted\", charset=\"UTF-8\"");
    // Without an address, the failures of a client cannot be counted.
    let unknown = Request::get("/").header("authorization", "Basic YWxpY2U6VSpW").body(Body::empty()).unwrap();
    assert_eq!(app.oneshot(unknown).await.unwrap().status(), 500);
}

/// An authentication service in the same program.
async fn authenticate(request: Request<Empty<Bytes>>) -> Result<http::Response<Full<Bytes>>, BoxError> {
    let response = http::Response::builder();
    Ok(match request.headers().get("cookie").map(|cookie| cookie.as_bytes()) {
        Some(b"session=alice") => {
            response.header("remote-user", "alice").header("set-cookie", "a=1").body(Full::default())?
        }
        Some(b"session=slow") => std::future::pending().await,
        Some(b"session=broken") => return Err("connection reset".into()),
        _ => response.status(401).header("www-authenticate", "Bearer").body(Full::from("sign in"))?,
    })
}

#[tokio::test(start_paused = true)]
async fn forward_auth_works_with_any_client_service() {
    let config = ForwardAuthConfig::builder("http://auth.example/".parse().unwrap())
        .copy_field(HeaderName::from_static("remote-user"))
        .timeout(Duration::from_secs(3))
        .build()
        .unwrap();
    let user = async |headers: HeaderMap| format!("{:?}", headers.get("remote-user"));
    let app = Router::new().fallback(user).layer(ForwardAuthLayer::new(service_fn(authenticate), config));
    let send = async |cookie: &str| {
        let request =
            Request::get("/").header("cookie", cookie).header("remote-user", "root").header("remote_user", "root");
        app.clone().oneshot(with_client(request)).await.unwrap()
    };
    let admitted = send("session=alice").await;
    assert!(admitted.extensions().get::<Authenticated>().is_some());
    assert_eq!(admitted.headers()["set-cookie"], "a=1");
    assert_eq!(text(admitted).await, "Some(\"alice\")");

    let rejected = send("").await;
    assert_eq!(rejected.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(rejected.headers()["www-authenticate"], "Bearer");
    assert_eq!(text(rejected).await, "sign in");

    for (cookie, cause) in [("session=slow", "timeout"), ("session=broken", "unavailable")] {
        let start = tokio::time::Instant::now();
        let failed = send(cookie).await;
        assert_eq!(failed.status(), 503);
        let rejection = failed.extensions().get::<Rejection>().unwrap();
        assert_eq!((rejection.reason(), rejection.cause()), ("auth_service", cause));
        assert_eq!(start.elapsed().as_secs(), if cause == "timeout" { 3 } else { 0 });
    }
}
