//! WebSockets through the built binary, with tokio-tungstenite at both ends.

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::upstream::{answering, ok};
use crate::support::{Proxy, exchange, request};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::{accept_async, connect_async};

/// An echo server on a runtime of its own.
fn echo_server() -> SocketAddr {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            sender.send(listener.local_addr().unwrap()).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let Ok(mut socket) = accept_async(stream).await else { return };
                    while let Some(Ok(message)) = socket.next().await {
                        if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
    });
    receiver.recv().unwrap()
}

#[tokio::test]
async fn messages_of_all_sizes_come_back() {
    let proxy = Proxy::start(echo_server(), &[]);
    let (mut socket, response) = connect_async(format!("ws://{}/chat", proxy.address)).await.unwrap();
    assert_eq!(response.status(), 101);
    for size in [0, 1, 125, 126, 65_535, 65_536, 3_000_000] {
        let message = Message::binary(vec![b'x'; size]);
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message, "{size}");
    }
    socket.send(Message::text("grüße")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("grüße"));
    socket.close(None).await.unwrap();
}

#[tokio::test]
async fn where_it_is_not_allowed_the_upgrade_is_refused() {
    let upstream = echo_server();
    for settings in [("RPROXY_WS_PATHS", "/chat/**"), ("RPROXY_WS_ENABLED", "false")] {
        let proxy = Proxy::start(upstream, &[settings]);
        assert!(connect_async(format!("ws://{}/other", proxy.address)).await.is_err(), "{settings:?}");
    }
    let proxy = Proxy::start(upstream, &[("RPROXY_WS_PATHS", "/chat/**")]);
    assert!(connect_async(format!("ws://{}/chat/room", proxy.address)).await.is_ok());
}

#[test]
fn an_upgrade_to_anything_else_is_an_ordinary_request() {
    let proxy = Proxy::start(answering(ok), &[]);
    let answer = request(
        proxy.address,
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
    );
    assert_eq!(answer.status, 200);
    assert!(!answer.body.to_ascii_lowercase().contains("upgrade"), "{}", answer.body);
}

#[test]
fn an_upgrade_that_the_upstream_declines_smuggles_nothing() {
    let proxy = Proxy::start(answering(|head| ok(head.split(' ').nth(1).unwrap())), &[]);
    let handshake = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nGET /.env HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answer = exchange(proxy.address, handshake.as_bytes());
    // Declined, so what follows is a request like any other, judged like any other.
    assert!(answer.contains("\r\n\r\n/ws") && answer.contains("HTTP/1.1 404 "), "{answer}");
}

#[tokio::test]
async fn draining_says_goodbye_to_open_sockets() {
    let mut proxy = Proxy::start(echo_server(), &[]);
    let (mut socket, _) = connect_async(format!("ws://{}/", proxy.address)).await.unwrap();
    socket.send(Message::text("here")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("here"));
    proxy.signal("TERM");
    let last = tokio::time::timeout(Duration::from_secs(10), socket.next()).await.unwrap();
    match last {
        Some(Ok(Message::Close(Some(frame)))) => assert_eq!(frame.code, CloseCode::Away),
        other => panic!("{other:?}"),
    }
    while socket.next().await.is_some_and(|message| message.is_ok()) {}
    let status = tokio::task::spawn_blocking(move || proxy.wait()).await.unwrap();
    assert_eq!(status.code(), Some(0));
}
