//! The parser of the fast path, for the heads of requests without content.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HeaderMap, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE};
use http::uri::PathAndQuery;
use http::{Method, Request, Uri, Version};
use rproxy_core::field_name;

use super::framing::{HeadLimits, MAX_OPTIONS};
use super::syntax::is_disguised;

/// A parsed request, with the properties that the framing of its response depends on.
#[derive(Debug)]
pub(super) struct ParsedRequest {
    pub(super) request: Request<()>,
    pub(super) context: ResponseContext,
    /// The length of the request head in bytes.
    pub(super) length: usize,
}

/// The properties of a request that determine the framing of its response and the reuse of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ResponseContext {
    pub(super) is_head: bool,
    /// Whether the connection may be reused after the response (RFC 9112 §9.3).
    pub(super) keep_alive: bool,
    /// Whether the client accepts trailers (RFC 9110 §6.5.1).
    pub(super) takes_trailers: bool,
    /// Whether the request has version HTTP/1.0, which lacks the chunked coding (RFC 9112 §7.1).
    pub(super) is_http10: bool,
}

/// Parses the request at the start of `bytes`, if it is complete, valid and without content, upgrade or `Expect`.
///
/// For all other requests it returns `None`: the [scanner](super::scanner) and hyper handle and reject them.
pub(super) fn parse(bytes: &Bytes, limits: &HeadLimits) -> Option<ParsedRequest> {
    let mut lines = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut []);
    let length = match parsed.parse_with_uninit_headers(bytes, &mut lines) {
        Ok(httparse::Status::Complete(length)) => length,
        _ => return None,
    };
    let (method, target) = (parsed.method?, parsed.path?);
    // httparse skips empty lines before a request, and accepts a bare LF as line end (RFC 9112 §2.2). The fast path does
    // not.
    let starts_with_method = bytes.starts_with(method.as_bytes());
    let is_within_limits =
        length <= limits.size && target.len() <= limits.target && parsed.headers.len() <= limits.fields;
    // A fragment is invalid (RFC 9112 §3.2.1), but the URI parser would silently drop it.
    let is_target = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
    if !starts_with_method
        || !is_within_limits
        || !target.bytes().all(is_target)
        || !all_lines_end_in_crlf(&bytes[..length])
    {
        return None;
    }
    let method = Method::from_bytes(method.as_bytes()).ok().filter(|method| *method != Method::CONNECT)?;
    let mut uri = Uri::from_maybe_shared(bytes.slice_ref(target.as_bytes())).ok()?;
    if method == Method::OPTIONS {
        uri = asterisk(uri, target);
    }
    let is_http10 = parsed.version == Some(0);
    let is_head = method == Method::HEAD;
    let mut context = ResponseContext { is_head, keep_alive: !is_http10, takes_trailers: false, is_http10 };
    let (mut closes, mut upgrade, mut upgrades) = (false, false, false);
    let mut headers = HeaderMap::with_capacity(parsed.headers.len() + EXTRA_CAPACITY);
    let mut options = 0;
    for line in &*parsed.headers {
        let name = field_name(line.name.as_bytes()).ok()?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(line.value)).ok()?;
        if matches!(name, CONNECTION | TE) {
            options += line.value.len();
            // The scanner rejects it.
            if options > MAX_OPTIONS {
                return None;
            }
        }
        match name {
            CONTENT_LENGTH | TRANSFER_ENCODING | EXPECT => return None,
            UPGRADE => {
                upgrade = true;
                continue;
            }
            CONNECTION => {
                closes |= has_token(line.value, b"close");
                context.keep_alive |= is_http10 && has_token(line.value, b"keep-alive");
                upgrades |= has_token(line.value, b"upgrade");
                // Redundant, and not meant for the backend.
                if line.value.eq_ignore_ascii_case(b"keep-alive") {
                    continue;
                }
            }
            TE => context.takes_trailers |= has_token(line.value, b"trailers"),
            _ if is_disguised(line.name.as_bytes()) => return None,
            _ => {}
        }
        headers.try_append(name, value).ok()?;
    }
    // RFC 9110 §7.8: Upgrade is ignored if Connection does not nominate it, and in HTTP/1.0.
    if upgrade && upgrades && !is_http10 {
        return None;
    }
    context.keep_alive &= !closes;
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.version_mut() = if is_http10 { Version::HTTP_10 } else { Version::HTTP_11 };
    *request.headers_mut() = headers;
    Some(ParsedRequest { request, context, length })
}

/// Converts the target of an OPTIONS request in absolute-form without path and query to `*` (RFC 9112 §3.2.4).
///
/// The URI parser has replaced the empty path by `/`.
fn asterisk(uri: Uri, target: &str) -> Uri {
    let has_path = |rest: &str| rest.contains(['/', '?']);
    if target.split_once("://").is_none_or(|(_, rest)| has_path(rest)) {
        return uri;
    }
    let mut parts = uri.into_parts();
    parts.path_and_query = Some(PathAndQuery::from_static("*"));
    Uri::from_parts(parts).unwrap_or_else(|_| Uri::from_static("*"))
}

