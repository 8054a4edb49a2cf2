//! Tests of settings that change while the server runs.

use std::convert::Infallible;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::num::NonZeroU64;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use rproxy_request_guard::{GuardBody, RequestGuardLayer};
use rproxy_server::{Limits, RequestBody, RunningServer, Server};
use socket2::SockRef;
use tower::{Layer, service_fn};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn server() -> Server {
    Server::bind("127.0.0.1:0".parse().unwrap()).workers(1)
}

fn with_limits(change: impl FnOnce(&mut Limits)) -> Server {
    let mut limits = Limits::default();
    change(&mut limits);
    server().limits(limits)
}

/// Starts a server that never responds to `/wait`.
fn start(server: Server) -> RunningServer {
    let service = service_fn(async |request: Request<GuardBody<RequestBody>>| {
        if request.uri().path() == "/wait" {
            std::future::pending::<()>().await;
        }
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("hello")))
    });
    server.start(move |_| RequestGuardLayer::new().layer(service)).unwrap()
}

fn connect(server: &RunningServer) -> TcpStream {
    let stream = TcpStream::connect(server.local_addr().unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// Sends a request, and returns the status of the response.
fn status(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = [0; 4096];
    let length = stream.read(&mut head).unwrap();
    String::from_utf8_lossy(&head[..length]).split(' ').nth(1).unwrap_or_default().to_owned()
}

#[test]
fn updated_limits_apply_to_new_connections() {
    let server = start(server());
    let mut old = connect(&server);
    assert_eq!(status(&mut old, GET), "200");
    server.update(with_limits(|limits| limits.target_size = 64));
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(100));
    assert_eq!(status(&mut connect(&server), &long), "414");
    assert_eq!(status(&mut old, &long), "200", "an open connection keeps its limits");

    server.update(with_limits(|limits| limits.requests = NonZeroU64::new(1)));
    let mut stream = connect(&server);
    assert_eq!(status(&mut stream, GET), "200");
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "closed after one request");

    server.update(with_limits(|limits| limits.idle_timeout = Duration::from_millis(100)));
    let mut stream = connect(&server);
    assert_eq!(status(&mut stream, GET), "200");
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "closed by the idle timeout");
}

#[test]
fn raising_the_connection_limit_accepts_a_waiting_connection() {
    let server = start(with_limits(|limits| limits.connections = 1));
    let mut first = connect(&server);
    assert_eq!(status(&mut first, GET), "200");
    let mut second = connect(&server);
    second.write_all(GET.as_bytes()).unwrap();
    second.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let waits = second.read(&mut [0]).unwrap_err();
    assert!(matches!(waits.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{waits}");
    server.update(with_limits(|limits| limits.connections = 2));
    second.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(status(&mut second, GET), "200");
}

#[test]
fn updated_connection_limit_applies_to_each_client() {
    let server = start(server());
    let mut first = connect(&server);
    assert_eq!(status(&mut first, GET), "200");
    server.update(with_limits(|limits| limits.connections_per_client = 1));
    assert_eq!(connect(&server).read(&mut [0]).unwrap_or(0), 0, "closed, because the client has one connection");
    let exempt = with_limits(|limits| limits.connections_per_client = 1).exempt_proxies("loopback".parse().unwrap());
    server.update(exempt);
    assert_eq!(status(&mut connect(&server), GET), "200");
}

#[cfg(target_os = "linux")]
#[test]
fn updated_send_timeout_applies_to_existing_listeners() {
    let server = start(server());
    server.update(with_limits(|limits| limits.send_timeout = Duration::from_secs(7)));
    for socket in server.handle().listeners().unwrap() {
        assert_eq!(SockRef::from(&socket).tcp_user_timeout().unwrap(), Some(Duration::from_secs(7)));
    }
}

#[tokio::test]
async fn drain_uses_the_updated_timeout() {
    let server = start(server().drain_timeout(Duration::from_secs(3600)));
    let mut stream = connect(&server);
    assert_eq!(status(&mut stream, GET), "200");
    stream.write_all(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    server.update(self::server().drain_timeout(Duration::from_millis(50)));
    server.handle().drain();
    tokio::time::timeout(Duration::from_secs(20), server.wait()).await.unwrap();
}

#[tokio::test]
async fn address_can_be_bound_again_after_the_server_stopped_listening() {
    let mut address = "127.0.0.1:0".parse().unwrap();
    for _ in 0..50 {
        let server = start(Server::bind(address).workers(2));
        address = server.local_addr().unwrap().into();
        // An open connection does not prevent it.
        let mut stream = connect(&server);
        assert_eq!(status(&mut stream, GET), "200");
        server.handle().drain();
        server.handle().stopped_listening().await;
    }
}
