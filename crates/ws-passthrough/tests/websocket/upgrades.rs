//! Tests of upgrades to allowed protocols other than WebSocket.

use crate::proxy::{field, head, proxy as serve, send, upstream};
use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use hyper::ext::Protocol;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rproxy_ws_passthrough::{ClosedBy, TunnelSummary, WsPassthroughLayer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

fn layer() -> WsPassthroughLayer {
    WsPassthroughLayer::new().upgrade_protocols("tcp".parse().unwrap())
}

fn with_summaries(layer: WsPassthroughLayer) -> (WsPassthroughLayer, mpsc::UnboundedReceiver<TunnelSummary>) {
    let (sender, summaries) = mpsc::unbounded_channel();
    (layer.on_close(move |summary| sender.send(summary.clone()).unwrap()), summaries)
}

/// Formats a request to upgrade to one of `protocols`.
fn request(method: &str, protocols: &str) -> String {
    format!(
        "{method} /live HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: {protocols}\r\nX-Hop: 1\r\n\r\n"
    )
}

const SWITCHING: &str = "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nX-Stream: raw\r\n\r\n";

/// Sends the 101 response, reads to the end, and sends the received bytes back in reverse order.
async fn switch_and_reverse(mut socket: TcpStream) {
    // The first bytes follow the 101 in the same segment.
    socket.write_all(&[SWITCHING.as_bytes(), b"early "].concat()).await.unwrap();
    let mut received = Vec::new();
    socket.read_to_end(&mut received).await.unwrap();
    received.reverse();
    socket.write_all(&received).await.unwrap();
}

#[tokio::test]
async fn relays_bytes_after_an_allowed_upgrade_with_any_method_and_message_limit() {
    for method in ["GET", "POST"] {
        for layer in [layer(), layer().max_message_size(10)] {
            let upstream = upstream(async move |head, socket| {
                assert!(head.starts_with(&format!("{method} /live HTTP/1.1\r\n")), "{head}");
                assert_eq!(field(&head, "upgrade").as_deref(), Some("tcp"));
                assert_eq!(field(&head, "connection").unwrap().to_ascii_lowercase(), "upgrade");
                assert_eq!(field(&head, "sec-websocket-key"), None);
                switch_and_reverse(socket).await;
            });
            let (layer, mut summaries) = with_summaries(layer);
            let proxy = serve(layer, upstream.await).await;
            let (head, mut socket) = send(proxy, &request(method, "h2c, TCP")).await;
            assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
            for (name, expected) in [("connection", "Upgrade"), ("upgrade", "tcp"), ("x-stream", "raw")] {
                assert_eq!(field(&head, name).as_deref(), Some(expected), "{name}");
            }
            // The bytes of a WebSocket Close have no meaning here.
            socket.write_all(b"\x88\x02\x03\xe8 and more").await.unwrap();
            socket.shutdown().await.unwrap();
            let mut received = Vec::new();
            socket.read_to_end(&mut received).await.unwrap();
            assert_eq!(received, b"early erom dna \xe8\x03\x02\x88");
            let summary = summaries.recv().await.unwrap();
            assert_eq!((&*summary.protocol, &*summary.path, summary.closed_by), ("tcp", "/live", ClosedBy::Client));
            assert_eq!((summary.bytes_from_client, summary.bytes_from_upstream), (13, 19));
            assert_eq!((summary.messages_from_client, summary.close_code()), (0, None));
        }
    }
}

#[tokio::test]
async fn relays_no_bytes_unless_the_upstream_switches_to_the_requested_protocol() {
    for (response, status) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "200"),
        ("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "502"),
        ("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n", "502"),
    ] {
        let (sender, received) = tokio::sync::oneshot::channel();
        let upstream = upstream(async move |_, mut socket| {
            socket.write_all(response.as_bytes()).await.unwrap();
            let mut rest = Vec::new();
            let _ = socket.read_to_end(&mut rest).await;
            sender.send(rest).unwrap();
        });
        let proxy = serve(layer(), upstream.await).await;
        let (head, socket) = send(proxy, &format!("{}not a request", request("POST", "tcp"))).await;
        assert_eq!(head.split(' ').nth(1), Some(status), "{response}");
        drop(socket);
        assert_eq!(received.await.unwrap(), b"", "{response}");
    }
}

