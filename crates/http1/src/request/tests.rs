//! Tests of the parser of request heads.

use proptest::prelude::*;

use super::*;

const LIMITS: HeadLimits = HeadLimits { size: 1024, target: 256, fields: 20 };

fn parse(bytes: &[u8]) -> Result<Option<RequestHead>, RejectedHead> {
    RequestParser::new(LIMITS).parse(&Bytes::copy_from_slice(bytes))
}

fn complete(bytes: &[u8]) -> RequestHead {
    match parse(bytes) {
        Ok(Some(head)) => head,
        other => panic!("{other:?} for {}", bytes.escape_ascii()),
    }
}

#[track_caller]
fn assert_rejected(bytes: &[u8], rejected: RejectedHead) {
    match parse(bytes) {
        Err(reason) if reason == rejected => {}
        other => panic!("{other:?} instead of {rejected:?} for {}", bytes.escape_ascii()),
    }
}

#[test]
fn accepts_heads_with_unambiguous_framing() {
    use RequestBodyFraming::{Chunked, Length, None, Upgrade};
    for (head, framing) in [
        (&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], None),
        (b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", None),
        (b"GET / HTTP/1.0\r\n\r\n", None),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", Length(5)),
        (b"POST / HTTP/1.1\r\nHost: a\r\ncontent-length:\t 0 \r\n\r\n", None),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n", Chunked),
        (b"GET / HTTP/1.1\r\nContent-Type: a\r\nCookie: \xff\r\nTe: trailers\r\n\r\n", None),
        (b"GET / HTTP/1.1\r\nConnection: x, Upgrade\r\nUpgrade: websocket\r\n\r\n", Upgrade),
        (b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: a\r\nContent-Length: 1\r\n\r\n", Length(1)),
        (b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n", None),
        (b"GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", None),
    ] {
        let bytes = [head, b"GET /next"].concat();
        let parsed = complete(&bytes);
        assert_eq!((parsed.framing, parsed.length), (framing, head.len()), "{}", head.escape_ascii());
        assert_eq!(
            parsed.request.headers().contains_key(UPGRADE),
            head.windows(7).any(|part| part.eq_ignore_ascii_case(b"upgrade")) && framing != None,
            "{}",
            head.escape_ascii()
        );
    }
}

#[test]
fn parses_method_target_version_and_fields() {
    let head = complete(b"GET /a?b HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nCookie: c\r\ncookie: d\r\n\r\n");
    assert_eq!((head.request.method(), head.request.version()), (&Method::GET, Version::HTTP_11));
    assert_eq!(head.request.uri(), "/a?b");
    assert_eq!(head.request.headers().get_all("cookie").iter().collect::<Vec<_>>(), ["c", "d"]);
    assert!(!head.request.headers().contains_key(CONNECTION));
    let get = ResponseContext { is_head: false, keep_alive: true, takes_trailers: false, is_http10: false };
    assert_eq!((head.context, head.expects_continue), (get, false));
    let head = complete(b"HEAD http://a/ HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\nTE: trailers\r\n\r\n");
    assert_eq!(head.context, ResponseContext { is_head: true, keep_alive: false, takes_trailers: true, ..get });
}

// RFC 9112 §9.3
#[test]
fn connection_of_http_1_0_is_reused_only_on_request() {
    for (fields, keep_alive) in
        [("", false), ("Connection: Keep-Alive\r\n", true), ("Connection: keep-alive, close\r\n", false)]
    {
        let context = complete(format!("GET / HTTP/1.0\r\n{fields}\r\n").as_bytes()).context;
        assert_eq!((context.keep_alive, context.is_http10), (keep_alive, true), "{fields:?}");
    }
}

// RFC 9110 §10.1.1
#[test]
fn expectation_of_100_continue_is_ignored_in_http_1_0() {
    for (version, value, expects) in
        [("1.1", "100-Continue", true), ("1.1", "200-ok", false), ("1.0", "100-continue", false)]
    {
        let head = format!("PUT / HTTP/{version}\r\nContent-Length: 1\r\nExpect: {value}\r\n\r\n");
        assert_eq!(complete(head.as_bytes()).expects_continue, expects, "{head:?}");
    }
}

// RFC 9110 §9.3.6
#[test]
fn connection_is_not_reused_after_connect() {
    let head = complete(b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n");
    assert!(!head.context.keep_alive);
    assert_eq!(head.request.uri().authority().unwrap(), "a:443");
}

// RFC 9112 §3.2.4
#[test]
fn options_target_in_absolute_form_without_path_becomes_an_asterisk() {
    for (target, path) in [
        ("http://a", "*"),
        ("http://a:81", "*"),
        ("http://a/", "/"),
        ("http://a?b", "/"),
        ("*", "*"),
        ("/", "/"),
        // Paths of proxies for other origins.
        ("/https://a", "/https://a"),
        ("//a://b", "//a://b"),
    ] {
        let head = complete(format!("OPTIONS {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        assert_eq!(head.request.uri().path(), path, "{target}");
    }
    assert_eq!(complete(b"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n").request.uri().path(), "/");
}

#[test]
fn encodes_a_target_that_a_uri_cannot_represent() {
    let head = b"\r\nGET /<a>?\"\xff HTTP/1.1\r\nX: <\r\n\r\n";
    let parsed = complete(head);
    assert_eq!(parsed.request.uri(), "/%3Ca%3E?%22%FF");
    assert_eq!((parsed.length, parsed.request.headers()["x"].as_bytes()), (head.len(), &b"<"[..]));
    // The limit applies to the encoded target.
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "<".repeat(100));
    assert_rejected(long.as_bytes(), RejectedHead::TargetTooLong);
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
        assert_rejected(message.as_bytes(), RejectedHead::Framing);
    }
    let http10 = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_rejected(http10, RejectedHead::Framing);
}

// RFC 9112 §6.1
#[test]
fn rejects_unknown_transfer_codings_with_501() {
    for coding in ["gzip, chunked", "gzip", "identity, Chunked", "xchunked", "a, b"] {
        let message = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {coding}\r\n\r\n");
        assert_rejected(message.as_bytes(), RejectedHead::UnknownCoding);
    }
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
        assert_rejected(head.as_bytes(), RejectedHead::Malformed);
    }
}

#[test]
fn rejects_large_request_heads_before_they_are_complete() {
    let long = "a".repeat(2000);
    assert_rejected(format!("GET /{long}").as_bytes(), RejectedHead::TargetTooLong);
    let long_target = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(300));
    assert_rejected(long_target.as_bytes(), RejectedHead::TargetTooLong);
    assert_rejected(format!("GET / HTTP/1.1\r\nA: {long}").as_bytes(), RejectedHead::TooLarge);
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(21));
    assert_rejected(many.as_bytes(), RejectedHead::TooLarge);
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
        let rejected = RequestParser::new(limits).parse(&head.into()).err();
        assert_eq!(rejected, is_rejected.then_some(RejectedHead::TooLarge), "{name}, {bytes} bytes");
    }
    let two = "a".repeat(MAX_OPTIONS / 2 + 1);
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {two}\r\nConnection: {two}\r\n\r\n");
    assert_eq!(RequestParser::new(limits).parse(&head.into()).err(), Some(RejectedHead::TooLarge));
}

proptest! {
    #[test]
    fn parsing_any_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn incomplete_head_is_rejected_only_if_the_complete_one_is(head in "[GP]E?[TO] ?/[a#\u{e9}]{0,2} HTTP/1.[01]\r?\n([aT][:\u{0} ]{1,2}[b\r]{0,2}\r?\n){0,3}\r?\n", cut in 0usize..60) {
        let bytes = head.as_bytes();
        let incomplete = parse(&bytes[..cut.min(bytes.len())]);
        if parse(bytes).is_ok() {
            prop_assert!(incomplete.is_ok(), "{:?}", incomplete);
        }
    }
}
