//! Tests of HTTP/2 floods of frames and invalid requests, which close the connection (RFC 9113 §10.5).

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::h2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, HEADERS, PRIORITY, RST_STREAM, Server, WINDOW_UPDATE, field,
    get, literal,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use rproxy_request_guard::{GuardBody, RequestGuardLayer};
use rproxy_server::{Limits, RejectedHead, RequestBody};
use tower::{Layer, service_fn};

// RFC 9113 §7.
const ENHANCE_YOUR_CALM: u32 = 11;

/// The number of requests that reached the service: served, malformed and too large.
#[derive(Debug, Default)]
struct Counts {
    served: AtomicUsize,
    malformed: AtomicUsize,
    too_large: AtomicUsize,
}

impl Counts {
    fn all(&self) -> (usize, usize, usize) {
        (self.served.load(Relaxed), self.malformed.load(Relaxed), self.too_large.load(Relaxed))
    }

    /// Waits until the service has received the expected number of requests of each kind.
    fn wait_for(&self, expected: (usize, usize, usize)) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.all() != expected && Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert_eq!(self.all(), expected);
    }
}

/// Starts a server with a request guard and a service that never responds to requests for `/wait`.
fn start() -> (Server, Arc<Counts>) {
    start_with(|_| {})
}

fn start_with(set_limits: impl FnOnce(&mut Limits)) -> (Server, Arc<Counts>) {
    let counts = Arc::new(Counts::default());
    let shared = Arc::clone(&counts);
    let server = Server::start(set_limits, move |_| {
        let counts = Arc::clone(&shared);
        let guard = RequestGuardLayer::new().layer(service_fn(async |request: Request<GuardBody<RequestBody>>| {
            if request.uri().path() == "/wait" {
                std::future::pending::<()>().await;
            }
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"served"))))
        }));
        service_fn(move |request: Request<RequestBody>| {
            let count = match request.extensions().get() {
                None => &counts.served,
                Some(RejectedHead::TooLarge) => &counts.too_large,
                Some(_) => &counts.malformed,
            };
            count.fetch_add(1, Relaxed);
            tower::ServiceExt::oneshot(guard.clone(), request)
        })
    });
    (server, counts)
}

fn head(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| field(name, value)).collect()
}

/// Returns a request head with too many fields for h2, each encoded in three bytes.
fn large() -> Vec<u8> {
    [get("/"), literal(b"a", b"").repeat(2000)].concat()
}

fn request(stream: u32, head: &[u8], end: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut pieces = head.chunks(16_384).enumerate().peekable();
    while let Some((number, piece)) = pieces.next() {
        let (kind, flags) = if number == 0 { (HEADERS, end) } else { (CONTINUATION, 0) };
        let flags = if pieces.peek().is_none() { flags | END_HEADERS } else { flags };
        bytes.extend(Frame::new(kind, flags, stream, piece.to_vec()).bytes());
    }
    bytes
}