#[tokio::test]
async fn forwards_disallowed_and_invalid_upgrades_as_ordinary_requests() {
    for (request_head, body) in [
        (request("GET", "SPDY/3.1"), ""),
        (request("POST", "tcp").replace("X-Hop: 1", "Content-Length: 2"), "{}"),
        (request("GET", "tcp").replace("Connection: Upgrade\r\n", ""), ""),
    ] {
        let upstream = upstream(async |head, mut socket| {
            assert_eq!((field(&head, "upgrade"), field(&head, "connection")), (None, None), "{head}");
            socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            let _ = socket.read_to_end(&mut Vec::new()).await;
        });
        let proxy = serve(layer(), upstream.await).await;
        let (head, _) = send(proxy, &format!("{request_head}{body}")).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{request_head}{head}");
    }
}

#[tokio::test]
async fn tunnel_limits_apply_to_all_protocols() {
    let upstream = upstream(async |_, socket| switch_and_reverse(socket).await).await;
    for (layer, status) in [
        (layer().paths("/elsewhere".parse().unwrap()), 403),
        (layer().origins("https://app.example".parse().unwrap()), 403),
        (layer().reject_all(), 403),
        (layer().max_tunnels(0), 503),
        (layer().max_tunnels_per_client(0), 429),
        (layer(), 101),
    ] {
        let proxy = serve(layer, upstream).await;
        let request = request("GET", "tcp").replace("X-Hop: 1", "Origin: https://evil.example");
        let (head, _) = send(proxy, &request).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
    }
}

#[tokio::test]
async fn converts_extended_connect_for_an_allowed_protocol_to_an_upgrade() {
    let upstream = upstream(async |head, socket| {
        assert!(head.starts_with("GET /live HTTP/1.1\r\n"), "{head}");
        assert_eq!(field(&head, "upgrade").as_deref(), Some("tcp"));
        switch_and_reverse(socket).await;
    });
    let proxy = serve(layer(), upstream.await).await;
    let io = TokioIo::new(TcpStream::connect(proxy).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let connect_to = |protocol| {
        let request = Request::connect("http://a.example/live").extension(Protocol::from_static(protocol));
        request.body(Empty::<Bytes>::new()).unwrap()
    };
    // The layer itself responds with 501, once the server's settings have arrived.
    while sender.send_request(connect_to("connect-udp")).await.map_or(true, |response| response.status() != 501) {
        sender.ready().await.unwrap();
    }
    let response = sender.send_request(connect_to("tcp")).await.unwrap();
    assert_eq!((response.status(), &response.headers()["x-stream"]), (http::StatusCode::OK, &"raw".parse().unwrap()));
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut received = String::new();
    stream.read_to_string(&mut received).await.unwrap();
    assert_eq!(received, "early olleh");
}

#[tokio::test]
async fn holds_bytes_that_follow_the_request_until_the_protocol_switch() {
    let upstream = upstream(async |_, socket| switch_and_reverse(socket).await);
    let proxy = serve(layer(), upstream.await).await;
    let mut socket = TcpStream::connect(proxy).await.unwrap();
    socket.write_all(format!("{}ahead", request("POST", "tcp")).as_bytes()).await.unwrap();
    assert!(head(&mut socket).await.starts_with("HTTP/1.1 101 "));
    socket.shutdown().await.unwrap();
    let mut received = String::new();
    socket.read_to_string(&mut received).await.unwrap();
    assert_eq!(received, "early daeha");
}
