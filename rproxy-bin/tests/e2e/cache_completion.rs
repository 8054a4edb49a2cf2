//! Tests of the cache with partially stored responses, and of requests that the cache repeats.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::upstream::{ok, read_head, scripted};
use crate::support::{Proxy, Response, TIMEOUT, exchange, request};

/// Starts a backend that records every request head and computes its response from the head. It closes the connection
/// after a response that ends in `|`.
fn backend(response: impl Fn(&str) -> String + Clone + Send + 'static) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&heads);
    let address = scripted(move |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            seen.lock().unwrap().push(head.clone());
            let response = response(&head);
            let bytes = response.strip_suffix('|').unwrap_or(&response);
            if stream.write_all(bytes.as_bytes()).is_err() || bytes.len() < response.len() {
                return;
            }
        }
    });
    (address, heads)
}

fn get(proxy: &Proxy, fields: &str) -> Response {
    request(proxy.address, &format!("GET /static/a.js HTTP/1.1\r\nhost: a.example\r\n{fields}\r\n"))
}

fn field(head: &str, name: &str) -> Option<String> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    let mut values = lines.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned());
    values.next()
}

const BODY: &str = "0123456789";

/// Returns the response of a file server that supports validators and range requests.
fn file(head: &str, etag: &str) -> String {
    let fields = format!("cache-control: max-age=60\r\netag: {etag}\r\naccept-ranges: bytes\r\n");
    let applies = field(head, "if-range").is_none_or(|tag| tag == etag);
    match field(head, "range").filter(|_| applies) {
        None => format!("HTTP/1.1 200 OK\r\n{fields}content-length: {}\r\n\r\n{BODY}", BODY.len()),
        Some(range) => {
            let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
            let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap_or(BODY.len() - 1));
            let part = &BODY[first..=last];
            format!(
                "HTTP/1.1 206 Partial Content\r\n{fields}content-range: bytes {first}-{last}/{}\r\ncontent-length: {}\r\n\r\n{part}",
                BODY.len(),
                part.len()
            )
        }
    }
}

#[test]
fn completes_stored_partial_response_with_missing_bytes() {
    let (upstream, heads) = backend(|head| file(head, "\"v1\""));
    let proxy = Proxy::start(upstream, &[]);
    assert_eq!(get(&proxy, "range: bytes=0-3\r\n").body, "0123");
    let range = get(&proxy, "range: bytes=2-5\r\n");
    assert_eq!((range.status, range.body.as_str(), range.header("content-range")), (206, "2345", Some("bytes 2-5/10")));
    let whole = get(&proxy, "");
    assert_eq!((whole.status, whole.body.as_str()), (200, BODY));
    assert_eq!(whole.header("cache-status"), Some("rproxy; fwd=partial; fwd-status=206; stored"));
    assert!(get(&proxy, "").header("cache-status").unwrap().starts_with("rproxy; hit"));
    let sent: Vec<_> =
        heads.lock().unwrap().iter().map(|head| (field(head, "range"), field(head, "if-range"))).collect();
    let sent: Vec<_> = sent.iter().map(|(range, tag)| (range.as_deref().unwrap(), tag.as_deref())).collect();
    assert_eq!(sent, [("bytes=0-3", None), ("bytes=4-5", Some("\"v1\"")), ("bytes=6-", Some("\"v1\""))]);
}

#[test]
fn changed_file_replaces_the_stored_partial_response() {
    let (upstream, heads) = backend(|head| match field(head, "if-range") {
        None => file(head, "\"v1\""),
        Some(_) => file(head, "\"v2\"").replace(BODY, "abcdefghij"),
    });
    let proxy = Proxy::start(upstream, &[]);
    get(&proxy, "range: bytes=0-3\r\n");
    let whole = get(&proxy, "");
    assert_eq!((whole.status, whole.body.as_str(), whole.header("etag")), (200, "abcdefghij", Some("\"v2\"")));
    assert_eq!(get(&proxy, "range: bytes=0-3\r\n").body, "abcd");
    assert_eq!(heads.lock().unwrap().len(), 2);
}

