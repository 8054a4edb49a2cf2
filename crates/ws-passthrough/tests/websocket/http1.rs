//! Tests of WebSockets over HTTP/1.1, through a proxy to upstreams.

use std::sync::{Arc, Mutex};

use crate::proxy::{connect, echo, field, handshake, head, proxy as serve, send, switching_protocols, text, upstream};
use futures_util::{SinkExt, StreamExt};
use rproxy_ws_passthrough::{ClosedBy, TunnelSummary, WsPassthroughLayer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::{Bytes, Message};

#[tokio::test]
async fn relays_text_and_binary_messages_of_all_sizes() {
    let proxy = serve(WsPassthroughLayer::new(), echo().await).await;
    let mut client = connect(proxy).await;
    let large = vec![7_u8; 1 << 20];
    for message in [
        Message::text("hello"),
        Message::text(""),
        Message::binary(vec![0, 255, 1]),
        Message::binary(vec![1; 126]),
        Message::binary(vec![2; 65_536]),
        Message::binary(large),
    ] {
        client.send(message.clone()).await.unwrap();
        assert!(client.next().await.unwrap().unwrap() == message, "{} bytes", message.len());
    }
    let fragment = |text: &'static str, data, last| {
        Message::Frame(Frame::message(Bytes::from_static(text.as_bytes()), OpCode::Data(data), last))
    };
    client.send(fragment("one, ", Data::Text, false)).await.unwrap();
    client.send(Message::Ping(Bytes::from_static(b"between"))).await.unwrap();
    client.send(fragment("two", Data::Continue, true)).await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), Message::Pong(Bytes::from_static(b"between")));
    assert_eq!(client.next().await.unwrap().unwrap(), Message::text("one, two"));
    client.close(None).await.unwrap();
    assert!(matches!(client.next().await, Some(Ok(Message::Close(_)))));
    assert!(client.next().await.is_none());
}

#[tokio::test]
async fn relays_bytes_that_follow_the_handshake_in_the_same_segment() {
    // From the client, after the request: the server has read them ahead.
    let proxy = serve(WsPassthroughLayer::new(), echo().await).await;
    let request = [handshake(&[]).into_bytes(), text("early", true)].concat();
    let mut socket = tokio::net::TcpStream::connect(proxy).await.unwrap();
    socket.write_all(&request).await.unwrap();
    assert!(head(&mut socket).await.starts_with("HTTP/1.1 101 "));
    let mut frame = vec![0; text("early", false).len()];
    socket.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame, text("early", false));

    // From the upstream, after the 101.
    let upstream = upstream(async |head, mut socket| {
        socket.write_all(&[switching_protocols(&head).into_bytes(), text("greeting", false)].concat()).await.unwrap();
        socket.read_u8().await.unwrap_err();
    });
    let mut client = connect(serve(WsPassthroughLayer::new(), upstream.await).await).await;
    assert_eq!(client.next().await.unwrap().unwrap(), Message::text("greeting"));
}

#[tokio::test]
async fn half_closed_tunnel_still_relays_the_other_direction() {
    let upstream = upstream(async |head, mut socket| {
        socket.write_all(switching_protocols(&head).as_bytes()).await.unwrap();
        let mut received = Vec::new();
        socket.read_to_end(&mut received).await.unwrap();
        received.reverse();
        socket.write_all(&received).await.unwrap();
    });
    let proxy = serve(WsPassthroughLayer::new(), upstream.await).await;
    let (_, mut socket) = send(proxy, &handshake(&[])).await;
    socket.write_all(b"not even frames").await.unwrap();
    socket.shutdown().await.unwrap();
    let mut received = String::new();
    socket.read_to_string(&mut received).await.unwrap();
    assert_eq!(received, "semarf neve ton");
}

