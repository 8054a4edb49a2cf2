//! Tests of [`ClientIpLayer`] in an axum router.
#![cfg(feature = "axum")]
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;

use axum::Extension;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::routing::get;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use rproxy_client_ip::{ClientIp, ClientIpLayer, PeerAddr};
use tower::ServiceExt;

fn app() -> axum::Router {
    let whoami = get(async |ClientIp(ip): ClientIp| ip.to_string());
    let peer = get(async |Extension(PeerAddr(peer)): Extension<PeerAddr>| peer.to_string());
    axum::Router::new().route("/", whoami).route("/peer", peer).layer(ClientIpLayer::new("10.0.0.0/8".parse().unwrap()))
}

async fn text(response: axum::response::Response) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().into()).unwrap()
}

#[tokio::test]
async fn reads_the_peer_address_from_connect_info() {
    let request = Request::get("/")
        .extension(ConnectInfo::<SocketAddr>("10.0.0.1:1".parse().unwrap()))
        .header("x-forwarded-for", "192.0.2.1");
    let response = app().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(text(response).await, "192.0.2.1");
}

#[tokio::test]
async fn inserts_peer_addr_from_connect_info_for_inner_layers() {
    let request = Request::get("/peer").extension(ConnectInfo::<SocketAddr>("10.0.0.1:1".parse().unwrap()));
    assert_eq!(text(app().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()).await, "10.0.0.1:1");
}

#[tokio::test]
async fn missing_peer_address_causes_500_with_advice_in_the_body() {
    let response = app().oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(text(response).await.contains("into_make_service_with_connect_info"));
}

#[tokio::test]
async fn extractor_without_the_layer_causes_500_with_the_layer_name_in_the_body() {
    let without_layer = axum::Router::new().route("/", get(async |ClientIp(ip): ClientIp| ip.to_string()));
    let response = without_layer.oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(text(response).await.contains("ClientIpLayer"));
}