#[test]
fn continues_aborted_download_and_reports_a_failed_continuation() {
    // A response aborted after 4 bytes, its rest aborted after 2, and then the rest of that.
    let (upstream, heads) = backend(|head| {
        let response = file(head, "\"v1\"");
        match field(head, "range").as_deref() {
            None => format!("{}|", &response[..response.len() - 6]),
            Some("bytes=4-") => format!("{}|", &response[..response.len() - 4]),
            Some(_) => response,
        }
    });
    let proxy = Proxy::start(upstream, &[]);
    let send = || exchange(proxy.address, b"GET /static/a.js HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n");
    let (first, second, third) = (send(), send(), send());
    for (text, received) in [(&first, "0123"), (&second, "012345"), (&third, BODY)] {
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("content-length: 10"), "{head}");
        assert_eq!(body, received, "{head}");
    }
    assert!(get(&proxy, "").header("cache-status").unwrap().starts_with("rproxy; hit"));
    let ranges: Vec<_> = heads.lock().unwrap().iter().map(|head| field(head, "range")).collect();
    assert_eq!(ranges, [None, Some("bytes=4-".to_owned()), Some("bytes=6-".to_owned())]);
}

#[test]
fn sends_etags_of_all_variants_and_repeats_the_request_after_a_304_without_etag() {
    // RFC 9111 §4.3.1
    let (upstream, heads) = backend(|head| {
        let language = field(head, "accept-language").unwrap();
        let fields = "cache-control: max-age=60\r\nvary: accept-language\r\n";
        match (&*language, field(head, "if-none-match")) {
            ("fr", Some(_)) => format!("HTTP/1.1 304 Not Modified\r\n{fields}\r\n"),
            ("de-AT", Some(_)) => format!("HTTP/1.1 304 Not Modified\r\n{fields}etag: \"de\"\r\n\r\n"),
            _ => ok(&language).replacen("\r\n", &format!("\r\n{fields}etag: \"{language}\"\r\n"), 1),
        }
    });
    let proxy = Proxy::start(upstream, &[]);
    let send = |language: &str| get(&proxy, &format!("accept-language: {language}\r\n"));
    assert_eq!((send("en").body.as_str(), send("de").body.as_str()), ("en", "de"));
    let selected = send("de-AT");
    assert_eq!((selected.status, selected.body.as_str()), (200, "de"));
    assert_eq!(selected.header("cache-status"), Some("rproxy; fwd=vary-miss; fwd-status=304; stored"));
    let repeated = send("fr");
    assert_eq!((repeated.status, repeated.body.as_str()), (200, "fr"));
    assert!(send("fr").header("cache-status").unwrap().starts_with("rproxy; hit"));
    let heads = heads.lock().unwrap();
    let tags: Vec<_> = heads.iter().map(|head| field(head, "if-none-match").unwrap_or_default()).collect();
    assert_eq!((tags.len(), tags[0].as_str(), tags[1].as_str(), tags[4].as_str()), (5, "", "\"en\"", ""));
    for both in &tags[2..4] {
        assert!(both.contains("\"en\"") && both.contains("\"de\""), "{tags:?}");
    }
    for head in heads[3..].iter() {
        assert_eq!(
            (field(head, "accept-language"), field(head, "host")),
            (Some("fr".into()), Some("a.example".into()))
        );
    }
}

/// Returns the HTTP/2 frames to send on the stream with this ID.
type Frames = fn(u32) -> Vec<u8>;

/// Starts an h2c backend that sends `frames` after the head of each response.
fn http2_backend(frames: Frames) -> SocketAddr {
    scripted(move |mut stream| {
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).unwrap();
        stream.write_all(&frame(4, 0, 0, b"")).unwrap();
        while let Some((kind, flags, id)) = read_frame(&mut stream) {
            let response = match (kind, flags & 1) {
                (4, 0) => frame(4, 1, 0, b""),
                (1, _) => {
                    // :status 200, cache-control: max-age=60, content-length: 5, as literals without an index.
                    let head = b"\x88\x0f\x09\x0amax-age=60\x0f\x0d\x015";
                    [frame(1, 4, id, head), frames(id)].concat()
                }
                _ => continue,
            };
            if stream.write_all(&response).is_err() {
                return;
            }
        }
    })
}

