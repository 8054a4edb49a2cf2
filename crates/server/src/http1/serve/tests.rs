//! Parking, on a clock that is paused: time passes when everybody waits.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use rproxy_client_ip::PeerAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tower::service_fn;

use super::*;
use crate::Server;
use crate::http1::Watch;
use http::uri::Scheme;

/// A connection that is served, seen from its client.
struct Client {
    socket: DuplexStream,
    served: JoinHandle<Result<(), (PeerAddr, BoxError)>>,
    /// Counts the services that there are.
    services: Arc<()>,
    draining: watch::Sender<bool>,
}

async fn echo(services: Arc<()>, request: Request<RequestBody>) -> Result<Response<Full<Bytes>>, Infallible> {
    let _service = services;
    let refused = request.extensions().get::<crate::RefusedHead>().is_some();
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let status = if refused { 408 } else { 200 };
    Ok(Response::builder().status(status).body(Full::from([path.as_bytes(), &body].concat())).unwrap())
}

impl Client {
    fn connect() -> Self {
        let (near, socket) = duplex(16 * 1024);
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let settings = Arc::new(Settings::new(&Server::bind(crate::Listen::Tcp(address))));
        let services = Arc::new(());
        let held = Arc::clone(&services);
        let (draining, is_draining) = watch::channel(false);
        let served = tokio::spawn(async move {
            let service = ConnectionService {
                inner: service_fn(move |request| echo(Arc::clone(&held), request)),
                peer: PeerAddr(address),
                scheme: Scheme::HTTP,
                tls: None,
                watch: Arc::new(Watch::default()),
                kept: Arc::default(),
            };
            serve(near, service, &settings, is_draining).await.map(|prior| assert!(prior.is_none()))
        });
        Self { socket, served, services, draining }
    }

    async fn send(&mut self, text: &str) {
        self.socket.write_all(text.as_bytes()).await.unwrap();
    }

    /// The next response, whose body ends with `end`.
    async fn read_to(&mut self, end: &str) -> String {
        let mut read = Vec::new();
        while !read.ends_with(end.as_bytes()) {
            let byte = self.socket.read_u8().await;
            read.push(byte.unwrap_or_else(|_| panic!("the end after {}", read.escape_ascii())));
        }
        String::from_utf8(read).unwrap()
    }

    async fn exchange(&mut self, path: &str) {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        let response = self.read_to(path).await;
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    }

    /// One for the test, one for the connection, and one for hyper's connection while there is one.
    fn is_parked(&self) -> bool {
        Arc::strong_count(&self.services) == 2
    }

    async fn park(&self) {
        sleep(Duration::from_secs(3)).await;
        assert!(self.is_parked());
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_parked_and_serves_on() {
    let mut client = Client::connect();
    for path in ["/a", "/b", "/c"] {
        client.exchange(path).await;
        client.park().await;
    }
    // Two at once, and one with a body, which hyper has for a while.
    client.send("GET /d HTTP/1.1\r\nhost: a\r\n\r\nPOST /e HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nxy").await;
    client.read_to("/d").await;
    client.read_to("/exy").await;
    assert!(!client.is_parked());
    client.park().await;
    client.exchange("/f").await;
    drop(client.socket);
    assert!(client.served.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_never_asked_is_parked_and_serves() {
    let mut client = Client::connect();
    client.park().await;
    client.exchange("/a").await;
}

#[tokio::test(start_paused = true)]
async fn a_head_that_wakes_a_parked_connection_may_come_in_pieces() {
    let mut client = Client::connect();
    client.exchange("/a").await;
    client.park().await;
    for piece in ["G", "ET /b HT", "TP/1.1\r\nhost: a\r\n", "\r", "\n"] {
        client.send(piece).await;
        sleep(Duration::from_secs(2)).await;
    }
    client.read_to("/b").await;
}

#[tokio::test(start_paused = true)]
async fn a_head_that_wakes_a_parked_connection_and_stops_gets_408() {
    let mut client = Client::connect();
    client.exchange("/a").await;
    client.park().await;
    let began = Instant::now();
    client.send("GET /b HTTP/1.1\r\n").await;
    let response = client.read_to("\r\n\r\n/").await;
    assert!(response.starts_with("HTTP/1.1 408 "), "{response}");
    assert!(began.elapsed() <= crate::Limits::default().head_timeout + Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_parked_connection_ends_after_the_idle_time() {
    let mut client = Client::connect();
    client.exchange("/a").await;
    let idle_timeout = crate::Limits::default().idle_timeout;
    let since = Instant::now();
    assert_eq!(client.socket.read(&mut [0; 1]).await.unwrap(), 0);
    let idle = since.elapsed();
    assert!(idle >= idle_timeout && idle <= idle_timeout * 5 / 4, "{idle:?}");
}

#[tokio::test(start_paused = true)]
async fn draining_ends_a_parked_connection_and_loses_no_request() {
    let mut client = Client::connect();
    client.exchange("/a").await;
    client.park().await;
    let since = Instant::now();
    client.draining.send(true).unwrap();
    assert_eq!(client.socket.read(&mut [0; 1]).await.unwrap(), 0);
    assert!(since.elapsed() < Duration::from_secs(1));

    let mut client = Client::connect();
    client.exchange("/a").await;
    client.park().await;
    client.draining.send(true).unwrap();
    client.send("GET /b HTTP/1.1\r\nhost: a\r\n\r\n").await;
    client.read_to("/b").await;
    assert_eq!(client.socket.read(&mut [0; 1]).await.unwrap(), 0);
}
