//! Tests that only END_STREAM ends request content over HTTP/2 (RFC 9113 §8.1).

use std::convert::Infallible;
use std::io;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::h2::{Client, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, RST_STREAM, Server, field};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use rproxy_server::RequestBody;
use tokio::io::AsyncReadExt;
use tower::service_fn;

const TIMEOUT: Duration = Duration::from_secs(20);

/// The request content that the service read, and whether it ended without an error.
type Read = (Vec<u8>, Result<(), ()>);

/// Starts a server that reports the content of each request or tunnel to the test. It never reads the content of
/// `/stuck`.
fn start() -> (Server, mpsc::Receiver<Read>) {
    let (reads, read) = mpsc::channel();
    let server = Server::start(
        |_| {},
        move |_| {
            let reads = reads.clone();
            service_fn(move |mut request: Request<RequestBody>| {
                let reads = reads.clone();
                async move {
                    if request.method() == Method::CONNECT {
                        let upgrade = hyper::upgrade::on(&mut request);
                        tokio::spawn(async move {
                            let mut tunnel = TokioIo::new(upgrade.await.unwrap());
                            let mut bytes = Vec::new();
                            let end: io::Result<_> = tunnel.read_to_end(&mut bytes).await;
                            reads.send((bytes, end.map(drop).map_err(drop))).unwrap();
                        });
                    } else if request.uri().path() == "/stuck" {
                        // Keeps the content unread.
                        let _request = request;
                        std::future::pending::<()>().await;
                    } else {
                        let mut body = request.into_body();
                        let mut bytes = Vec::new();
                        let end = loop {
                            match body.frame().await {
                                Some(Ok(frame)) => bytes.extend(frame.into_data().unwrap_or_default()),
                                Some(Err(_)) => break Err(()),
                                None => break Ok(()),
                            }
                        };
                        reads.send((bytes, end)).unwrap();
                    }
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
                }
            })
        },
    );
    (server, read)
}

fn post(path: &str, length: Option<usize>) -> Vec<u8> {
    let fields = [(":method", "POST"), (":scheme", "https"), (":authority", "localhost"), (":path", path)];
    let mut head: Vec<u8> = fields.iter().flat_map(|(name, value)| field(name, value)).collect();
    if let Some(length) = length {
        head.extend(field("content-length", &length.to_string()));
    }
    head
}

fn connect() -> Vec<u8> {
    let fields = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":path", "/")];
    fields.iter().chain(&[(":authority", "localhost")]).flat_map(|(name, value)| field(name, value)).collect()
}

fn data(client: &mut Client, stream: u32, data: &[u8], flags: u8) {
    client.send(&Frame::new(DATA, flags, stream, data.to_vec()).bytes());
}

/// Sends a request head and half of the request content.
fn begin(client: &mut Client, head: &[u8]) {
    client.head(1, head, false);
    data(client, 1, b"half", 0);
    // Waits until the server has processed the frames.
    client.send(&Frame::new(6, 0, 0, vec![0; 8]).bytes());
    client.wait_for(|frame| frame.kind == 6).unwrap();
}

#[test]
fn reset_with_any_error_code_fails_the_request_body() {
    let (server, read) = start();
    for head in [post("/", None), post("/", Some(100)), post("/", Some(4)), connect()] {
        // RFC 9113 §7: NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, STREAM_CLOSED, CANCEL, and an unknown code.
        for code in [0, 1, 2, 5, 8, 0x100] {
            let mut client = server.client(&[]);
            begin(&mut client, &head);
            client.send(&Frame::new(RST_STREAM, 0, 1, u32::to_be_bytes(code).to_vec()).bytes());
            let (bytes, end) = read.recv_timeout(TIMEOUT).unwrap();
            assert!(b"half".starts_with(&bytes[..]));
            assert_eq!(end, Err(()), "code {code}");
        }
    }
}

#[test]
fn closed_connection_fails_the_request_body() {
    let (server, read) = start();
    for head in [post("/", None), post("/", Some(100)), connect()] {
        for last_frame in [vec![], Frame::new(GOAWAY, 0, 0, vec![0; 8]).bytes()] {
            let mut client = server.client(&[]);
            begin(&mut client, &head);
            client.send(&last_frame);
            drop(client);
            assert_eq!(read.recv_timeout(TIMEOUT).unwrap().1, Err(()));
        }
    }
}

#[test]
fn content_that_contradicts_content_length_resets_the_stream() {
    let (server, read) = start();
    for (length, flags, sent) in [(100, END_STREAM, &b"half"[..]), (3, 0, b"half"), (3, END_STREAM, b"half")] {
        let mut client = server.client(&[]);
        client.head(1, &post("/", Some(length)), false);
        data(&mut client, 1, sent, flags);
        assert!(client.wait_for(|frame| frame.kind == RST_STREAM && frame.stream == 1).is_some());
        assert_eq!(read.recv_timeout(TIMEOUT).unwrap().1, Err(()), "{length}");
    }
}

#[test]
fn end_stream_flag_ends_a_request_with_and_without_content() {
    let (server, read) = start();
    let mut client = server.client(&[]);
    client.head(1, &post("/", None), false);
    data(&mut client, 1, b"whole", END_STREAM);
    assert_eq!(read.recv_timeout(TIMEOUT).unwrap(), (b"whole".to_vec(), Ok(())));
    client.head(3, &post("/", Some(5)), false);
    data(&mut client, 3, b"whole", 0);
    client.head(3, &field("trailer", "x"), true);
    assert_eq!(read.recv_timeout(TIMEOUT).unwrap(), (b"whole".to_vec(), Ok(())));
    client.send(&Frame::new(HEADERS, END_HEADERS | END_STREAM, 5, post("/", None)).bytes());
    assert_eq!(read.recv_timeout(TIMEOUT).unwrap(), (vec![], Ok(())));
    // A half-closed tunnel (RFC 8441 §5.1).
    client.head(7, &connect(), false);
    data(&mut client, 7, b"whole", END_STREAM);
    assert_eq!(read.recv_timeout(TIMEOUT).unwrap(), (b"whole".to_vec(), Ok(())));
}

#[test]
fn unread_uploads_do_not_block_other_http2_streams() {
    let (server, read) = start();
    let mut client = server.client(&[]);
    // All streams except one use up their windows.
    let settings = client.stream_window();
    for stream in (1..2 * 127).step_by(2) {
        client.head(stream, &post("/stuck", None), false);
        let mut left = settings;
        while left > 0 {
            let piece = left.min(16_384);
            data(&mut client, stream, &vec![b'x'; piece], 0);
            left -= piece;
        }
    }
    let started = Instant::now();
    client.head(255, &post("/", None), false);
    let mut sent = 0;
    while sent < settings {
        let piece = (settings - sent).min(16_384);
        data(&mut client, 255, &vec![b'y'; piece], 0);
        sent += piece;
    }
    data(&mut client, 255, b"", END_STREAM);
    let (bytes, end) = read.recv_timeout(TIMEOUT).unwrap();
    assert_eq!((bytes.len(), end), (settings, Ok(())));
    assert!(started.elapsed() < Duration::from_secs(5));
}