fn frame(kind: u8, flags: u8, id: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &id.to_be_bytes(), payload].concat()
}

fn read_frame(stream: &mut TcpStream) -> Option<(u8, u8, u32)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).ok()?;
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    stream.read_exact(&mut payload).ok()?;
    Some((head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]])))
}

#[test]
fn does_not_store_stream_that_is_reset_after_its_last_byte() {
    const NO_ERROR: &[u8] = &[0, 0, 0, 0];
    let cases: [(Frames, bool); 4] = [
        (|id| frame(0, 1, id, b"hello"), true),
        (|id| [frame(0, 0, id, b"hello"), frame(0, 1, id, b"")].concat(), true),
        (|id| [frame(0, 0, id, b"hello"), frame(3, 0, id, NO_ERROR)].concat(), false),
        (|id| [frame(0, 0, id, b"hello"), frame(3, 0, id, &[0, 0, 0, 2])].concat(), false),
    ];
    for (number, (frames, is_stored)) in cases.into_iter().enumerate() {
        let upstream = format!("h2c://{}", http2_backend(frames));
        let proxy = Proxy::run(&[], &[("RPROXY_LISTEN", "127.0.0.1:0"), ("RPROXY_UPSTREAM", &upstream)]);
        // The response may be incomplete; its end may arrive a moment after the last byte.
        let text = "GET /static/a.js HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n";
        assert!(exchange(proxy.address, text.as_bytes()).contains("HTTP/1.1 200 "), "{number}");
        let sent = "GET /static/a.js HTTP/1.1\r\nhost: a.example\r\ncache-control: only-if-cached\r\n\r\n";
        let deadline = Instant::now() + if is_stored { TIMEOUT } else { TIMEOUT / 100 };
        loop {
            let status = request(proxy.address, sent).status;
            if is_stored && status == 200 || !is_stored && Instant::now() > deadline {
                break;
            }
            assert_eq!(status, 504, "{number}");
            assert!(Instant::now() < deadline, "{number}: not stored");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn does_not_store_truncated_bodies() {
    let head = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\n";
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n");
    for (response, is_stored) in [
        (format!("{head}content-length: 5\r\n\r\nhello"), true),
        (format!("{head}content-length: 6\r\n\r\nhello|"), false),
        (format!("{chunked}5\r\nhello\r\n0\r\n\r\n"), true),
        (format!("{chunked}5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n"), true),
        (format!("{chunked}5\r\nhello\r\n|"), false),
        (format!("{chunked}5\r\nhello\r\n0\r\n|"), false),
        (format!("{chunked}6\r\nhello|"), false),
        // RFC 9112 §8: without a length, the end of the connection ends the body.
        (format!("{head}connection: close\r\n\r\nhello|"), true),
    ] {
        let (upstream, _) = backend({
            let response = response.clone();
            move |_| response.clone()
        });
        let proxy = Proxy::start(upstream, &[]);
        exchange(proxy.address, b"GET /static/a.js HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n");
        let sent = b"GET /static/a.js HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\ncache-control: only-if-cached\r\n\r\n";
        let got = exchange(proxy.address, sent);
        assert_eq!(got.starts_with("HTTP/1.1 200 "), is_stored, "{response:?}: {got}");
    }
}

#[test]
fn cache_hit_over_http_1_1_has_the_trailer_section() {
    let (upstream, heads) = backend(|_| {
        "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n".into()
    });
    let proxy = Proxy::start(upstream, &[]);
    for _ in 0..2 {
        let sent = b"GET /static/a.js HTTP/1.1\r\nhost: a.example\r\nte: trailers\r\nconnection: te, close\r\n\r\n";
        let got = exchange(proxy.address, sent);
        assert!(got.ends_with("\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n"), "{got}");
    }
    assert_eq!(heads.lock().unwrap().len(), 1);
}
