//! Tests of WebSockets over HTTP/2 by extended CONNECT (RFC 8441), to HTTP/1.1 upstreams.

use std::net::SocketAddr;

use crate::proxy::{echo, field, proxy as serve, switching_protocols, upstream};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::ext::Protocol;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rproxy_ws_passthrough::WsPassthroughLayer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// Opens an HTTP/2 connection, and waits until the server has announced support for extended CONNECT.
async fn connect(proxy: SocketAddr) -> SendRequest<Empty<Bytes>> {
    let socket = TcpStream::connect(proxy).await.unwrap();
    let io = TokioIo::new(socket);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    // The layer itself responds with 501, once the server's settings have arrived.
    let probe = connect_to("connect-udp");
    while sender.send_request(probe.clone()).await.map_or(true, |response| response.status() != 501) {
        sender.ready().await.unwrap();
    }
    sender
}

fn connect_to(protocol: &'static str) -> Request<Empty<Bytes>> {
    let request = Request::connect("http://a.example/live").extension(Protocol::from_static(protocol));
    request.header("sec-websocket-version", "13").body(Empty::new()).unwrap()
}

async fn open(sender: &mut SendRequest<Empty<Bytes>>) -> Response<Incoming> {
    sender.send_request(connect_to("websocket")).await.unwrap()
}

#[tokio::test]
async fn relays_messages_of_several_streams_on_one_http2_connection() {
    let layer = WsPassthroughLayer::new();
    let tunnels = layer.tunnels();
    let mut sender = connect(serve(layer, echo().await).await).await;
    let mut sockets = Vec::new();
    for _ in 0..3 {
        let response = open(&mut sender).await;
        assert_eq!(response.status(), StatusCode::OK);
        for name in ["connection", "upgrade", "sec-websocket-accept"] {
            assert!(!response.headers().contains_key(name), "{name}");
        }
        let stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        sockets.push(WebSocketStream::from_raw_socket(stream, Role::Client, None).await);
    }
    assert_eq!(tunnels.open_count(), 3);
    for socket in &mut sockets {
        for message in [Message::text("hello"), Message::binary(vec![7; 1 << 20])] {
            socket.send(message.clone()).await.unwrap();
            assert!(socket.next().await.unwrap().unwrap() == message);
        }
    }
    tunnels.drain();
    for socket in &mut sockets {
        let Some(Ok(Message::Close(Some(close)))) = socket.next().await else { panic!("no Close") };
        assert_eq!(close.code, CloseCode::Away);
        while let Some(Ok(_)) = socket.next().await {}
    }
    tunnels.closed().await;
}

#[tokio::test]
async fn half_closed_stream_still_relays_the_other_direction() {
    let upstream = upstream(async |head, mut socket| {
        assert!(head.starts_with("GET /live HTTP/1.1\r\n"), "{head}");
        for (name, expected) in [("host", "a.example"), ("upgrade", "websocket"), ("sec-websocket-version", "13")] {
            assert_eq!(field(&head, name).as_deref(), Some(expected), "{name}");
        }
        let response = switching_protocols(&head).replace("\r\n\r\n", "\r\nSec-WebSocket-Protocol: chat\r\n\r\n");
        socket.write_all(response.as_bytes()).await.unwrap();
        let mut received = Vec::new();
        socket.read_to_end(&mut received).await.unwrap();
        received.reverse();
        socket.write_all(&received).await.unwrap();
    });
    let mut sender = connect(serve(WsPassthroughLayer::new(), upstream.await).await).await;
    let response = open(&mut sender).await;
    assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut received = String::new();
    stream.read_to_string(&mut received).await.unwrap();
    assert_eq!(received, "olleh");
}

#[tokio::test]
async fn forwards_a_rejection_by_the_upstream_and_responds_502_to_an_unexpected_2xx() {
    for (upstream_response, status, body) in [
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno\n", 403, "no\n"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n", 502, "Bad Gateway\n"),
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", 502, "Bad Gateway\n"),
    ] {
        let upstream = upstream(async |_, mut socket| {
            socket.write_all(upstream_response.as_bytes()).await.unwrap();
            let _ = socket.read_u8().await;
        });
        let mut sender = connect(serve(WsPassthroughLayer::new(), upstream.await).await).await;
        let response = open(&mut sender).await;
        assert_eq!(response.status(), status, "{upstream_response}");
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), body);
    }
}

#[tokio::test]
async fn rejects_extended_connect_on_other_paths_and_for_other_websocket_versions() {
    let layer = WsPassthroughLayer::new().paths("/elsewhere".parse().unwrap());
    let mut sender = connect(serve(layer, echo().await).await).await;
    assert_eq!(open(&mut sender).await.status(), StatusCode::FORBIDDEN);

    let mut sender = connect(serve(WsPassthroughLayer::new(), echo().await).await).await;
    let mut request = connect_to("websocket");
    request.headers_mut().insert("sec-websocket-version", "8".parse().unwrap());
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::UPGRADE_REQUIRED);
    assert_eq!(response.headers()["sec-websocket-version"], "13");
}
