//! What the RFCs ask of a server of HTTP/2, case by case.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/conformance.rs"]
mod conformance;
#[path = "support/h2.rs"]
#[allow(dead_code)]
mod h2;

use std::convert::Infallible;

use bytes::Bytes;
use h2::{Client, PREFACE, Server};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use rproxy_server::RequestBody;
use tower::service_fn;

async fn answer(request: Request<RequestBody>) -> Result<Response<Full<Bytes>>, Infallible> {
    let _ = request.into_body().collect().await;
    Ok(Response::new(Full::new(Bytes::from_static(b"conformance"))))
}

fn start() -> Server {
    Server::start(|_| {}, |_| service_fn(answer))
}

fn start_in_the_clear() -> Server {
    Server::start_in_the_clear(|server| server, |_| service_fn(answer))
}

#[test]
fn each_case_of_the_specifications_ends_as_they_say() {
    let server = start();
    conformance::run(|| server.connect());
}

#[test]
fn each_case_ends_the_same_in_the_clear() {
    let server = start_in_the_clear();
    conformance::run(|| server.connect());
}

#[test]
fn something_else_than_the_preface_ends_the_connection() {
    let wrong = [
        &b"INVALID CONNECTION PREFACE\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r!",
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
    ];
    // In the clear, the last is a request.
    for (server, wrong) in [(start(), &wrong[..]), (start_in_the_clear(), &wrong[..2])] {
        for wrong in wrong {
            let mut client: Client = server.connect();
            client.send(wrong);
            client.ends();
        }
        // RFC 9113 §3.4: the server's settings come first, without being asked for.
        let mut client = server.connect();
        client.send(PREFACE);
        client.send(&h2::settings(&[]));
        assert!(client.until(|_| true).is_some_and(|frame| frame.kind == h2::SETTINGS && frame.flags == 0));
    }
}