#[tokio::test]
async fn forwards_negotiated_websocket_subprotocols_and_extensions() {
    let upstream = upstream(async |head, mut socket| {
        assert_eq!(field(&head, "sec-websocket-protocol").unwrap(), "chat, superchat");
        assert_eq!(field(&head, "sec-websocket-extensions").unwrap(), "permessage-deflate");
        assert_eq!(field(&head, "x-hop"), Some("1".to_owned()));
        assert!(field(&head, "connection").unwrap().eq_ignore_ascii_case("upgrade"));
        let chosen =
            "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: permessage-deflate\r\nSet-Cookie: a=b\r\n";
        let response = switching_protocols(&head).replace("\r\n\r\n", &format!("\r\n{chosen}\r\n"));
        socket.write_all(response.as_bytes()).await.unwrap();
    });
    let proxy = serve(WsPassthroughLayer::new(), upstream.await).await;
    let offered = [
        ("sec-websocket-protocol", "chat, superchat"),
        ("sec-websocket-extensions", "permessage-deflate"),
        ("x-hop", "1"),
    ];
    let (head, _) = send(proxy, &handshake(&offered)).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    for (name, expected) in [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ("sec-websocket-protocol", "chat"),
        ("sec-websocket-extensions", "permessage-deflate"),
        ("set-cookie", "a=b"),
    ] {
        assert_eq!(field(&head, name).as_deref(), Some(expected), "{name}");
    }
}

#[tokio::test]
async fn forwards_a_rejection_by_the_upstream_unchanged() {
    let upstream = upstream(async |_, mut socket| {
        let response = "HTTP/1.1 403 Forbidden\r\nX-Why: token\r\nContent-Length: 10\r\n\r\nlog in 1st";
        socket.write_all(response.as_bytes()).await.unwrap();
    });
    let proxy = serve(WsPassthroughLayer::new(), upstream.await).await;
    let (head, mut socket) = send(proxy, &handshake(&[])).await;
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    assert_eq!(field(&head, "x-why").as_deref(), Some("token"));
    let mut body = [0; 10];
    socket.read_exact(&mut body).await.unwrap();
    assert_eq!(&body, b"log in 1st");
}

#[tokio::test]
async fn responds_502_to_an_invalid_101_and_closes_the_upstream_connection() {
    for (from, to) in [
        ("Sec-WebSocket-Accept: ", "Sec-WebSocket-Accept: x"),
        ("Sec-WebSocket-Accept: ", "X-Accept: "),
        ("Upgrade: websocket", "Upgrade: h2c"),
    ] {
        let (sender, closed) = tokio::sync::oneshot::channel();
        let upstream = upstream(async move |head, mut socket| {
            socket.write_all(switching_protocols(&head).replace(from, to).as_bytes()).await.unwrap();
            let _ = sender.send(socket.read(&mut [0]).await.unwrap_or(0));
        });
        let proxy = serve(WsPassthroughLayer::new(), upstream.await).await;
        let (head, _) = send(proxy, &handshake(&[])).await;
        assert!(head.starts_with("HTTP/1.1 502 "), "{to}: {head}");
        assert_eq!(closed.await.unwrap(), 0, "{to}");
    }
}

