//! Conformance tests of the HTTP/2 server against RFC 9113 and RFC 7541.

use std::convert::Infallible;

use crate::h2::{Client, PREFACE, Server};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use rproxy_server::RequestBody;
use tower::service_fn;

async fn response(request: Request<RequestBody>) -> Result<Response<Full<Bytes>>, Infallible> {
    let _ = request.into_body().collect().await;
    Ok(Response::new(Full::new(Bytes::from_static(b"conformance"))))
}

fn start() -> Server {
    Server::start(|_| {}, |_| service_fn(response))
}

fn start_plaintext() -> Server {
    Server::start_plaintext(|server| server, |_| service_fn(response))
}

#[test]
fn http2_over_tls_passes_the_conformance_cases() {
    let server = start();
    crate::conformance_support::run(|| server.connect());
}

#[test]
fn http2_without_tls_passes_the_conformance_cases() {
    let server = start_plaintext();
    crate::conformance_support::run(|| server.connect());
}

#[test]
fn invalid_http2_preface_closes_the_connection() {
    let wrong = [
        &b"INVALID CONNECTION PREFACE\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r!",
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
    ];
    // Without TLS, the last one is a valid HTTP/1.1 request.
    for (server, wrong) in [(start(), &wrong[..]), (start_plaintext(), &wrong[..2])] {
        for wrong in wrong {
            let mut client: Client = server.connect();
            client.send(wrong);
            client.wait_for_close();
        }
        // RFC 9113 §3.4: the server starts with its settings.
        let mut client = server.connect();
        client.send(PREFACE);
        client.send(&crate::h2::settings(&[]));
        assert!(client.wait_for(|_| true).is_some_and(|frame| frame.kind == crate::h2::SETTINGS && frame.flags == 0));
    }
}
