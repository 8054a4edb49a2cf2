//! The layer around an axum router whose fallback is an upstream, and around a handler.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)]

mod proxy;

use axum::Router;
use axum::body::Body;
use axum::error_handling::HandleErrorLayer;
use axum::routing::get;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use proxy::{connect, echo};
use rproxy_upstream::Upstream;
use rproxy_ws_passthrough::{BadHandshake, Refusal, WsDecision, WsPassthroughLayer};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;
use tower::{Layer, ServiceExt, service_fn};

#[tokio::test]
async fn a_websocket_goes_through_to_the_upstream_behind_the_router() {
    let upstream: Upstream<Body> =
        Upstream::builder().backend(&format!("http://{}", echo().await)).unwrap().build().unwrap();
    let app = Router::new().route("/own", get("own")).fallback_service(upstream).layer(WsPassthroughLayer::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });

    let mut client = connect(address).await;
    client.send(Message::text("hello")).await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), Message::text("hello"));
    // A handler that does not switch answers as ever.
    let error = tokio_tungstenite::connect_async(format!("ws://{address}/own")).await.unwrap_err();
    assert!(error.to_string().contains("200"), "{error}");
}

#[tokio::test]
async fn an_inner_client_of_hyper_util_gets_the_fields_that_it_needs() {
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
async fn what_was_decided_is_in_the_response() {
    let switch = get(async || (StatusCode::SWITCHING_PROTOCOLS, [("upgrade", "websocket")]));
    let fields = get(async |headers: HeaderMap| format!("{:?}", headers.get("upgrade")));
    let app = Router::new().route("/switch", switch).route("/", fields).layer(WsPassthroughLayer::new());
    let refused = |why| Some(WsDecision::Refused(why));
    let ordinary = [("accept", "*/*")];
    let other = [("connection", "upgrade"), ("upgrade", "h2c")];
    let handshake = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    for (path, fields, status, decision) in [
        ("/", &ordinary[..], 200, None),
        ("/", &other, 200, Some(WsDecision::Ignored)),
        ("/", &handshake[..3], 400, refused(Refusal::BadHandshake(BadHandshake::Key))),
        ("/", &handshake[..2], 426, refused(Refusal::UnsupportedVersion)),
        // Not from a server that could let go of the connection.
        ("/", &handshake, 501, refused(Refusal::NoUpgrade)),
        ("/switch", &ordinary, 502, refused(Refusal::BadSwitch)),
        ("/switch", &other, 502, refused(Refusal::BadSwitch)),
    ] {
        let request = fields.iter().fold(Request::get(path), |request, (name, value)| request.header(*name, *value));
        let response = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!((response.status().as_u16(), response.extensions().get().copied()), (status, decision));
        match status {
            200 => assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "None"),
            _ => assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8"),
        }
    }
}
