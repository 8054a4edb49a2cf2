//! The layers in an axum router.
#![allow(clippy::unwrap_used)]

use axum::Router;
use axum::body::Body;
use http::{Request, StatusCode};
use rproxy_access::{AddressFilterLayer, AddressList, AddressRules, Rejection};
use rproxy_client_ip::{ClientIpLayer, PeerAddr, TrustedProxies};
use tower::ServiceExt;

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
