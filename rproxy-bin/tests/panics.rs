//! Tests that a panic fails only the request that caused the panic, and that the worker continues.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use rproxy::Config;
use rproxy::error_response::{ErrorHooks, ErrorResponseLayer};
use rproxy::observe::{Metrics, ObserveLayer};
use rproxy_server::{RequestBody, RunningServer, Server};
use tower::{BoxError, ServiceBuilder, service_fn};

/// A response body with one frame, which can panic after the frame.
struct Part {
    is_sent: bool,
    panics: bool,
}

impl Body for Part {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if !std::mem::replace(&mut self.is_sent, true) {
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"hello")))));
        }
        assert!(!self.panics, "in the body");
        Poll::Ready(None)
    }
}

async fn response<B>(request: Request<B>) -> Result<Response<Part>, Infallible> {
    match request.uri().path() {
        "/in-the-future" => panic!("in the future"),
        path => Ok(Response::new(Part { is_sent: false, panics: path == "/in-the-body" })),
    }
}

fn send(stream: &mut TcpStream, path: &str) -> String {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: a.example\r\n\r\n").as_bytes()).unwrap();
    let mut response = String::new();
    let mut byte = [0];
    // Both kinds of responses end with one of these: the last chunk, or the text of a 500.
    while !response.ends_with("\r\n0\r\n\r\n") && !response.ends_with("Internal Server Error\n") {
        match stream.read(&mut byte) {
            Ok(1) => response.push(char::from(byte[0])),
            _ => break,
        }
    }
    response
}

fn connect(server: &RunningServer) -> TcpStream {
    let stream = TcpStream::connect(server.local_addr().unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn panic_fails_one_request_and_is_counted_and_logged() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).init();
    let metrics = Metrics::new();
    let observe = ObserveLayer::new(metrics.clone(), None);
    let server = Server::bind("127.0.0.1:0".parse().unwrap())
        .workers(1)
        .start(move |_| {
            ServiceBuilder::new()
                .layer(observe.clone())
                .layer(ErrorResponseLayer::with_hooks(ErrorHooks::default()))
                .service(service_fn(response::<RequestBody>))
        })
        .unwrap();

    let mut kept = connect(&server);
    for _ in 0..3 {
        let refused = send(&mut kept, "/in-the-future");
        assert!(refused.starts_with("HTTP/1.1 500 "), "{refused}");
        assert!(refused.contains("proxy-status: rproxy; error=proxy_internal_error"), "{refused}");
        assert!(send(&mut kept, "/").contains("hello"), "the connection stays open");
    }
    let mut cut = connect(&server);
    let broken = send(&mut cut, "/in-the-body");
    assert!(broken.starts_with("HTTP/1.1 200 ") && !broken.ends_with("0\r\n\r\n"), "{broken}");
    assert_eq!(cut.read(&mut [0]).unwrap_or(0), 0, "an incomplete chunked body ends the connection");
    assert!(send(&mut kept, "/").contains("hello"), "other connections are not affected");
    assert!(send(&mut connect(&server), "/").contains("hello"), "the worker continues");

    // The client receives the response a moment before its end is counted.
    let deadline = Instant::now() + Duration::from_secs(20);
    while !metrics.exposition().contains("rproxy_requests_in_flight 0\n") && Instant::now() < deadline {
        std::thread::yield_now();
    }
    let text = metrics.exposition();
    assert!(text.contains("rproxy_panics_total 4\n"), "{text}");
    assert!(text.contains("rproxy_requests_total{method=\"GET\",code=\"500\"} 3\n"), "{text}");
    assert!(text.contains("rproxy_requests_aborted_total 1\n"), "{text}");
    assert!(text.contains("rproxy_requests_in_flight 0\n"), "{text}");
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert_eq!(log.matches("panic while serving a request").count(), 4, "{log}");

    panic_below_all_layers();
}

/// Tests a panic below the whole layer stack instead of a single layer. It is part of the same test because panics are
/// counted per process.
fn panic_below_all_layers() {
    let stack = rproxy::stack(&Config::default()).unwrap();
    let server = Server::bind("127.0.0.1:0".parse().unwrap())
        .workers(1)
        .start(move |_| stack.wrap::<RequestBody, _, _>(service_fn(response)))
        .unwrap();
    let mut client = connect(&server);
    let refused = send(&mut client, "/in-the-future");
    assert!(refused.starts_with("HTTP/1.1 500 "), "{refused}");
    assert!(send(&mut client, "/").contains("hello"));
}
