//! Tests of the limits and timeouts of HTTP/2 connections and streams (RFC 9113).

use std::convert::Infallible;
use std::time::{Duration, Instant};

use crate::h2::{
    ACK, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS, Server, field,
    get,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use rproxy_request_guard::RequestGuardLayer;
use rproxy_server::{Limits, RequestBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::{Layer, service_fn};

/// Starts a server that responds with as many bytes as the path specifies, and echoes the data of a tunnel.
fn start(limits: impl FnOnce(&mut Limits)) -> Server {
    Server::start(limits, |_| {
        RequestGuardLayer::new().layer(service_fn(
            async |mut request: Request<rproxy_request_guard::GuardBody<RequestBody>>| {
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
fn missing_http2_preface_closes_the_connection_after_the_head_timeout() {
    let server = start(|limits| limits.head_timeout = SHORT);
    for begins in [&b""[..], &b"PRI * HTTP/2.0\r\n"[..], &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0"[..]] {
        let mut client = server.connect();
        client.send(begins);
        client.wait_for_close();
    }
}

#[test]
fn idle_connection_gets_goaway_after_the_idle_timeout() {
    let server = start(|limits| limits.idle_timeout = SHORT);
    let mut client = server.client(&[]);
    client.wait_for_close();
    assert!(client.has_received_goaway());
}

#[test]
fn incomplete_head_closes_the_connection_after_the_idle_timeout() {
    let server = start(|limits| limits.idle_timeout = SHORT);
    let mut client = server.client(&[]);
    client.send(&Frame::new(HEADERS, END_STREAM, 1, get("/")).bytes());
    client.wait_for_close();
}

#[test]
fn stream_with_a_closed_window_is_reset_after_the_send_timeout() {
    let server = start(|limits| limits.send_timeout = SHORT);
    // RFC 9113 §6.5.2: SETTINGS_INITIAL_WINDOW_SIZE.
    for window in [0, 1] {
        let mut client = server.client(&[(4, window)]);
        client.send(&Frame::new(HEADERS, END_HEADERS | END_STREAM, 1, get("/100000")).bytes());
        client.send(&Frame::new(HEADERS, END_HEADERS | END_STREAM, 3, get("/0")).bytes());
        assert!(
            client.wait_for(|frame| frame.kind == HEADERS && frame.stream == 3).is_some(),
            "other streams are served"
        );
        if window == 0 {
            assert!(client.wait_for(|frame| frame.kind == RST_STREAM && frame.stream == 1).is_some());
        }
        // The connection stays open.
        client.send(&Frame::new(HEADERS, END_HEADERS | END_STREAM, 5, get("/0")).bytes());
        assert!(client.wait_for(|frame| frame.kind == HEADERS && frame.stream == 5).is_some());
    }
}

#[test]
fn unread_response_does_not_keep_an_idle_connection_open() {
    let server = start(|limits| limits.idle_timeout = SHORT);
    let mut client = server.client(&[(4, 1)]);
    client.send(&Frame::new(HEADERS, END_HEADERS | END_STREAM, 1, get("/100000")).bytes());
    assert!(client.wait_for(|frame| frame.kind == DATA).is_some());
    client.wait_for_close();
    assert_eq!(server.connections(), 0);
}

#[test]
fn flood_of_frames_without_content_closes_the_http2_connection() {
    let server = start(|_| {});
    for (name, flood) in [
        ("PING", Frame::new(PING, 0, 0, vec![0; 8])),
        ("SETTINGS", Frame::new(SETTINGS, 0, 0, vec![])),
        ("PRIORITY", Frame::new(PRIORITY, 0, 3, vec![0, 0, 0, 0, 1])),
        ("unknown", Frame::new(0xbe, 0, 0, vec![])),
    ] {
        let mut client = server.client(&[]);
        assert!(client.flood(&flood.bytes(), 100_000), "{name}");
    }
    // RFC 9113 §10.5: empty DATA frames on an open stream.
    let mut client = server.client(&[]);
    client.send(&Frame::new(HEADERS, END_HEADERS, 1, get("/0")).bytes());
    assert!(client.flood(&Frame::new(DATA, 0, 1, vec![]).bytes(), 100_000));
}

#[test]
fn replies_to_occasional_pings() {
    let server = start(|_| {});
    let mut client = server.client(&[]);
    for number in 0..1000_u64 {
        client.send(&Frame::new(PING, 0, 0, number.to_be_bytes().to_vec()).bytes());
        let pong = client.wait_for(|frame| frame.kind == PING && frame.flags == ACK).unwrap();
        assert_eq!(pong.payload, number.to_be_bytes());
    }
}

#[test]
fn flood_of_continuation_frames_closes_the_connection() {
    let server = start(|_| {});
    let mut client = server.client(&[]);
    client.send(&Frame::new(HEADERS, END_STREAM, 1, get("/")).bytes());
    assert!(client.flood(&Frame::new(9, 0, 1, field("x", "y")).bytes(), 100_000));
}

#[test]
fn rapid_reset_attack_closes_the_connection() {
    let server = start(|_| {});
    let mut client = server.client(&[]);
    let mut bytes = Vec::new();
    for stream in (1..20_000).step_by(2) {
        bytes.extend(Frame::new(HEADERS, END_HEADERS | END_STREAM, stream, get("/0")).bytes());
        bytes.extend(Frame::new(RST_STREAM, 0, stream, vec![0, 0, 0, 8]).bytes());
    }
    assert!(client.flood(&bytes, 1));
}

#[test]
fn large_request_heads_get_431_or_414_and_the_connection_stays_open() {
    let server = start(|_| {});
    // RFC 9113 §6.5.2: SETTINGS_HEADER_TABLE_SIZE of 0, so that each status is a literal.
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
        let response = client.wait_for(|frame| frame.kind == HEADERS && frame.stream == stream).unwrap();
        assert_eq!(crate::h2::status(&response.payload), status);
        stream += 2;
    }
}

#[test]
fn refuses_streams_over_the_concurrency_limit() {
    let server = start(|limits| limits.concurrent_streams = 2);
    let mut client = server.client(&[(4, 0)]);
    for stream in [1, 3, 5] {
        client.send(&Frame::new(HEADERS, END_HEADERS | END_STREAM, stream, get("/10")).bytes());
    }
    let refused = client.wait_for(|frame| frame.kind == RST_STREAM).unwrap();
    // RFC 9113 §7: REFUSED_STREAM.
    assert_eq!((refused.stream, refused.payload), (5, vec![0, 0, 0, 7]));
}

#[test]
fn connection_closes_gracefully_at_the_request_limit() {
    let server = start(|limits| limits.requests = std::num::NonZeroU64::new(2));
    let mut client = server.client(&[]).with_ping_replies();
    for stream in [1, 3] {
        client.send(&Frame::new(HEADERS, END_HEADERS | END_STREAM, stream, get("/0")).bytes());
        assert!(client.wait_for(|frame| frame.kind == HEADERS && frame.stream == stream).is_some());
    }
    client.wait_for_close();
    assert!(client.has_received_goaway());
}

#[test]
fn silent_tunnel_does_not_count_as_idle() {
    let server = start(|limits| (limits.idle_timeout, limits.send_timeout) = (SHORT, SHORT));
    let mut client = server.client(&[]).with_ping_replies();
    let fields = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":path", "/")];
    let head: Vec<u8> = fields.iter().chain(&[(":authority", "localhost")]).flat_map(|(n, v)| field(n, v)).collect();
    client.send(&Frame::new(HEADERS, END_HEADERS, 1, head).bytes());
    assert!(client.wait_for(|frame| frame.kind == HEADERS).is_some());
    client.expect_open_for(SHORT * 5);
    client.send(&Frame::new(DATA, 0, 1, b"still there?".to_vec()).bytes());
    let echo = client.wait_for(|frame| frame.kind == DATA).unwrap();
    assert_eq!(echo.payload, b"still there?");
}

#[test]
fn draining_finishes_open_http2_streams() {
    let server = start(|_| {});
    let mut client = server.client(&[(4, 0)]).with_ping_replies();
    client.send(&Frame::new(HEADERS, END_HEADERS | END_STREAM, 1, get("/10")).bytes());
    assert!(client.wait_for(|frame| frame.kind == HEADERS).is_some());
    let started = Instant::now();
    server.drain();
    assert!(client.wait_for(|frame| frame.kind == GOAWAY).is_some());
    // RFC 9113 §6.9.2: the window of open streams grows.
    client.send(&crate::h2::settings(&[(4, 100)]));
    assert_eq!(client.wait_for(|frame| frame.kind == DATA && frame.stream == 1).unwrap().payload.len(), 10);
    client.wait_for_close();
    assert!(started.elapsed() < Duration::from_secs(5));
}
