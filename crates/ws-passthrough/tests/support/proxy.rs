//! A test proxy, upstreams and raw clients.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rproxy_upstream::Upstream;
use rproxy_ws_passthrough::WsPassthroughLayer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tower::Layer;

pub(crate) type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Starts a proxy for HTTP/1.1 and HTTP/2 with the layer in front of an HTTP/1.1 upstream.
pub(crate) async fn proxy(layer: WsPassthroughLayer, upstream: SocketAddr) -> SocketAddr {
    proxy_to(layer, &format!("http://{upstream}")).await
}

/// Starts a proxy like [`proxy`], for a backend of any HTTP version.
pub(crate) async fn proxy_to(layer: WsPassthroughLayer, backend: &str) -> SocketAddr {
    let upstream: Upstream<Incoming> = Upstream::builder().backend(backend).unwrap().build().unwrap();
    let service = layer.layer(upstream);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                let mut server = auto::Builder::new(TokioExecutor::new());
                server.http2().enable_connect_protocol();
                let _ = server.serve_connection_with_upgrades(TokioIo::new(socket), service).await;
            });
        }
    });
    address
}

/// Starts a WebSocket server that echoes each message.
pub(crate) async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut socket = tokio_tungstenite::accept_async(socket).await.unwrap();
                while let Some(Ok(message)) = socket.next().await {
                    if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}

/// Starts an upstream that reads one request head and then calls `serve`.
pub(crate) async fn upstream<F>(serve: impl FnOnce(String, TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let head = head(&mut socket).await;
        serve(head, socket).await;
    });
    address
}

/// Returns the 101 response for the WebSocket handshake in `head`.
pub(crate) fn switching_protocols(head: &str) -> String {
    let key = field(head, "sec-websocket-key").unwrap();
    let accept = derive_accept_key(key.as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

/// Returns a WebSocket handshake in which `fields` replace the default fields. An empty value removes a field.
pub(crate) fn handshake(fields: &[(&str, &str)]) -> String {
    let defaults = [
        ("host", "a.example"),
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let kept = defaults.iter().filter(|(name, _)| fields.iter().all(|(changed, _)| changed != name));
    let lines = kept.chain(fields).filter(|(_, value)| !value.is_empty());
    let lines: String = lines.map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("GET /live HTTP/1.1\r\n{lines}\r\n")
}

/// Sends a request, and reads the response head.
pub(crate) async fn send(proxy: SocketAddr, request: &str) -> (String, TcpStream) {
    let mut socket = TcpStream::connect(proxy).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    (head(&mut socket).await, socket)
}

/// Reads exactly a message head, including its empty line.
pub(crate) async fn head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// Returns the value of a header field in a response head.
pub(crate) fn field(head: &str, name: &str) -> Option<String> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
}

/// Formats a WebSocket text message as one frame.
pub(crate) fn text(payload: &str, mask: bool) -> Vec<u8> {
    let opcode = OpCode::Data(Data::Text);
    let header = FrameHeader { opcode, mask: mask.then_some([1, 2, 3, 4]), ..FrameHeader::default() };
    let mut bytes = Vec::new();
    header.format(payload.len() as u64, &mut bytes).unwrap();
    let key = if mask { [1, 2, 3, 4] } else { [0; 4] };
    bytes.extend(payload.bytes().zip(key.into_iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

pub(crate) async fn connect(proxy: SocketAddr) -> Client {
    tokio_tungstenite::connect_async(format!("ws://{proxy}/live")).await.unwrap().0
}