#[test]
fn exceeding_the_rate_of_streams_with_protocol_errors_closes_the_connection() {
    let (server, counts) = start();
    let open = |stream| request(stream, &get("/wait"), 0);
    let overflow = |stream| {
        let update = Frame::new(WINDOW_UPDATE, 0, stream, 0x7fff_ffff_u32.to_be_bytes().to_vec()).bytes();
        [open(stream), update].concat()
    };
    let self_dependency = |stream: u32| {
        let priority = [&stream.to_be_bytes()[..], &[1]].concat();
        [open(stream), Frame::new(PRIORITY, 0, stream, priority).bytes()].concat()
    };
    let too_long = |stream| {
        let head = [get("/wait"), field("content-length", "1")].concat();
        [request(stream, &head, 0), Frame::new(DATA, 0, stream, b"xx".to_vec()).bytes()].concat()
    };
    type Attack<'a> = &'a dyn Fn(u32) -> Vec<u8>;
    for (name, attack) in [
        ("WINDOW_UPDATE overflow", &overflow as Attack<'_>),
        ("PRIORITY self-dependency", &self_dependency),
        ("more than content-length", &too_long),
    ] {
        let before = counts.all().0;
        let mut client = server.client(&[]);
        let mut resets = 0;
        for stream in (1..2000).step_by(2) {
            client.send(&attack(stream));
            let Some(frame) = client.wait_for(|frame| matches!(frame.kind, RST_STREAM | crate::h2::GOAWAY)) else {
                break;
            };
            if frame.kind == crate::h2::GOAWAY {
                assert_eq!(frame.payload[4..8], ENHANCE_YOUR_CALM.to_be_bytes(), "{name}");
                break;
            }
            resets += 1;
        }
        client.wait_for_close();
        // A burst of 20, and one per second.
        assert!((20..25).contains(&resets), "{name}: {resets}");
        assert!(counts.all().0 - before <= 25, "{name}");
    }
}

#[test]
fn heads_that_h2_rejects_reach_the_service_as_rejected_heads() {
    let (server, counts) = start();
    let mut client = server.client(&[]);
    let get = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/")];
    let malformed = [
        head(&get[1..]),
        head(&get[..3]),
        head(&[&get[..], &[(":path", "/")]].concat()),
        head(&[&get[..], &[("x", "y"), (":scheme", "https")]].concat()),
        head(&[&get[..], &[("connection", "close")]].concat()),
        head(&[&get[..], &[("transfer-encoding", "chunked")]].concat()),
        head(&[&get[..], &[("te", "gzip")]].concat()),
        head(&[&get[..], &[(":status", "200")]].concat()),
        head(&[&get[..], &[("content-length", "x")]].concat()),
        head(&[&get[..3], &[(":path", "/\u{7f}")]].concat()),
    ];
    let mut stream = 1;
    for (number, head) in malformed.iter().enumerate() {
        client.send(&request(stream, head, END_STREAM));
        client.send(&request(stream + 2, &self::get("/"), END_STREAM));
        assert!(client.wait_for(|frame| frame.kind == RST_STREAM && frame.stream == stream).is_some(), "{number}");
        assert!(client.wait_for(|frame| frame.kind == HEADERS && frame.stream == stream + 2).is_some());
        counts.wait_for((number + 1, number + 1, 0));
        stream += 4;
    }
    // RFC 9113 §5.3.1: a stream that depends on itself, and a head with an invalid field in CONTINUATION.
    let priority = [&stream.to_be_bytes()[..], &[1], &self::get("/")].concat();
    client.send(&Frame::new(HEADERS, END_HEADERS | END_STREAM | 0x20, stream, priority).bytes());
    let [first, rest] = [&malformed[4][..20], &malformed[4][20..]];
    client.send(&Frame::new(HEADERS, END_STREAM, stream + 2, first.to_vec()).bytes());
    client.send(&Frame::new(CONTINUATION, END_HEADERS, stream + 2, rest.to_vec()).bytes());
    assert!(client.wait_for(|frame| frame.kind == RST_STREAM && frame.stream == stream + 2).is_some());
    counts.wait_for((10, 12, 0));
    // A head that h2 rejects with 431, and one that the server rejects with 431.
    client.send(&request(stream + 4, &large(), END_STREAM));
    let response = client.wait_for(|frame| frame.kind == HEADERS && frame.stream == stream + 4).unwrap();
    assert_eq!(response.flags & END_STREAM, END_STREAM);
    counts.wait_for((10, 12, 1));
    let some = [self::get("/"), literal(b"a", b"").repeat(200)].concat();
    client.send(&request(stream + 6, &some, END_STREAM));
    assert!(client.wait_for(|frame| frame.kind == HEADERS && frame.stream == stream + 6).is_some());
    counts.wait_for((10, 12, 2));
}

/// Tests targets around 65,534 bytes, the longest that h2 parses, with limits that would allow more.
#[test]
fn each_long_target_reaches_the_service_or_is_rejected_through_it() {
    let (server, counts) = start_with(|limits| (limits.head_size, limits.target_size) = (1 << 20, 1 << 20));
    let mut client = server.client(&[]);
    let mut expected = (0, 0, 0);
    for (stream, (length, is_served)) in
        (1..).step_by(2).zip([(60_000, true), (65_534, true), (65_535, false), (66_000, false), (200_000, false)])
    {
        client.send(&request(stream, &get(&format!("/{}", "a".repeat(length - 1))), END_STREAM));
        let end =
            client.wait_for(|frame| matches!(frame.kind, HEADERS | RST_STREAM) && frame.stream == stream).unwrap();
        assert_eq!(end.kind == HEADERS, is_served, "{length}");
        if is_served {
            expected.0 += 1
        } else {
            expected.1 += 1
        }
        counts.wait_for(expected);
    }
}

#[test]
fn exceeding_the_rate_of_heads_that_h2_rejects_closes_the_connection() {
    let malformed = [get("/"), field("connection", "close")].concat();
    for (name, head) in [("malformed", malformed), ("too large", large())] {
        let (server, counts) = start();
        let mut client = server.client(&[]);
        let started = Instant::now();
        // Ten at a time: h2 rejects all heads that it has read before the server can count the first of them.
        for first in (1..400).step_by(20) {
            let heads = (first..first + 20).step_by(2).flat_map(|stream| request(stream, &head, END_STREAM));
            client.send(&heads.collect::<Vec<u8>>());
            let last = first + 18;
            let end = client.wait_for(|frame| frame.kind == crate::h2::GOAWAY || frame.stream == last);
            if end.is_none_or(|frame| frame.kind == crate::h2::GOAWAY) {
                break;
            }
        }
        client.wait_for_close();
        assert!(started.elapsed() < Duration::from_secs(5), "{name}");
        // The burst, and those that were read before the responses were written.
        let (served, malformed, too_large) = counts.all();
        assert!(served == 0 && malformed + too_large <= 130, "{name}: {malformed}, {too_large}");
    }
}

#[test]
fn exceeding_the_rate_of_rejected_requests_closes_the_connection() {
    let (server, _) = start();
    for (name, head) in [
        ("another host", [get("/"), field("host", "another.example")].concat()),
        ("too many fields", [get("/"), literal(b"a", b"").repeat(101)].concat()),
        ("CONNECT", head(&[(":method", "CONNECT"), (":authority", "localhost:443")])),
    ] {
        let mut client = server.client(&[]);
        let mut rejected = 0;
        let goaway = loop {
            client.send(&request(2 * rejected + 1, &head, END_STREAM));
            let response = client.wait_for(|frame| matches!(frame.kind, HEADERS | crate::h2::GOAWAY)).unwrap();
            if response.kind == crate::h2::GOAWAY {
                break response;
            }
            rejected += 1;
            assert!(rejected < 1000, "{name}");
        };
        assert_eq!(goaway.payload[4..8], ENHANCE_YOUR_CALM.to_be_bytes(), "{name}");
        client.wait_for_close();
        assert!((99..130).contains(&rejected), "{name}: {rejected}");
    }
    // Served requests do not count.
    let mut client = server.client(&[]);
    for stream in (1..800).step_by(2) {
        client.send(&request(stream, &get("/"), END_STREAM));
        assert!(client.wait_for(|frame| frame.kind == HEADERS && frame.stream == stream).is_some());
    }
}

#[test]
fn refused_streams_close_the_connection_only_at_a_high_rate() {
    let (server, _) = start();
    let mut client = server.client(&[]);
    for stream in (1..1200).step_by(2) {
        client.send(&request(stream, &get("/wait"), END_STREAM));
    }
    // RFC 9113 §7: REFUSED_STREAM.
    let last = client.wait_for(|frame| frame.kind == RST_STREAM && frame.stream == 1199).unwrap();
    assert_eq!(last.payload, [0, 0, 0, 7]);
    let mut bytes = Vec::new();
    for stream in (1201..20_000).step_by(2) {
        bytes.extend(request(stream, &get("/wait"), END_STREAM));
    }
    client.send(&bytes);
    assert_eq!(client.wait_for_goaway(), Some(ENHANCE_YOUR_CALM));
}

#[test]
fn split_cookie_fields_count_as_one_header_field() {
    let (server, counts) = start();
    let mut client = server.client(&[]);
    let cookies: Vec<u8> = (0..200).flat_map(|n| field("cookie", &format!("cookie-{n}={}", "v".repeat(100)))).collect();
    client.request(1, &[get("/"), cookies].concat());
    let response = client.wait_for(|frame| frame.kind == HEADERS).unwrap();
    assert_eq!(crate::h2::status(&response.payload), "200");
    // Joined, they exceed the limit of a head.
    let cookies: Vec<u8> = (0..33).flat_map(|_| field("cookie", &"v".repeat(1000))).collect();
    client.request(3, &[get("/"), cookies].concat());
    let response = client.wait_for(|frame| frame.kind == HEADERS).unwrap();
    assert_eq!(crate::h2::status(&response.payload), "431");
    counts.wait_for((1, 0, 1));
}
