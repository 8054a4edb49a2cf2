//! HTTP/1.1 test backends with scripted responses, and requests for them.
#![allow(dead_code, reason = "each test file uses what it needs")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use rproxy_upstream::Upstream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) type Body = Full<Bytes>;

/// Starts a backend that calls `serve` with each accepted connection and its number. Returns the number of connections.
pub(crate) async fn backend<F>(serve: impl Fn(TcpStream, usize) -> F + Send + 'static) -> (SocketAddr, Arc<AtomicUsize>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, counter.fetch_add(1, Ordering::SeqCst)));
        }
    });
    (address, connections)
}

/// Reads a request head. Returns `None` at the end of the connection.
pub(crate) async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

pub(crate) async fn send(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

pub(crate) fn upstream(address: SocketAddr) -> Upstream<Body> {
    Upstream::builder().backend(&address.to_string()).unwrap().timeout(Duration::from_secs(5)).build().unwrap()
}

pub(crate) fn get(path: &str) -> Request<Body> {
    Request::get(path).header("host", "a.example").body(Body::default()).unwrap()
}

pub(crate) async fn text(
    response: http::Response<impl http_body::Body<Data = Bytes, Error: std::fmt::Debug>>,
) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// Starts a backend that sends a 200 response with this text to every request.
pub(crate) async fn static_backend(what: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
    backend(move |mut stream, _| async move {
        while read_head(&mut stream).await.is_some() {
            send(&mut stream, &format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{what}", what.len())).await;
        }
    })
    .await
}

/// Returns a local address on which no socket listens.
pub(crate) async fn unused_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}
