//! Tests of [`RateLimitLayer`] around an axum router.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::routing::get;
use http::{Request, StatusCode};
use rproxy_client_ip::{ClientIp, ClientIpLayer, PeerAddr, TrustedProxies};
use rproxy_rate_limit::clock::FakeRelativeClock;
use rproxy_rate_limit::{Quota, RateLimitLayer};
use tower::{ServiceBuilder, ServiceExt};

fn app() -> Router {
    let limit =
        RateLimitLayer::builder(Quota::per_second(1).burst(2)).clock(FakeRelativeClock::default()).build().unwrap();
    Router::new()
        .route("/", get(async || "served"))
        .layer(ServiceBuilder::new().layer(ClientIpLayer::new(TrustedProxies::none())).layer(limit))
}

#[tokio::test]
async fn limits_requests_to_an_axum_router_per_client() {
    let app = app();
    let get_status = async |peer: &str| {
        let request = Request::get("/").extension(PeerAddr(peer.parse().unwrap())).body(Body::empty()).unwrap();
        app.clone().oneshot(request).await.unwrap().status()
    };
    for _ in 0..2 {
        assert_eq!(get_status("192.0.2.1:1").await, StatusCode::OK);
    }
    assert_eq!(get_status("192.0.2.1:2").await, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(get_status("192.0.2.2:1").await, StatusCode::OK);
}

#[tokio::test]
async fn uses_the_client_ip_extension_of_other_middleware() {
    let limit = RateLimitLayer::builder(Quota::per_second(1)).clock(FakeRelativeClock::default()).build().unwrap();
    let app = Router::new().route("/", get(async || "served")).layer(limit).layer(axum::middleware::map_request(
        async |mut request: Request<Body>| {
            let ConnectInfo(peer) = *request.extensions().get::<ConnectInfo<SocketAddr>>().unwrap();
            request.extensions_mut().insert(ClientIp(peer.ip()));
            request
        },
    ));
    let get_status = async || {
        let peer = ConnectInfo(SocketAddr::from(([192, 0, 2, 1], 1)));
        let request = Request::get("/").extension(peer).body(Body::empty()).unwrap();
        app.clone().oneshot(request).await.unwrap().status()
    };
    assert_eq!(get_status().await, StatusCode::OK);
    assert_eq!(get_status().await, StatusCode::TOO_MANY_REQUESTS);
}
