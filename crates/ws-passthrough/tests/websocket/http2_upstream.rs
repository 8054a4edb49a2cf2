//! Tests of HTTP/2 upstreams with extended CONNECT (RFC 8441), and HTTP/1.1 and HTTP/2 clients.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use crate::proxy::{field, handshake, proxy_to, send};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{Empty, Full};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rproxy_ws_passthrough::WsPassthroughLayer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// Starts an HTTP/2 server that calls `serve` with each WebSocket, and responds 403 at `/no`.
async fn upstream<F>(is_extended: bool, serve: impl Fn(TokioIo<Upgraded>) -> F + Copy + Send + Sync + 'static) -> String
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let service = service_fn(move |request: Request<Incoming>| {
                let response = respond(request, serve);
                async move { Ok::<_, Infallible>(response) }
            });
            let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            if is_extended {
                server.enable_connect_protocol();
            }
            tokio::spawn(server.serve_connection(TokioIo::new(socket), service));
        }
    });
    format!("h2c://{address}")
}

fn respond<F>(
    mut request: Request<Incoming>,
    serve: impl Fn(TokioIo<Upgraded>) -> F + Send + Sync + 'static,
) -> Response<Full<Bytes>>
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut response = Response::new(Full::default());
    if request.uri().path() == "/no" {
        *response.status_mut() = StatusCode::FORBIDDEN;
        *response.body_mut() = Full::from("no\n");
        return response;
    }
    assert_eq!(request.method(), Method::CONNECT);
    assert_eq!(request.extensions().get::<Protocol>().unwrap().as_str(), "websocket");
    assert_eq!((request.uri().path(), request.uri().authority().unwrap().as_str()), ("/live", "a.example"));
    let headers = request.headers();
    assert_eq!(headers["sec-websocket-version"], "13");
    for name in ["sec-websocket-key", "upgrade", "connection", "host"] {
        assert!(!headers.contains_key(name), "{name}");
    }
    if let Some(offered) = headers.get("sec-websocket-protocol") {
        assert_eq!(offered, "chat, superchat");
        response.headers_mut().insert("sec-websocket-protocol", "chat".parse().unwrap());
    }
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let upgraded = upgrade.await.unwrap();
        serve(TokioIo::new(upgraded)).await;
    });
    response
}

async fn echo(stream: TokioIo<Upgraded>) {
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
    while let Some(Ok(message)) = socket.next().await {
        if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
            return;
        }
    }
}

async fn proxy(is_extended: bool) -> SocketAddr {
    proxy_to(WsPassthroughLayer::new(), &upstream(is_extended, echo).await).await
}

#[tokio::test]
async fn relays_messages_of_http1_clients_to_an_http2_upstream() {
    let layer = WsPassthroughLayer::new();
    let tunnels = layer.tunnels();
    let proxy = proxy_to(layer, &upstream(true, echo).await).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let request = handshake(&[("sec-websocket-protocol", "chat, superchat")]);
        let (head, socket) = send(proxy, &request).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        for (name, expected) in [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            ("sec-websocket-protocol", "chat"),
        ] {
            assert_eq!(field(&head, name).as_deref(), Some(expected), "{name}");
        }
        clients.push(WebSocketStream::from_raw_socket(socket, Role::Client, None).await);
    }
    for client in &mut clients {
        for message in [Message::text("hello"), Message::binary(vec![7; 1 << 20])] {
            client.send(message.clone()).await.unwrap();
            assert!(client.next().await.unwrap().unwrap() == message);
        }
    }
    tunnels.drain();
    for client in &mut clients {
        let Some(Ok(Message::Close(Some(close)))) = client.next().await else { panic!("no Close") };
        assert_eq!(close.code, CloseCode::Away);
        while let Some(Ok(_)) = client.next().await {}
    }
    drop(clients);
    tunnels.closed().await;
}

#[tokio::test]
async fn half_closed_tunnel_from_http2_to_http2_still_relays_the_other_direction() {
    let upstream = upstream(true, async |mut stream| {
        let mut received = Vec::new();
        stream.read_to_end(&mut received).await.unwrap();
        received.reverse();
        stream.write_all(&received).await.unwrap();
        stream.shutdown().await.unwrap();
    });
    let proxy = proxy_to(WsPassthroughLayer::new(), &upstream.await).await;
    let io = TokioIo::new(TcpStream::connect(proxy).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let connect_to = |protocol| {
        let request = Request::connect("http://a.example/live").extension(Protocol::from_static(protocol));
        request.header("sec-websocket-version", "13").body(Empty::<Bytes>::new()).unwrap()
    };
    // The layer itself responds with 501, once the server's settings have arrived.
    while sender.send_request(connect_to("connect-udp")).await.map_or(true, |response| response.status() != 501) {
        sender.ready().await.unwrap();
    }
    let response = sender.send_request(connect_to("websocket")).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(!response.headers().contains_key("sec-websocket-accept"));
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    // More than the flow control windows of both sides.
    let data: Vec<u8> = (0..3_000_000_u32).map(|n| n as u8).collect();
    let sent = data.clone();
    let (mut from, mut to) = tokio::io::split(&mut stream);
    let (sent, received) = tokio::join!(
        async move {
            to.write_all(&sent).await?;
            to.shutdown().await
        },
        async move {
            let mut received = Vec::new();
            from.read_to_end(&mut received).await.map(|_| received)
        },
    );
    sent.unwrap();
    let mut expected = data;
    expected.reverse();
    assert!(received.unwrap() == expected);
}

#[tokio::test]
async fn forwards_a_rejection_by_an_http2_upstream_unchanged() {
    let proxy = proxy(true).await;
    let (head, mut socket) = send(proxy, &handshake(&[]).replace("/live", "/no")).await;
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    let mut body = [0; 3];
    socket.read_exact(&mut body).await.unwrap();
    assert_eq!(&body, b"no\n");
}

#[tokio::test]
async fn responds_502_if_the_backend_lacks_extended_connect() {
    let proxy = proxy(false).await;
    for _ in 0..2 {
        let (head, _) = tokio::time::timeout(Duration::from_secs(10), send(proxy, &handshake(&[]))).await.unwrap();
        assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    }
}

#[tokio::test]
async fn stream_reset_closes_only_the_tunnel_of_the_stream() {
    // Drops a WebSocket when it receives "die".
    let upstream = upstream(true, async |stream| {
        let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            if message == Message::text("die") || socket.send(message).await.is_err() {
                return;
            }
        }
    });
    let proxy = proxy_to(WsPassthroughLayer::new(), &upstream.await).await;
    let open = |proxy: SocketAddr| async move {
        let (_, socket) = send(proxy, &handshake(&[])).await;
        WebSocketStream::from_raw_socket(socket, Role::Client, None).await
    };
    let (mut first, mut second) = (open(proxy).await, open(proxy).await);
    first.send(Message::text("die")).await.unwrap();
    assert!(first.next().await.is_none_or(|message| message.is_err()));
    second.send(Message::text("hello")).await.unwrap();
    assert_eq!(second.next().await.unwrap().unwrap(), Message::text("hello"));
}
