//! The layer in an axum router.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Request, StatusCode};
use rproxy_client_ip::{AddressList, ClientIpLayer, PeerAddr, TrustedProxies};
use rproxy_maintenance::{Maintenance, MaintenanceLayer, Rejection};
use tower::ServiceExt;

fn app(maintenance: &Maintenance, exempt: &str) -> Router {
    Router::new()
        .fallback(async || "hello")
        .layer(MaintenanceLayer::new(maintenance.clone()).exempt(AddressList::parse(exempt).unwrap()))
        .layer(ClientIpLayer::new("10.0.0.1".parse::<TrustedProxies>().unwrap()))
}

async fn send(app: &Router, peer: &str, forwarded_for: &str) -> http::Response<Body> {
    let request = Request::get("/").header("x-forwarded-for", forwarded_for);
    let request = request.extension(PeerAddr(format!("{peer}:1").parse().unwrap())).body(Body::empty()).unwrap();
    app.clone().oneshot(request).await.unwrap()
}

#[tokio::test]
async fn switch_applies_to_the_next_request() {
    let maintenance = Maintenance::new();
    let app = app(&maintenance, "");
    assert_eq!(send(&app, "192.0.2.1", "").await.status(), 200);

    maintenance.enable(Duration::from_secs(90));
    let response = send(&app, "192.0.2.1", "").await;
    assert_eq!(
        (response.status(), response.headers()["retry-after"].to_str().unwrap()),
        (StatusCode::SERVICE_UNAVAILABLE, "90")
    );
    let rejection = response.extensions().get::<Rejection>().unwrap();
    assert_eq!((rejection.layer(), rejection.reason()), ("maintenance", "maintenance"));
    let body = axum::body::to_bytes(response.into_body(), 1000).await.unwrap();
    assert_eq!(body, "Service Unavailable: in maintenance\n");

    maintenance.disable();
    assert_eq!(send(&app, "192.0.2.1", "").await.status(), 200);
}

#[tokio::test]
async fn exempt_clients_are_served_by_their_address_behind_trusted_proxies_only() {
    let maintenance = Maintenance::new();
    maintenance.enable(Duration::from_secs(90));
    let app = app(&maintenance, "192.0.2.0/24, 2001:db8::/32");
    for (peer, forwarded_for, status) in [
        ("192.0.2.1", "203.0.113.9", 200),
        ("10.0.0.1", "192.0.2.7", 200),
        ("10.0.0.1", "::ffff:192.0.2.7", 200),
        ("10.0.0.1", "2001:db8::1", 200),
        ("10.0.0.1", "203.0.113.9", 503),
        // A spoofed address of a client that is not a trusted proxy.
        ("203.0.113.9", "192.0.2.7", 503),
    ] {
        assert_eq!(send(&app, peer, forwarded_for).await.status(), status, "{peer} {forwarded_for}");
    }
}

#[tokio::test]
async fn request_without_client_address_is_not_exempt() {
    let maintenance = Maintenance::new();
    let layer = MaintenanceLayer::new(maintenance.clone()).exempt(AddressList::parse("all").unwrap());
    let app: Router = Router::new().fallback(async || "hello").layer(layer);
    assert_eq!(app.clone().oneshot(Request::new(Body::empty())).await.unwrap().status(), 200);
    maintenance.enable(Duration::ZERO);
    let response = app.oneshot(Request::new(Body::empty())).await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers()["retry-after"].to_str().unwrap()), (503, "1"));
}

#[tokio::test]
async fn request_in_flight_finishes() {
    let maintenance = Maintenance::new();
    let switch = maintenance.clone();
    let handler = async move || {
        switch.enable(Duration::from_secs(1));
        tokio::task::yield_now().await;
        "finished"
    };
    let app: Router = Router::new().fallback(handler).layer(MaintenanceLayer::new(maintenance));
    assert_eq!(app.clone().oneshot(Request::new(Body::empty())).await.unwrap().status(), 200);
    assert_eq!(app.oneshot(Request::new(Body::empty())).await.unwrap().status(), 503);
}
