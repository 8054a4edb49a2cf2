//! Tests of the HTTP/1.1 message scanner, and of the framing of request heads.

use proptest::prelude::*;

use super::*;
use crate::http1::framing::{MAX_OPTIONS, encoded_target};

const LIMITS: HeadLimits = HeadLimits { size: 1024, target: 256, fields: 20 };

fn scan(bytes: &[u8]) -> Scan {
    Scanner::new(LIMITS).scan_all(bytes)
}

#[test]
fn accepts_messages_with_unambiguous_framing() {
    for message in [
        &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: a\r\ncontent-length:\t 0 \r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nt: v\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\nPOST / HTTP/1.1\r\ncontent-length: 1\r\n\r\nxGET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Type: a\r\nCookie: \xff\r\nTe: trailers\r\n\r\n",
    ] {
        assert_eq!(scan(message), Scan::Pass(message.len()), "{}", message.escape_ascii());
    }
}

#[test]
fn rejects_ambiguous_body_framing() {
    // The framing fields of a POST (RFC 9112 §6).
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 5",
        "Content-Length: +5",
        "Content-Length: -1",
        "Content-Length: 0x5",
        "Content-Length: 5 5",
        "Content-Length:",
        "Content-Length: 18446744073709551616",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: gzip, chunked\r\nContent-Length: 5",
        "Transfer-Encoding: gzip;q=1, chunked",
        "Transfer-Encoding: gzip,, chunked",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding:",
        "Transfer_Encoding: chunked",
        "content.length: 5",
    ] {
        let message = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
        assert_eq!(scan(message.as_bytes()), Scan::Reject(0, RejectedHead::Framing), "{fields}");
    }
    let http10 = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(scan(http10), Scan::Reject(0, RejectedHead::Framing));
}

// RFC 9112 §6.1
#[test]
fn rejects_unknown_transfer_codings_with_501() {
    for coding in ["gzip, chunked", "gzip", "identity, Chunked", "xchunked", "a, b"] {
        let message = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {coding}\r\n\r\n");
        assert_eq!(scan(message.as_bytes()), Scan::Reject(0, RejectedHead::UnknownCoding), "{coding}");
    }
}

#[test]
fn scan_stops_at_the_end_of_each_message() {
    let bytes = b"GET /a HTTP/1.1\r\n\r\nPOST /b HTTP/1.1\r\nContent-Length: 1\r\n\r\nxGET /c";
    let mut scanner = Scanner::new(LIMITS);
    assert_eq!(scanner.scan(bytes), Scan::Pass(19));
    assert_eq!(scanner.scan(&bytes[19..]), Scan::Pass(40));
    assert_eq!(scanner.scan(&bytes[59..]), Scan::Pass(0));
    assert_eq!(scanner.heads(), 2);
}

#[test]
fn encodes_a_target_that_a_uri_cannot_represent() {
    let head = b"\r\nGET /<a>?\"\xff HTTP/1.1\r\nX: <\r\n\r\n";
    assert_eq!(scan(head), Scan::Encode(0));
    let (range, encoded) = encoded_target(head).unwrap();
    let encoded = [&head[..range.start], &encoded, &head[range.end..]].concat();
    assert_eq!(encoded.escape_ascii().to_string(), r"\r\nGET /%3Ca%3E?%22%FF HTTP/1.1\r\nX: <\r\n\r\n");
    assert_eq!(scan(&encoded), Scan::Pass(encoded.len()));
}

#[test]
fn rejects_malformed_request_heads() {
    for head in [
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.1\r\nHost: a\rTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\0\r\n\r\n",
        "GET /\r\n\r\n",
        "GET\r\n\r\n",
        "GET  HTTP/1.1\r\n\r\n",
        "GET / a HTTP/1.1\r\n\r\n",
        "GET /\t HTTP/1.1\r\n\r\n",
        "GET /a#b HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.2\r\n\r\n",
        "GET / http/1.1\r\n\r\n",
        " GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length\r\n\r\n",
        "GET / HTTP/1.1\r\nA\r\n\r\n",
        "GET / HTTP/1.1\r\n: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nA B: a\r\n\r\n",
        "GET / HTTP/1.1\r\nA: \x0ba\r\n\r\n",
        "GET / HTTP/1.1\r\nTransfer-Encoding: \x0cchunked\r\n\r\n",
        "G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
        // Incomplete heads.
        "GET /\r\n",
        "GET / HTTP/1.1\n",
        "GET / HTTP/1.2\r\nHost: a\r\n",
        "\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\rb",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\r\n",
        "\x16\x03\x01\x02",
        "\r\n\0",
    ] {
        assert_eq!(scan(head.as_bytes()), Scan::Reject(0, RejectedHead::Malformed), "{head:?}");
    }
}

