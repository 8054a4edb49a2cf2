//! Protocols besides WebSocket, where they are allowed by name.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)]

mod proxy;

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use hyper::ext::Protocol;
use hyper_util::rt::{TokioExecutor, TokioIo};
use proxy::{ask, field, head, proxy as serve, upstream};
use rproxy_ws_passthrough::{ClosedBy, TunnelSummary, WsPassthroughLayer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

fn layer() -> WsPassthroughLayer {
    WsPassthroughLayer::new().upgrades("tcp".parse().unwrap())
}

fn told(layer: WsPassthroughLayer) -> (WsPassthroughLayer, mpsc::UnboundedReceiver<TunnelSummary>) {
    let (tell, told) = mpsc::unbounded_channel();
    (layer.on_close(move |summary| tell.send(summary.clone()).unwrap()), told)
}

/// A request to change to one of `protocols`.
fn request(method: &str, protocols: &str) -> String {
    format!(
        "{method} /live HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: {protocols}\r\nX-Hop: 1\r\n\r\n"
    )
}

const SWITCHING: &str = "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nX-Stream: raw\r\n\r\n";

/// Says that it switches, and what it heard, backwards.
async fn switches_and_says_it_backwards(mut socket: TcpStream) {
    // With the first bytes in one segment.
    socket.write_all(&[SWITCHING.as_bytes(), b"early "].concat()).await.unwrap();
    let mut said = Vec::new();
    socket.read_to_end(&mut said).await.unwrap();
    said.reverse();
    socket.write_all(&said).await.unwrap();
}

#[tokio::test]
async fn bytes_pass_both_ways_after_the_switch_by_any_method_and_in_message_mode() {
    for method in ["GET", "POST"] {
        for layer in [layer(), layer().max_message_size(10)] {
            let upstream = upstream(async move |head, socket| {
                assert!(head.starts_with(&format!("{method} /live HTTP/1.1\r\n")), "{head}");
                assert_eq!(field(&head, "upgrade").as_deref(), Some("tcp"));
                assert_eq!(field(&head, "connection").unwrap().to_ascii_lowercase(), "upgrade");
                assert_eq!(field(&head, "sec-websocket-key"), None);
                switches_and_says_it_backwards(socket).await;
            });
            let (layer, mut told) = told(layer);
            let proxy = serve(layer, upstream.await).await;
            let (head, mut socket) = ask(proxy, &request(method, "h2c, TCP")).await;
            assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
            for (name, expected) in [("connection", "Upgrade"), ("upgrade", "tcp"), ("x-stream", "raw")] {
                assert_eq!(field(&head, name).as_deref(), Some(expected), "{name}");
            }
            // A Close of WebSockets is nothing special here.
            socket.write_all(b"\x88\x02\x03\xe8 and more").await.unwrap();
            socket.shutdown().await.unwrap();
            let mut answer = Vec::new();
            socket.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer, b"early erom dna \xe8\x03\x02\x88");
            let summary = told.recv().await.unwrap();
            assert_eq!((&*summary.protocol, &*summary.path, summary.closed_by), ("tcp", "/live", ClosedBy::Client));
            assert_eq!((summary.bytes_from_client, summary.bytes_from_upstream), (13, 19));
            assert_eq!((summary.messages_from_client, summary.close_code()), (0, None));
        }
    }
}

#[tokio::test]
async fn nothing_passes_unless_the_upstream_has_switched_to_what_was_asked_for() {
    for (answer, status) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "200"),
        ("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "502"),
        ("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n", "502"),
    ] {
        let (tell, told) = tokio::sync::oneshot::channel();
        let upstream = upstream(async move |_, mut socket| {
            socket.write_all(answer.as_bytes()).await.unwrap();
            let mut rest = Vec::new();
            let _ = socket.read_to_end(&mut rest).await;
            tell.send(rest).unwrap();
        });
        let proxy = serve(layer(), upstream.await).await;
        let (head, socket) = ask(proxy, &format!("{}not a request", request("POST", "tcp"))).await;
        assert_eq!(head.split(' ').nth(1), Some(status), "{answer}");
        drop(socket);
        assert_eq!(told.await.unwrap(), b"", "{answer}");
    }
}

#[tokio::test]
async fn what_is_not_allowed_or_brings_content_goes_on_as_an_ordinary_request() {
    for (asked, body) in [
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
        let (head, _) = ask(proxy, &format!("{asked}{body}")).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{asked}{head}");
    }
}

#[tokio::test]
async fn paths_origins_and_limits_hold_for_all_protocols() {
    let upstream = upstream(async |_, socket| switches_and_says_it_backwards(socket).await).await;
    for (layer, status) in [
        (layer().paths("/elsewhere".parse().unwrap()), 403),
        (layer().origins("https://app.example".parse().unwrap()), 403),
        (layer().refuse_all(), 403),
        (layer().max_tunnels(0), 503),
        (layer().max_tunnels_per_client(0), 429),
        (layer(), 101),
    ] {
        let proxy = serve(layer, upstream).await;
        let asked = request("GET", "tcp").replace("X-Hop: 1", "Origin: https://evil.example");
        let (head, _) = ask(proxy, &asked).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
    }
}

#[tokio::test]
async fn an_extended_connect_for_one_that_is_allowed_is_an_upgrade_upstream() {
    let upstream = upstream(async |head, socket| {
        assert!(head.starts_with("GET /live HTTP/1.1\r\n"), "{head}");
        assert_eq!(field(&head, "upgrade").as_deref(), Some("tcp"));
        switches_and_says_it_backwards(socket).await;
    });
    let proxy = serve(layer(), upstream.await).await;
    let io = TokioIo::new(TcpStream::connect(proxy).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let connect_to = |protocol| {
        let request = Request::connect("http://a.example/live").extension(Protocol::from_static(protocol));
        request.body(Empty::<Bytes>::new()).unwrap()
    };
    // Answered by the layer itself, after the settings of the server.
    while sender.send_request(connect_to("connect-udp")).await.map_or(true, |response| response.status() != 501) {
        sender.ready().await.unwrap();
    }
    let response = sender.send_request(connect_to("tcp")).await.unwrap();
    assert_eq!((response.status(), &response.headers()["x-stream"]), (http::StatusCode::OK, &"raw".parse().unwrap()));
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "early olleh");
}

#[tokio::test]
async fn bytes_right_behind_the_request_wait_for_the_switch() {
    let upstream = upstream(async |_, socket| switches_and_says_it_backwards(socket).await);
    let proxy = serve(layer(), upstream.await).await;
    let mut socket = TcpStream::connect(proxy).await.unwrap();
    socket.write_all(format!("{}ahead", request("POST", "tcp")).as_bytes()).await.unwrap();
    assert!(head(&mut socket).await.starts_with("HTTP/1.1 101 "));
    socket.shutdown().await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "early daeha");
}