/// Returns whether every line of a head ends in CRLF. Has no early exit, so that the compiler can vectorise it.
fn all_lines_end_in_crlf(head: &[u8]) -> bool {
    let pairs = head.iter().zip(&head[1.min(head.len())..]);
    head.first() != Some(&b'\n') && pairs.fold(true, |all, (&one, &next)| all & (next != b'\n' || one == b'\r'))
}

/// Returns whether a comma-separated list contains the token, ignoring case (RFC 9110 §5.6.1).
pub(super) fn has_token(list: &[u8], token: &[u8]) -> bool {
    let mut members = list.split(|&byte| byte == b',').take(MAX_MEMBERS);
    members.any(|member| member.trim_ascii().eq_ignore_ascii_case(token))
}

/// The maximum number of list members that are compared with a token, to limit the work per field.
const MAX_MEMBERS: usize = 64;

/// The maximum number of header fields on the fast path.
const MAX_FIELDS: usize = 64;

/// The spare capacity of a header map for fields that a proxy adds, so that the map does not grow.
const EXTRA_CAPACITY: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::scanner::{Scan, Scanner};
    use proptest::prelude::*;

    const LIMITS: HeadLimits = HeadLimits { size: 512, target: 64, fields: 8 };

    fn request(head: &str) -> Option<ParsedRequest> {
        parse(&Bytes::copy_from_slice(head.as_bytes()), &LIMITS)
    }

    #[test]
    fn fast_path_parses_requests_without_content() {
        let head = "GET /a?b HTTP/1.1\r\nHost: a\r\nCookie: c\r\ncookie: d\r\n\r\n";
        let plain = request(&format!("{head}GET /next")).unwrap();
        assert_eq!(plain.length, head.len());
        assert_eq!(plain.request.uri(), "/a?b");
        assert_eq!(plain.request.version(), Version::HTTP_11);
        assert_eq!(plain.request.headers().get_all("cookie").iter().collect::<Vec<_>>(), ["c", "d"]);
        assert_eq!(
            plain.context,
            ResponseContext { is_head: false, keep_alive: true, takes_trailers: false, is_http10: false }
        );

        let plain =
            request("HEAD http://a/ HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\nTE: trailers\r\n\r\n").unwrap();
        assert_eq!(
            plain.context,
            ResponseContext { is_head: true, keep_alive: false, takes_trailers: true, is_http10: false }
        );
    }

    // RFC 9112 §9.3, RFC 9110 §7.8
    #[test]
    fn parses_http_1_0_and_ignores_upgrade_without_connection_option() {
        for (head, keep_alive, is_http10) in [
            ("GET / HTTP/1.0\r\n\r\n", false, true),
            ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true, true),
            ("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", false, true),
            ("GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n", false, true),
            ("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: a\r\n\r\n", true, false),
        ] {
            let plain = request(head).unwrap();
            assert_eq!((plain.context.keep_alive, plain.context.is_http10), (keep_alive, is_http10), "{head:?}");
            assert!(!plain.request.headers().contains_key(UPGRADE), "{head:?}");
        }
    }

    // RFC 9112 §3.2.4
    #[test]
    fn options_target_in_absolute_form_without_path_becomes_an_asterisk() {
        for (target, path) in
            [("http://a", "*"), ("http://a:81", "*"), ("http://a/", "/"), ("http://a?b", "/"), ("*", "*"), ("/", "/")]
        {
            let plain = request(&format!("OPTIONS {target} HTTP/1.1\r\nHost: a\r\n\r\n")).unwrap();
            assert_eq!(plain.request.uri().path(), path, "{target}");
        }
        assert_eq!(request("GET http://a HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().request.uri().path(), "/");
    }

    #[test]
    fn fast_path_declines_invalid_requests_and_requests_with_content() {
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(9));
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(64));
        let large = format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "a".repeat(512));
        for head in [
            "",
            "GET / HTTP/1.1\r\nHost: a\r\n",
            "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
            "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\0\r\n\r\n",
            "GET  / HTTP/1.1\r\n\r\n",
            "GET /a#b HTTP/1.1\r\n\r\n",
            "GET /\u{e9} HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.2\r\n\r\n",
            "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: x, Upgrade\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent_Length: 5\r\n\r\n",
            &many,
            &long,
            &large,
        ] {
            assert!(request(head).is_none(), "{head:?}");
        }
    }

    proptest! {
        #[test]
        fn parsing_a_request_head_never_panics(bytes: Vec<u8>) {
            let _ = parse(&bytes.into(), &LIMITS);
        }

        #[test]
        fn scanner_accepts_each_head_that_the_fast_path_parses(head in "[GP]E?[TO] ?/[a#\u{e9}]{0,2} HTTP/1.[01]\r?\n([aT][:\u{0} ]{1,2}[b\r]{0,2}\r?\n){0,3}\r?\n") {
            if let Some(plain) = request(&head) {
                let mut scanner = Scanner::new(LIMITS);
                prop_assert_eq!(scanner.scan(&head.as_bytes()[..plain.length]), Scan::Pass(plain.length));
                prop_assert!(scanner.is_at_head());
            }
        }
    }
}