#[tokio::test]
async fn rejects_invalid_handshake_without_a_request_to_the_upstream() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = serve(WsPassthroughLayer::new(), unused.local_addr().unwrap()).await;
    for (fields, status) in [
        (&[("sec-websocket-version", "8")][..], 426),
        (&[("sec-websocket-version", "")], 426),
        (&[("sec-websocket-version", "13"), ("sec-websocket-version", "8")], 426),
        (&[("sec-websocket-key", "")], 400),
        (&[("sec-websocket-key", "dG9vIHNob3J0")], 400),
        (&[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ"), ("sec-websocket-key", "==")], 400),
        (&[("content-length", "4")], 400),
        (&[("transfer-encoding", "chunked")], 400),
    ] {
        let (head, _) = send(proxy, &handshake(fields)).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{fields:?}: {head}");
        let version = field(&head, "sec-websocket-version");
        assert_eq!(version.as_deref(), (status == 426).then_some("13"), "{fields:?}");
    }
    let (head, _) = send(proxy, &handshake(&[]).replace("GET", "PUT")).await;
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
}

#[tokio::test]
async fn rejects_handshake_on_paths_that_are_not_allowed_with_403() {
    let echo = echo().await;
    let some = serve(WsPassthroughLayer::new().paths("/live,/{a,b}/**".parse().unwrap()), echo).await;
    let none = serve(WsPassthroughLayer::new().reject_all(), echo).await;
    for (proxy, path, status) in [
        (some, "/live", 101),
        (some, "/b/c", 101),
        (some, "/c", 403),
        (some, "/a/../live/x", 403),
        (none, "/live", 403),
    ] {
        let (head, _) = send(proxy, &handshake(&[]).replace("/live", path)).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {head}");
    }
}

#[tokio::test]
async fn forwards_upgrades_to_other_protocols_as_ordinary_requests() {
    for protocol in ["h2c", "TLS/1.0"] {
        let upstream = upstream(async |head, mut socket| {
            for name in ["upgrade", "http2-settings", "connection"] {
                assert_eq!(field(&head, name), None, "{name}");
            }
            socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        });
        let proxy = serve(WsPassthroughLayer::new(), upstream.await).await;
        let fields = [("upgrade", protocol), ("connection", "Upgrade, HTTP2-Settings"), ("http2-settings", "AAMAAABk")];
        let (head, _) = send(proxy, &handshake(&fields)).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    }
}

// RFC 9110 §7.8
#[tokio::test]
async fn ignores_an_upgrade_without_connection_option() {
    let upstream = upstream(async |head, mut socket| {
        assert_eq!((field(&head, "upgrade"), field(&head, "connection")), (None, None), "{head}");
        socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
    });
    let proxy = serve(WsPassthroughLayer::new(), upstream.await).await;
    let (head, _) = send(proxy, &handshake(&[("connection", "")])).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
}

#[tokio::test]
async fn responds_502_to_an_unrequested_101() {
    let upstream = upstream(async |_, mut socket| {
        let response = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        socket.write_all(response.as_bytes()).await.unwrap();
        let _ = socket.read_u8().await;
    });
    let proxy = serve(WsPassthroughLayer::new(), upstream.await).await;
    let (head, _) = send(proxy, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
}

#[tokio::test]
async fn draining_sends_1001_to_both_endpoints_and_waits_for_the_last_tunnel() {
    let (sender, received) = tokio::sync::oneshot::channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut socket = tokio_tungstenite::accept_async(socket).await.unwrap();
        let close = loop {
            match socket.next().await {
                Some(Ok(Message::Close(close))) => break close,
                Some(Ok(message)) => socket.send(message).await.unwrap(),
                end => panic!("{end:?}"),
            }
        };
        // Replies to the Close, and waits for the end of the connection.
        while socket.next().await.is_some() {}
        sender.send(close.unwrap().code).unwrap();
    });
    let summaries: Arc<Mutex<Vec<TunnelSummary>>> = Arc::default();
    let collected = Arc::clone(&summaries);
    let layer = WsPassthroughLayer::new().on_close(move |summary| collected.lock().unwrap().push(summary.clone()));
    let tunnels = layer.tunnels();
    let proxy = serve(layer, upstream).await;
    let mut client = connect(proxy).await;
    client.send(Message::text("hello")).await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), Message::text("hello"));
    assert_eq!(tunnels.open_count(), 1);

    tunnels.drain();
    let Some(Ok(Message::Close(Some(close)))) = client.next().await else { panic!("no Close") };
    assert_eq!(close.code, CloseCode::Away);
    assert!(client.next().await.is_none());
    assert_eq!(received.await.unwrap(), CloseCode::Away);
    tunnels.closed().await;
    assert_eq!(tunnels.open_count(), 0);

    let summary = summaries.lock().unwrap().pop().unwrap();
    assert_eq!((&*summary.path, summary.closed_by), ("/live", ClosedBy::Drain));
    assert_eq!((summary.messages_from_client, summary.messages_from_upstream), (1, 1));
    // "hello" and the reply to the Close, masked from the client and unmasked from the upstream.
    assert_eq!((summary.bytes_from_client, summary.bytes_from_upstream), (11 + 8, 7 + 4));

    let (head, _) = send(proxy, &handshake(&[])).await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert_eq!(field(&head, "retry-after").as_deref(), Some("1"));
}

#[tokio::test]
async fn reports_the_endpoint_that_closed_the_tunnel_first() {
    for (client_closes, expected) in [(true, ClosedBy::Client), (false, ClosedBy::Upstream)] {
        let upstream = match client_closes {
            true => echo().await,
            false => {
                upstream(async |head, mut socket| {
                    socket.write_all(switching_protocols(&head).as_bytes()).await.unwrap();
                })
                .await
            }
        };
        let (sender, closed_by) = tokio::sync::oneshot::channel();
        let sender = Mutex::new(Some(sender));
        let layer = WsPassthroughLayer::new()
            .on_close(move |summary| sender.lock().unwrap().take().unwrap().send(summary.closed_by).unwrap());
        let mut client = connect(serve(layer, upstream).await).await;
        if client_closes {
            client.close(None).await.unwrap();
        }
        while let Some(Ok(_)) = client.next().await {}
        drop(client);
        assert_eq!(closed_by.await.unwrap(), expected);
    }
}
