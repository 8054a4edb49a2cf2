//! Tests of TLS handshakes that clients do not complete.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::h2::Server;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use rproxy_server::{Limits, RequestBody};
use tower::service_fn;

fn start(limits: impl FnOnce(&mut Limits)) -> Server {
    Server::start(limits, |_| {
        service_fn(async |_: Request<RequestBody>| Ok::<_, Infallible>(Response::new(Full::new(Bytes::new()))))
    })
}

fn half_open(server: &Server) -> TcpStream {
    let mut socket = TcpStream::connect(server.address()).unwrap();
    socket.write_all(&[0x16, 3, 1]).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket
}

#[test]
fn new_tls_handshakes_evict_incomplete_ones_at_the_limit() {
    let server = start(|limits| (limits.handshakes, limits.handshake_timeout) = (4, Duration::from_secs(3600)));
    let mut abandoned: Vec<_> = (0..20).map(|_| half_open(&server)).collect();
    for _ in 0..20 {
        server.client(&[]);
    }
    // The oldest ones are closed before the timeout of an hour.
    for socket in &mut abandoned[..16] {
        assert!(matches!(socket.read(&mut [0; 64]), Ok(0) | Err(_)));
    }
}

#[test]
fn incomplete_handshake_closes_the_connection_after_the_handshake_timeout() {
    let server = start(|limits| limits.handshake_timeout = Duration::from_millis(200));
    let mut socket = half_open(&server);
    assert!(matches!(socket.read(&mut [0; 64]), Ok(0)));
    assert_eq!(server.connections(), 0);
}
