//! What an HTTP/2 client can make the server hold, frame by frame (RFC 9113).
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/h2.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod h2;

use std::convert::Infallible;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::{
    ACK, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS, Server, field,
    get,
};
use http::{Request, Response};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use rproxy_server::{Limits, RequestBody, RequestGuardLayer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::{Layer, service_fn};

/// Answers with as many bytes as the path says; an extended CONNECT becomes an echo.
fn start(limits: impl FnOnce(&mut Limits)) -> Server {
    Server::start(limits, |_| {
        RequestGuardLayer::new().layer(service_fn(
            async |mut request: Request<rproxy_server::GuardBody<RequestBody>>| {
                if request.method() == http::Method::CONNECT {
                    let upgrade = hyper::upgrade::on(&mut request);
                    tokio::spawn(async move {
                        let mut tunnel = TokioIo::new(upgrade.await.unwrap());
                        let mut bytes = [0; 64];
                        while let Ok(read @ 1..) = tunnel.read(&mut bytes).await {
                            tunnel.write_all(&bytes[..read]).await.unwrap();
                        }
                    });
                    return Ok::<_, Infallible>(Response::new(Full::default()));
                }
                let length = request.uri().path()[1..].parse().unwrap_or(0);
                Ok(Response::new(Full::new(Bytes::from(vec![b'x'; length]))))
            },
        ))
    })
}

const SHORT: Duration = Duration::from_millis(200);

#[test]
fn a_client_that_sends_no_preface_is_gone_after_the_head_timeout() {
    let server = start(|limits| limits.head_timeout = SHORT);
    for begins in [&b""[..], &b"PRI * HTTP/2.0\r\n"[..], &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0"[..]] {
        let mut client = server.connect();
        client.send(begins);
        client.ends();
    }
}

#[test]
fn a_client_that_asks_for_nothing_is_gone_after_the_idle_timeout() {
    let server = start(|limits| limits.idle_timeout = SHORT);
    let mut client = server.client(&[]);
    client.ends();
    assert!(client.was_told_to_go());
}

#[test]
fn a_head_that_never_ends_is_gone_after_the_idle_timeout() {
    let server = start(|limits| limits.idle_timeout = SHORT);
    let mut client = server.client(&[]);
    client.send(&Frame::new(HEADERS, END_STREAM, 1, get("/")).bytes());
    client.ends();
}

#[test]
fn a_stream_whose_window_never_opens_is_reset() {
    let server = start(|limits| limits.send_timeout = SHORT);
    // RFC 9113 §6.5.2: SETTINGS_INITIAL_WINDOW_SIZE.
    for window in [0, 1] {
        let mut client = server.client(&[(4, window)]);
        client.send(&Frame::new(HEADERS, END_HEADERS | END_STREAM, 1, get("/100000")).bytes());
        client.send(&Frame::new(HEADERS, END_HEADERS | END_STREAM, 3, get("/0")).bytes());
        assert!(client.until(|frame| frame.kind == HEADERS && frame.stream == 3).is_some(), "others are served");
        if window == 0 {
            assert!(client.until(|frame| frame.kind == RST_STREAM && frame.stream == 1).is_some());
        }
        // And the connection goes on.
        client.send(&Frame::new(HEADERS, END_HEADERS | END_STREAM, 5, get("/0")).bytes());
        assert!(client.until(|frame| frame.kind == HEADERS && frame.stream == 5).is_some());
    }
}

#[test]
fn what_a_client_never_takes_does_not_keep_the_connection() {
    let server = start(|limits| limits.idle_timeout = SHORT);
    let mut client = server.client(&[(4, 1)]);
    client.send(&Frame::new(HEADERS, END_HEADERS | END_STREAM, 1, get("/100000")).bytes());
    assert!(client.until(|frame| frame.kind == DATA).is_some());
    client.ends();
    assert_eq!(server.connections(), 0);
}

#[test]
fn floods_of_frames_that_ask_for_nothing_end_the_connection() {
    let server = start(|_| {});
    for (what, flood) in [
        ("PING", Frame::new(PING, 0, 0, vec![0; 8])),
        ("SETTINGS", Frame::new(SETTINGS, 0, 0, vec![])),
        ("PRIORITY", Frame::new(PRIORITY, 0, 3, vec![0, 0, 0, 0, 1])),
        ("unknown", Frame::new(0xbe, 0, 0, vec![])),
    ] {
        let mut client = server.client(&[]);
        assert!(client.floods(&flood.bytes(), 100_000), "{what}");
    }
    // RFC 9113 §10.5: DATA frames of no length, on a stream that is open.
    let mut client = server.client(&[]);
    client.send(&Frame::new(HEADERS, END_HEADERS, 1, get("/0")).bytes());
    assert!(client.floods(&Frame::new(DATA, 0, 1, vec![]).bytes(), 100_000));
}

#[test]
fn pings_now_and_then_are_answered() {
    let server = start(|_| {});
    let mut client = server.client(&[]);
    for number in 0..1000_u64 {
        client.send(&Frame::new(PING, 0, 0, number.to_be_bytes().to_vec()).bytes());
        let pong = client.until(|frame| frame.kind == PING && frame.flags == ACK).unwrap();
        assert_eq!(pong.payload, number.to_be_bytes());
    }
}

#[test]
fn a_flood_of_continuations_ends_the_connection() {
    let server = start(|_| {});
    let mut client = server.client(&[]);
    client.send(&Frame::new(HEADERS, END_STREAM, 1, get("/")).bytes());
    assert!(client.floods(&Frame::new(9, 0, 1, field("x", "y")).bytes(), 100_000));
}

#[test]
fn streams_that_are_reset_at_once_end_the_connection() {
    let server = start(|_| {});
    let mut client = server.client(&[]);
    let mut bytes = Vec::new();
    for stream in (1..20_000).step_by(2) {
        bytes.extend(Frame::new(HEADERS, END_HEADERS | END_STREAM, stream, get("/0")).bytes());
        bytes.extend(Frame::new(RST_STREAM, 0, stream, vec![0, 0, 0, 8]).bytes());
    }
    assert!(client.floods(&bytes, 1));
}

#[test]
fn large_heads_get_their_status_and_the_connection_goes_on() {
    let server = start(|_| {});
    // RFC 9113 §6.5.2: SETTINGS_HEADER_TABLE_SIZE, so that each status is written out.
    let mut client = server.client(&[(1, 0)]);
    let many: Vec<u8> = (0..101).flat_map(|number| field(&format!("x-{number}"), "y")).collect();
    let large: Vec<u8> = (0..9).flat_map(|number| field(&format!("x-{number}"), &"y".repeat(4000))).collect();
    let mut stream = 1;
    for (head, status) in [
        ([get("/"), many].concat(), "431"),
        ([get("/"), large].concat(), "431"),
        (get(&format!("/{}", "a".repeat(9000))), "414"),
        (get("/0"), "200"),
    ] {
        client.request(stream, &head);
        let answer = client.until(|frame| frame.kind == HEADERS && frame.stream == stream).unwrap();
        assert_eq!(h2::status(&answer.payload), status);
        stream += 2;
    }
}

#[test]
fn more_streams_than_are_allowed_are_refused() {
    let server = start(|limits| limits.concurrent_streams = 2);
    let mut client = server.client(&[(4, 0)]);
    for stream in [1, 3, 5] {
        client.send(&Frame::new(HEADERS, END_HEADERS | END_STREAM, stream, get("/10")).bytes());
    }
    let refused = client.until(|frame| frame.kind == RST_STREAM).unwrap();
    // RFC 9113 §7: REFUSED_STREAM.
    assert_eq!((refused.stream, refused.payload), (5, vec![0, 0, 0, 7]));
}

#[test]
fn after_so_many_requests_a_connection_ends_in_good_order() {
    let server = start(|limits| limits.requests = std::num::NonZeroU64::new(2));
    let mut client = server.client(&[]).polite();
    for stream in [1, 3] {
        client.send(&Frame::new(HEADERS, END_HEADERS | END_STREAM, stream, get("/0")).bytes());
        assert!(client.until(|frame| frame.kind == HEADERS && frame.stream == stream).is_some());
    }
    client.ends();
    assert!(client.was_told_to_go());
}

#[test]
fn a_tunnel_that_is_still_is_no_idle_connection() {
    let server = start(|limits| (limits.idle_timeout, limits.send_timeout) = (SHORT, SHORT));
    let mut client = server.client(&[]).polite();
    let fields = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":path", "/")];
    let head: Vec<u8> = fields.iter().chain(&[(":authority", "localhost")]).flat_map(|(n, v)| field(n, v)).collect();
    client.send(&Frame::new(HEADERS, END_HEADERS, 1, head).bytes());
    assert!(client.until(|frame| frame.kind == HEADERS).is_some());
    client.stays(SHORT * 5);
    client.send(&Frame::new(DATA, 0, 1, b"still there?".to_vec()).bytes());
    let echo = client.until(|frame| frame.kind == DATA).unwrap();
    assert_eq!(echo.payload, b"still there?");
}

#[test]
fn draining_lets_streams_end() {
    let server = start(|_| {});
    let mut client = server.client(&[(4, 0)]).polite();
    client.send(&Frame::new(HEADERS, END_HEADERS | END_STREAM, 1, get("/10")).bytes());
    assert!(client.until(|frame| frame.kind == HEADERS).is_some());
    let began = Instant::now();
    server.drain();
    assert!(client.until(|frame| frame.kind == GOAWAY).is_some());
    // RFC 9113 §6.9.2: the window of open streams grows.
    client.send(&h2::settings(&[(4, 100)]));
    assert_eq!(client.until(|frame| frame.kind == DATA && frame.stream == 1).unwrap().payload.len(), 10);
    client.ends();
    assert!(began.elapsed() < Duration::from_secs(5));
}
