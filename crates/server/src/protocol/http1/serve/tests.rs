//! Tests of HTTP/1.1 connections, with a paused clock.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use rproxy_client_ip::PeerAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tower::service_fn;

use super::*;
use crate::worker_settings::WorkerSettings;

/// The client's side of an HTTP/1.1 connection.
struct Client {
    socket: DuplexStream,
    served: oneshot::Receiver<Result<(), BoxError>>,
    draining: watch::Sender<bool>,
}

async fn echo(request: Request<RequestBody>) -> Result<Response<Full<Bytes>>, Infallible> {
    let is_rejected = request.extensions().get::<crate::RejectedHead>().is_some();
    let path = request.uri().path().to_owned();
    if path == "/unread" {
        return Ok(Response::new(Full::from(path)));
    }
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let status = if is_rejected { 408 } else { 200 };
    Ok(Response::builder().status(status).body(Full::from([path.as_bytes(), &body].concat())).unwrap())
}

fn service() -> ConnectionService<
    impl Service<Request<RequestBody>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send> + Clone + Send,
> {
    ConnectionService {
        inner: service_fn(echo),
        peer: PeerAddr(SocketAddr::from(([127, 0, 0, 1], 1))),
        is_loopback: false,
        tls: None,
        client_connection: Arc::default(),
    }
}

impl Client {
    fn connect() -> Self {
        let (near, socket) = duplex(16 * 1024);
        let config = Arc::new(ConnectionConfig::new(&WorkerSettings::new(1)));
        let (draining, is_draining) = watch::channel(false);
        let (ended, served) = oneshot::channel();
        tokio::spawn(serve(near, service(), config, is_draining, |end| {
            let _ = ended.send(match end {
                Http1End::Closed => Ok(()),
                Http1End::Http2(_) => panic!("no client sends HTTP/2"),
                Http1End::Failed(_, error) => Err(error),
            });
        }));
        Self { socket, served, draining }
    }

