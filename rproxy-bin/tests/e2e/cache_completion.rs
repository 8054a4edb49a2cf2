//! Responses that are stored in part, and requests that the cache sends a second time.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::upstream::{ok, read_head, scripted};
use crate::support::{Answer, PATIENCE, Proxy, exchange, request};

/// A backend that answers by the head of the request, and remembers all heads. An answer that ends in `|` is followed by the
/// end of the connection.
fn backend(answer: impl Fn(&str) -> String + Clone + Send + 'static) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&heads);
    let address = scripted(move |mut stream| {
        while let Some(head) = read_head(&mut stream) {
            seen.lock().unwrap().push(head.clone());
            let answer = answer(&head);
            let bytes = answer.strip_suffix('|').unwrap_or(&answer);
            if stream.write_all(bytes.as_bytes()).is_err() || bytes.len() < answer.len() {
                return;
            }
        }
    });
    (address, heads)
}

fn get(proxy: &Proxy, fields: &str) -> Answer {
    request(proxy.address, &format!("GET /static/a.js HTTP/1.1\r\nhost: a.example\r\n{fields}\r\n"))
}

fn field(head: &str, name: &str) -> Option<String> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    let mut values = lines.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned());
    values.next()
}

const BODY: &str = "0123456789";

/// A file server with validators and ranges.
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
fn a_stored_part_is_completed_by_its_missing_bytes() {
    let (upstream, heads) = backend(|head| file(head, "\"v1\""));
    let proxy = Proxy::start(upstream, &[]);
    assert_eq!(get(&proxy, "range: bytes=0-3\r\n").body, "0123");
    let range = get(&proxy, "range: bytes=2-5\r\n");
    assert_eq!((range.status, range.body.as_str(), range.header("content-range")), (206, "2345", Some("bytes 2-5/10")));
    let whole = get(&proxy, "");
    assert_eq!((whole.status, whole.body.as_str()), (200, BODY));
    assert_eq!(whole.header("cache-status"), Some("rproxy; fwd=partial; fwd-status=206; stored"));
    assert!(get(&proxy, "").header("cache-status").unwrap().starts_with("rproxy; hit"));
    let asked: Vec<_> =
        heads.lock().unwrap().iter().map(|head| (field(head, "range"), field(head, "if-range"))).collect();
    let asked: Vec<_> = asked.iter().map(|(range, tag)| (range.as_deref().unwrap(), tag.as_deref())).collect();
    assert_eq!(asked, [("bytes=0-3", None), ("bytes=4-5", Some("\"v1\"")), ("bytes=6-", Some("\"v1\""))]);
}

#[test]
fn a_changed_file_replaces_the_stored_part() {
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
fn a_download_that_broke_off_is_continued_and_a_failed_rest_is_visible() {
    // A whole that breaks off after 4 bytes, a rest that breaks off after 2, and then the rest of that.
    let (upstream, heads) = backend(|head| {
        let answer = file(head, "\"v1\"");
        match field(head, "range").as_deref() {
            None => format!("{}|", &answer[..answer.len() - 6]),
            Some("bytes=4-") => format!("{}|", &answer[..answer.len() - 4]),
            Some(_) => answer,
        }
    });
    let proxy = Proxy::start(upstream, &[]);
    let ask = || exchange(proxy.address, b"GET /static/a.js HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n");
    let (first, second, third) = (ask(), ask(), ask());
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
fn tags_of_all_variants_are_sent_and_a_304_that_names_none_repeats_the_request() {
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
    let ask = |language: &str| get(&proxy, &format!("accept-language: {language}\r\n"));
    assert_eq!((ask("en").body.as_str(), ask("de").body.as_str()), ("en", "de"));
    let selected = ask("de-AT");
    assert_eq!((selected.status, selected.body.as_str()), (200, "de"));
    assert_eq!(selected.header("cache-status"), Some("rproxy; fwd=vary-miss; fwd-status=304; stored"));
    let repeated = ask("fr");
    assert_eq!((repeated.status, repeated.body.as_str()), (200, "fr"));
    assert!(ask("fr").header("cache-status").unwrap().starts_with("rproxy; hit"));
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

/// The frames of a stream with this number.
type Frames = fn(u32) -> Vec<u8>;

/// An HTTP/2 backend in the clear that sends `frames` after the head of each response.
fn http2_backend(frames: Frames) -> SocketAddr {
    scripted(move |mut stream| {
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).unwrap();
        stream.write_all(&frame(4, 0, 0, b"")).unwrap();
        while let Some((kind, flags, id)) = read_frame(&mut stream) {
            let answer = match (kind, flags & 1) {
                (4, 0) => frame(4, 1, 0, b""),
                (1, _) => {
                    // :status 200, cache-control: max-age=60, content-length: 5, as literals without an index.
                    let head = b"\x88\x0f\x09\x0amax-age=60\x0f\x0d\x015";
                    [frame(1, 4, id, head), frames(id)].concat()
                }
                _ => continue,
            };
            if stream.write_all(&answer).is_err() {
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
fn a_stream_that_is_reset_after_its_last_byte_is_not_stored() {
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
        // As much of it as is there; the end may come a moment after the last byte.
        let text = "GET /static/a.js HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n";
        assert!(exchange(proxy.address, text.as_bytes()).contains("HTTP/1.1 200 "), "{number}");
        let asked = "GET /static/a.js HTTP/1.1\r\nhost: a.example\r\ncache-control: only-if-cached\r\n\r\n";
        let deadline = Instant::now() + if is_stored { PATIENCE } else { PATIENCE / 100 };
        loop {
            let status = request(proxy.address, asked).status;
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
fn bodies_that_end_early_are_not_stored() {
    let head = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\n";
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n");
    for (answer, is_stored) in [
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
            let answer = answer.clone();
            move |_| answer.clone()
        });
        let proxy = Proxy::start(upstream, &[]);
        exchange(proxy.address, b"GET /static/a.js HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n");
        let asked = b"GET /static/a.js HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\ncache-control: only-if-cached\r\n\r\n";
        let got = exchange(proxy.address, asked);
        assert_eq!(got.starts_with("HTTP/1.1 200 "), is_stored, "{answer:?}: {got}");
    }
}

#[test]
fn a_hit_over_http_1_1_has_the_trailers_of_the_response() {
    let (upstream, heads) = backend(|_| {
        "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n".into()
    });
    let proxy = Proxy::start(upstream, &[]);
    for _ in 0..2 {
        let asked = b"GET /static/a.js HTTP/1.1\r\nhost: a.example\r\nte: trailers\r\nconnection: te, close\r\n\r\n";
        let got = exchange(proxy.address, asked);
        assert!(got.ends_with("\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n"), "{got}");
    }
    assert_eq!(heads.lock().unwrap().len(), 1);
}
