//! WebSockets by HTTP/2 extended CONNECT (RFC 8441), to upstreams that know nothing of it.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)]

mod proxy;

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::ext::Protocol;
use hyper_util::rt::{TokioExecutor, TokioIo};
use proxy::{echo, field, proxy as serve, switching, upstream};
use rproxy_ws_passthrough::WsPassthroughLayer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// A connection on which the server has said that it knows extended CONNECT.
async fn connect(proxy: SocketAddr) -> SendRequest<Empty<Bytes>> {
    let socket = TcpStream::connect(proxy).await.unwrap();
    let io = TokioIo::new(socket);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    // Answered by the layer itself, after the settings of the server.
    let other = connect_to("connect-udp");
    while sender.send_request(other.clone()).await.map_or(true, |response| response.status() != 501) {
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
async fn messages_come_back_over_several_streams_of_one_connection() {
    let layer = WsPassthroughLayer::new();
    let tunnels = layer.tunnels();
    let mut sender = connect(serve(layer, echo().await).await).await;
    let mut sockets = Vec::new();
    for _ in 0..3 {
        let response = open(&mut sender).await;
        assert_eq!(response.status(), StatusCode::OK);
        for gone in ["connection", "upgrade", "sec-websocket-accept"] {
            assert!(!response.headers().contains_key(gone), "{gone}");
        }
        let stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        sockets.push(WebSocketStream::from_raw_socket(stream, Role::Client, None).await);
    }
    assert_eq!(tunnels.open(), 3);
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
async fn an_end_that_has_no_more_to_say_can_still_listen() {
    let upstream = upstream(async |head, mut socket| {
        assert!(head.starts_with("GET /live HTTP/1.1\r\n"), "{head}");
        for (name, expected) in [("host", "a.example"), ("upgrade", "websocket"), ("sec-websocket-version", "13")] {
            assert_eq!(field(&head, name).as_deref(), Some(expected), "{name}");
        }
        let answer = switching(&head).replace("\r\n\r\n", "\r\nSec-WebSocket-Protocol: chat\r\n\r\n");
        socket.write_all(answer.as_bytes()).await.unwrap();
        let mut said = Vec::new();
        socket.read_to_end(&mut said).await.unwrap();
        said.reverse();
        socket.write_all(&said).await.unwrap();
    });
    let mut sender = connect(serve(WsPassthroughLayer::new(), upstream.await).await).await;
    let response = open(&mut sender).await;
    assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "olleh");
}

#[tokio::test]
async fn a_refusal_reaches_the_client_and_a_2xx_that_is_none_is_a_502() {
    for (answer, status, body) in [
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno\n", 403, "no\n"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n", 502, "Bad Gateway\n"),
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", 502, "Bad Gateway\n"),
    ] {
        let upstream = upstream(async |_, mut socket| {
            socket.write_all(answer.as_bytes()).await.unwrap();
            let _ = socket.read_u8().await;
        });
        let mut sender = connect(serve(WsPassthroughLayer::new(), upstream.await).await).await;
        let response = open(&mut sender).await;
        assert_eq!(response.status(), status, "{answer}");
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), body);
    }
}

#[tokio::test]
async fn paths_and_versions_count_here_too() {
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