#[test]
fn rejects_large_request_heads_before_they_are_complete() {
    let long = "a".repeat(2000);
    assert_eq!(scan(format!("GET /{long}").as_bytes()), Scan::Reject(0, RejectedHead::TargetTooLong));
    let long_target = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(300));
    assert_eq!(scan(long_target.as_bytes()), Scan::Reject(0, RejectedHead::TargetTooLong));
    assert_eq!(scan(format!("GET / HTTP/1.1\r\nA: {long}").as_bytes()), Scan::Reject(0, RejectedHead::TooLarge));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(21));
    assert_eq!(scan(many.as_bytes()), Scan::Reject(0, RejectedHead::TooLarge));
}

#[test]
fn rejects_long_lists_of_connection_options_with_431() {
    let limits = HeadLimits { size: 1 << 16, target: 64, fields: 20 };
    for (name, bytes, is_rejected) in [
        ("Connection", MAX_OPTIONS, false),
        ("Connection", MAX_OPTIONS + 1, true),
        ("te", MAX_OPTIONS + 1, true),
        ("Accept", 30_000, false),
    ] {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{name}: {}\r\n\r\n", "a".repeat(bytes));
        let rejected = frame_head(head.as_bytes(), &limits).err();
        assert_eq!(rejected, is_rejected.then_some(RejectedHead::TooLarge), "{name}, {bytes} bytes");
    }
    let two = "a".repeat(MAX_OPTIONS / 2 + 1);
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {two}\r\nConnection: {two}\r\n\r\n");
    assert_eq!(frame_head(head.as_bytes(), &limits).err(), Some(RejectedHead::TooLarge));
}

#[test]
fn holds_bytes_after_an_upgrade_request_until_the_response() {
    let handshake = b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let bytes = [&handshake[..], b"GET /smuggled HTTP/1.1\r\n\r\n"].concat();
    let mut scanner = Scanner::new(LIMITS);
    assert_eq!(scanner.scan(&bytes), Scan::Pass(handshake.len()));
    assert!(scanner.awaits_upgrade());
    assert_eq!(scanner.scan(b"GET"), Scan::Pass(0));
    scanner.complete_upgrade(true);
    assert_eq!(scanner.scan(b"\x81\x00"), Scan::Pass(2));
}

#[test]
fn invalid_chunk_rejects_the_request_unless_its_head_was_forwarded() {
    let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut scanner = Scanner::new(LIMITS);
    assert_eq!(scanner.scan(head.as_bytes()), Scan::Pass(head.len()));
    assert_eq!(scanner.scan(b"zz\r\n"), Scan::Broken(0));
    // If no part of the message has been forwarded, the whole message is rejected.
    let first = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut scanner = Scanner::new(LIMITS);
    let bytes = format!("{first}{head}1\r\na\r\nzz\r\n");
    assert_eq!(scanner.scan_all(bytes.as_bytes()), Scan::Reject(first.len(), RejectedHead::Framing));
    assert_eq!(scanner.heads(), 1);
}

proptest! {
    #[test]
    fn scanned_messages_do_not_depend_on_read_boundaries(cuts in proptest::collection::vec(1usize..40, 0..40)) {
        let bytes = b"\r\nPOST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n10;x\r\n0123456789abcdef\r\n0\r\nA: b\r\n\r\n\
            POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\nGET / HTTP/1GET /c HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut scanner = Scanner::new(LIMITS);
        let (mut start, mut end) = (0, 0);
        for cut in cuts.into_iter().chain([bytes.len()]) {
            end = (end + cut).min(bytes.len());
            match scanner.scan_all(&bytes[start..end]) {
                Scan::Pass(passed) => start += passed,
                other => prop_assert!(false, "{:?}", other),
            }
        }
        prop_assert_eq!(start, bytes.len());
        prop_assert_eq!(scanner.heads(), 3);
    }

    #[test]
    fn scanning_any_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = scan(&bytes);
    }
}
