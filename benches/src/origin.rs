//! The backend of scenarios without static files: slow responses, uploads, gRPC, and echoes of messages and heads.
//!
//! It has one thread.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use clap::Args;
use futures_util::{SinkExt, StreamExt};
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, TE, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// The delay of responses for `/slow`.
const SLOW: Duration = Duration::from_millis(200);

/// Runs the backend, which serves `/slow`, `/cold/...`, `/echo`, `/long`, `/count`, `/receive/LENGTH` and gRPC, and
/// echoes the request head on other paths.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Address to listen on.
    #[arg(long)]
    listen: SocketAddr,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::bind(options.listen).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(serve(stream));
        }
    })
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Serves HTTP/1.1, or HTTP/2 if the client starts with its preface (RFC 9113 §3.4).
async fn serve(stream: TcpStream) -> Result<()> {
    let mut start = [0; 3];
    let is_http2 = stream.peek(&mut start).await? == start.len() && start == *b"PRI";
    let stream = TokioIo::new(stream);
    if is_http2 {
        http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service_fn(respond)).await?;
    } else {
        http1::Builder::new().serve_connection(stream, service_fn(respond)).with_upgrades().await?;
    }
    Ok(())
}

async fn respond(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let is_grpc = request.headers().get(CONTENT_TYPE).is_some_and(|value| value == "application/grpc");
    Ok(match request.uri().path().strip_prefix("/receive/").map(str::parse) {
        _ if is_grpc => unary(request).await,
        Some(Ok(length)) => receive(request, length).await,
        _ => plain(request).await.map(BodyExt::boxed_unsync),
    })
}

async fn plain(request: Request<Incoming>) -> Response<Full<Bytes>> {
    static REQUESTS: AtomicU64 = AtomicU64::new(0);
    let requests = REQUESTS.fetch_add(1, Ordering::Relaxed) + 1;
    match request.uri().path() {
        "/slow" => {
            tokio::time::sleep(SLOW).await;
            text("hello from afar!\n")
        }
        "/count" => text(requests.to_string()),
        path if path.starts_with("/cold/") => {
            tokio::time::sleep(SLOW).await;
            let mut response = text("// hello from afar!\n");
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
            response
        }
        "/long" => text("All work and no play makes Jack a dull boy.\n".repeat(100)),
        "/echo" => echo(request),
        _ => text(fields(request.headers())),
    }
}

/// Responds with 200 after a body of this length, and with 400 after any other.
async fn receive(request: Request<Incoming>, length: u64) -> Response<Body> {
    let mut body = request.into_body();
    let mut received = 0;
    while let Some(frame) = body.frame().await {
        received += frame.ok().and_then(|frame| frame.data_ref().map(|data| data.len() as u64)).unwrap_or_default();
    }
    match received == length {
        true => text("received\n").map(BodyExt::boxed_unsync),
        false => with_status(StatusCode::BAD_REQUEST).map(BodyExt::boxed_unsync),
    }
}

/// Echoes the message of a unary gRPC call. Fails without `TE: trailers`, which a gRPC client always sends.
async fn unary(request: Request<Incoming>) -> Response<Body> {
    let has_te = request.headers().get(TE).is_some_and(|value| value == "trailers");
    let message = match request.into_body().collect().await {
        Ok(body) if has_te => body.to_bytes(),
        _ => return with_status(StatusCode::BAD_REQUEST).map(BodyExt::boxed_unsync),
    };
    let trailers = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    let body = Full::new(message).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut response = Response::new(body.boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// Returns the request header fields as the proxy forwarded them, one per line.
fn fields(headers: &HeaderMap) -> Vec<u8> {
    let line = |(name, value): (&HeaderName, &HeaderValue)| {
        [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\n"].concat()
    };
    headers.iter().flat_map(line).collect()
}

/// Accepts a WebSocket (RFC 6455 §4.2.2), and echoes each message.
pub(crate) fn echo(mut request: Request<Incoming>) -> Response<Full<Bytes>> {
    let Some(key) = request.headers().get(SEC_WEBSOCKET_KEY) else { return with_status(StatusCode::BAD_REQUEST) };
    let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) else {
        return with_status(StatusCode::BAD_REQUEST);
    };
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let config = WebSocketConfig::default().read_buffer_size(4096);
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
        let (mut sink, mut stream) = socket.split();
        while let Some(Ok(message)) = stream.next().await {
            let is_content = message.is_text() || message.is_binary();
            if is_content && sink.send(message).await.is_err() {
                return;
            }
        }
    });
    let mut response = with_status(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    response
}

/// Returns a text response with fingerprinting fields, to observe whether a proxy strips the fields.
fn text(body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.insert("server", HeaderValue::from_static("origin/1.0"));
    headers.insert("x-powered-by", HeaderValue::from_static("origin/1.0"));
    response
}

fn with_status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}
