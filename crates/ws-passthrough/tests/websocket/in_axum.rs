//! Tests of the layer in an axum router, in front of an upstream and of handlers.

use crate::proxy::{connect, echo};
use axum::Router;
use axum::body::Body;
use axum::error_handling::HandleErrorLayer;
use axum::routing::get;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use rproxy_upstream::Upstream;
use rproxy_ws_passthrough::{Rejection, WsDecision, WsPassthroughLayer};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;
use tower::{Layer, ServiceExt, service_fn};

#[tokio::test]
async fn forwards_websockets_to_an_upstream_that_is_the_router_fallback() {
    let upstream: Upstream<Body> =
        Upstream::builder().backend(&format!("http://{}", echo().await)).unwrap().build().unwrap();
    let app = Router::new().route("/own", get("own")).fallback_service(upstream).layer(WsPassthroughLayer::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });

    let mut client = connect(address).await;
    client.send(Message::text("hello")).await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), Message::text("hello"));
    // A handler responds to a handshake with 200.
    let error = tokio_tungstenite::connect_async(format!("ws://{address}/own")).await.unwrap_err();
    assert!(error.to_string().contains("200"), "{error}");
}

#[tokio::test]
async fn forwards_websockets_through_a_hyper_util_client_with_keep_upgrade_fields() {
    let upstream = echo().await;
    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    let forward = service_fn(move |mut request: Request<Body>| {
        *request.uri_mut() = format!("http://{upstream}{}", request.uri().path()).parse().unwrap();
        client.request(request)
    });
    let forward = HandleErrorLayer::new(async |_| StatusCode::BAD_GATEWAY).layer(forward);
    let app = Router::new().fallback_service(forward).layer(WsPassthroughLayer::new().keep_upgrade_fields(true));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });

    let mut client = connect(address).await;
    client.send(Message::text("hello")).await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), Message::text("hello"));
}

#[tokio::test]
async fn response_extensions_contain_the_decision_or_the_rejection() {
    let switch = get(async || (StatusCode::SWITCHING_PROTOCOLS, [("upgrade", "websocket")]));
    let fields = get(async |headers: HeaderMap| format!("{:?}", headers.get("upgrade")));
    let app = Router::new().route("/switch", switch).route("/", fields).layer(WsPassthroughLayer::new());
    let ordinary = [("accept", "*/*")];
    let other = [("connection", "upgrade"), ("upgrade", "h2c")];
    let handshake = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    for (path, fields, status, decision, cause) in [
        ("/", &ordinary[..], 200, None, None),
        ("/", &other, 200, Some(WsDecision::Ignored), None),
        ("/", &handshake[..3], 400, None, Some("bad_key")),
        ("/", &handshake[..2], 426, None, Some("unsupported_version")),
        // `oneshot` provides no `OnUpgrade`.
        ("/", &handshake, 501, None, Some("upgrade_unavailable")),
        ("/switch", &ordinary, 502, None, Some("invalid_switch")),
        ("/switch", &other, 502, None, Some("invalid_switch")),
    ] {
        let request = fields.iter().fold(Request::get(path), |request, (name, value)| request.header(*name, *value));
        let response = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!((response.status().as_u16(), response.extensions().get().copied()), (status, decision));
        assert_eq!(response.extensions().get().map(Rejection::cause), cause);
        match status {
            200 => assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "None"),
            _ => assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8"),
        }
    }
}