    async fn send(&mut self, text: &str) {
        self.socket.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads the next response, up to the text `end` at the end of its body.
    async fn read_to(&mut self, end: &str) -> String {
        let mut read = Vec::new();
        while !read.ends_with(end.as_bytes()) {
            let byte = self.socket.read_u8().await;
            read.push(byte.unwrap_or_else(|_| panic!("the connection ended after {}", read.escape_ascii())));
        }
        String::from_utf8(read).unwrap()
    }

    async fn exchange(&mut self, path: &str) {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        let response = self.read_to(path).await;
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    }
}

#[tokio::test(start_paused = true)]
async fn connection_serves_requests_with_and_without_content() {
    let mut client = Client::connect();
    client.exchange("/a").await;
    // Three pipelined requests.
    client.send("POST /b HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nxyGET /c HTTP/1.1\r\nhost: a\r\n\r\n").await;
    client.send("POST /d HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n1\r\ny\r\n0\r\n\r\n").await;
    for end in ["/bxy", "/c", "/dxy"] {
        client.read_to(end).await;
    }
    sleep(Duration::from_secs(3)).await;
    client.exchange("/e").await;
    drop(client.socket);
    assert!(client.served.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn idle_connection_is_small() {
    let config = ConnectionConfig::new(&WorkerSettings::new(1));
    let (near, _far) = duplex(16);
    let (_draining, is_draining) = watch::channel(false);
    let size = std::mem::size_of_val(&serve(near, service(), Arc::new(config), is_draining, |_| {}));
    // With the state of its task, less than 768 bytes.
    assert!(size <= 640, "{size} bytes");
}

#[tokio::test(start_paused = true)]
async fn content_is_read_while_it_arrives() {
    for (framing, pieces) in [
        ("content-length: 6", &["a", "bc", "", "def"][..]),
        ("transfer-encoding: chunked", &["1", "\r\na\r\n2\r\nbc\r", "\n3\r\nde", "f\r\n0\r\n\r\n"]),
    ] {
        let mut client = Client::connect();
        client.send(&format!("POST /a HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n")).await;
        for piece in pieces {
            sleep(Duration::from_secs(20)).await;
            client.send(piece).await;
        }
        client.read_to("/aabcdef").await;
        client.exchange("/next").await;
    }
}

#[tokio::test(start_paused = true)]
async fn idle_connection_accepts_a_head_in_several_reads() {
    let mut client = Client::connect();
    client.exchange("/a").await;
    for piece in ["G", "ET /b HT", "TP/1.1\r\nhost: a\r\n", "\r", "\n"] {
        client.send(piece).await;
        sleep(Duration::from_secs(2)).await;
    }
    client.read_to("/b").await;
}

#[tokio::test(start_paused = true)]
async fn idle_connection_rejects_an_incomplete_head_with_408() {
    let mut client = Client::connect();
    client.exchange("/a").await;
    let started = Instant::now();
    client.send("GET /b HTTP/1.1\r\n").await;
    let response = client.read_to("\r\n\r\n/").await;
    assert!(response.starts_with("HTTP/1.1 408 "), "{response}");
    assert!(
        started.elapsed() <= crate::Limits::default().head_timeout + Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
}

// RFC 9112 §2.2
#[tokio::test(start_paused = true)]
async fn empty_line_after_a_request_does_not_begin_another_one() {
    let mut client = Client::connect();
    client.exchange("/a").await;
    client.send("\r\n").await;
    let since = Instant::now();
    assert_eq!(client.socket.read(&mut [0; 1]).await.unwrap(), 0, "no response");
    assert!(since.elapsed() >= crate::Limits::default().idle_timeout);
    let mut client = Client::connect();
    client.send("POST /b HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx").await;
    client.read_to("/bx").await;
    client.send("\r\n").await;
    client.exchange("/c").await;
}

#[tokio::test(start_paused = true)]
async fn little_content_that_the_service_does_not_read_is_discarded() {
    let mut client = Client::connect();
    for length in [1, 100, 200_000] {
        client.send(&format!("POST /unread HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n")).await;
        let response = client.read_to("/unread").await;
        assert!(!response.contains("connection: close"), "{response}");
        client.send(&"x".repeat(length - 1)).await;
        sleep(Duration::from_secs(4)).await;
        client.send("x").await;
        client.exchange("/next").await;
    }
}

#[tokio::test(start_paused = true)]
async fn connection_closes_if_the_service_does_not_read_much_content() {
    for (head, announces) in [
        ("content-length: 300000", true),
        ("transfer-encoding: chunked", true),
        ("expect: 100-continue\r\ncontent-length: 10", true),
        // The content never arrives.
        ("content-length: 10", false),
    ] {
        let mut client = Client::connect();
        client.send(&format!("POST /unread HTTP/1.1\r\nhost: a\r\n{head}\r\n\r\n")).await;
        let response = client.read_to("/unread").await;
        assert_eq!(response.contains("connection: close"), announces, "{head}: {response}");
        let since = Instant::now();
        assert_eq!(client.socket.read(&mut [0; 1]).await.unwrap(), 0, "{head}");
        assert!(since.elapsed() < Duration::from_secs(10), "{head}");
    }
}

#[tokio::test(start_paused = true)]
async fn idle_connection_closes_after_the_idle_timeout() {
    let mut client = Client::connect();
    client.exchange("/a").await;
    let idle_timeout = crate::Limits::default().idle_timeout;
    let since = Instant::now();
    assert_eq!(client.socket.read(&mut [0; 1]).await.unwrap(), 0);
    let idle = since.elapsed();
    assert!(idle >= idle_timeout && idle <= idle_timeout * 5 / 4, "{idle:?}");
}

#[tokio::test(start_paused = true)]
async fn draining_closes_idle_connections_without_losing_a_sent_request() {
    let mut client = Client::connect();
    client.exchange("/a").await;
    let since = Instant::now();
    client.draining.send(true).unwrap();
    assert_eq!(client.socket.read(&mut [0; 1]).await.unwrap(), 0);
    assert!(since.elapsed() < Duration::from_secs(1));

    let mut client = Client::connect();
    client.exchange("/a").await;
    client.draining.send(true).unwrap();
    client.send("GET /b HTTP/1.1\r\nhost: a\r\n\r\n").await;
    client.read_to("/b").await;
    assert_eq!(client.socket.read(&mut [0; 1]).await.unwrap(), 0);
}
