//! Fields that are about one connection (RFC 9110 §7.6.1).

use http::HeaderMap;
use http::header::{
    self, CONNECTION, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};

/// What was come upon on the way, so that nobody has to look for it once more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// `traceparent` or `tracestate`.
    pub(crate) trace_context: bool,
}

/// Removes what must not be forwarded. What comes in with them besides is left alone.
pub(crate) fn remove(headers: &mut HeaderMap) -> Seen {
    // Mostly there is nothing to do, or one thing: one look at each name tells, where a removal of each that could be
    // there would be ten searches.
    let (mut connection, mut te, mut others, mut seen) = (false, false, false, Seen::default());
    for name in headers.keys() {
        match name.as_str() {
            "connection" => connection = true,
            "te" => te = true,
            "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings" => others = true,
            "traceparent" | "tracestate" => seen.trace_context = true,
            _ => {}
        }
    }
    if connection {
        remove_nominated(headers);
        headers.remove(CONNECTION);
    }
    if others {
        for name in &HOP_BY_HOP {
            headers.remove(name);
        }
    }
    // RFC 9110 §10.1.4: `trailers` is of use to the next hop, as this one passes trailers on. The upstream adds the option
    // to `Connection` where the protocol to the backend has that field.
    if te && let header::Entry::Occupied(te) = headers.entry(TE) {
        let takes_trailers = te.iter().flat_map(members).take(MAX_OPTIONS).any(is_trailers);
        if takes_trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        } else {
            te.remove();
        }
    }
    seen
}

/// Removes the fields that `Connection` nominates, but for those that are meant for the other end:
/// a client could make us forget who it is, or what it is allowed to (RFC 9110 §7.6.1 forbids
/// nominating such fields).
fn remove_nominated(headers: &mut HeaderMap) {
    let nominated: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(members)
        .take(MAX_OPTIONS)
        .filter(|option| !option.eq_ignore_ascii_case(b"close") && !option.eq_ignore_ascii_case(b"keep-alive"))
        .filter_map(|option| HeaderName::from_bytes(option).ok())
        // A client must nominate `TE` (RFC 9110 §10.1.4); it is handled separately.
        .filter(|name| *name != TE && !is_end_to_end(name))
        .collect();
    for name in nominated {
        headers.remove(name);
    }
}

/// The members of a comma-separated list.
fn members(line: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    line.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|option| !option.is_empty())
}

/// Options that are read. A request has about as many fields at most, and each option can name one.
const MAX_OPTIONS: usize = 128;

fn is_trailers(option: &[u8]) -> bool {
    let name = option.split(|&byte| byte == b';').next().unwrap_or_default();
    name.trim_ascii().eq_ignore_ascii_case(b"trailers")
}

/// Whether a field is for the other end, so that nobody on the way may have it removed.
pub(crate) fn is_end_to_end(name: &HeaderName) -> bool {
    END_TO_END.contains(name) || END_TO_END_PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix))
}

/// `TE` is dealt with apart, and `Trailer` is end-to-end since RFC 9110 §6.6.2.
const HOP_BY_HOP: [HeaderName; 7] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// What the proxy or the application relies on.
const END_TO_END: [HeaderName; 36] = [
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::ACCEPT_LANGUAGE,
    header::AGE,
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONTENT_DISPOSITION,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_SECURITY_POLICY,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::DATE,
    header::ETAG,
    header::EXPIRES,
    header::FORWARDED,
    header::HOST,
    header::LAST_MODIFIED,
    header::LOCATION,
    header::ORIGIN,
    header::PRAGMA,
    header::RANGE,
    header::REFERER,
    header::SET_COOKIE,
    header::STRICT_TRANSPORT_SECURITY,
    header::TRAILER,
    header::USER_AGENT,
    header::VARY,
    header::VIA,
    header::WWW_AUTHENTICATE,
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("x-csp-nonce"),
];

const END_TO_END_PREFIXES: [&str; 5] = ["x-forwarded-", "x-request-id", "sec-", "if-", "access-control-"];

#[cfg(test)]
mod tests {
    use super::*;

    fn removed(lines: &[(&'static str, &'static str)]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        remove(&mut headers);
        let mut left: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        left.sort();
        left
    }

    #[test]
    fn fields_of_the_connection_go_and_others_stay() {
        for (lines, left) in [
            (&[("accept", "a"), ("keep-alive", "timeout=5"), ("transfer-encoding", "chunked")][..], &["accept: a"][..]),
            (&[("connection", "close, X-Own"), ("x-own", "1"), ("x-other", "2")], &["x-other: 2"]),
            (&[("connection", "x-a"), ("connection", " , X-B,"), ("x-a", "1"), ("x-b", "2")], &[]),
            (&[("upgrade", "h2c"), ("http2-settings", "AAA"), ("connection", "Upgrade, HTTP2-Settings")], &[]),
            (&[("proxy-authorization", "a"), ("proxy-authenticate", "b"), ("proxy-connection", "c")], &[]),
            (&[("te", "gzip")], &[]),
            (&[("te", "gzip, Trailers;q=0.5")], &["te: trailers"]),
            (&[("te", "gzip"), ("te", "trailers"), ("connection", "TE")], &["te: trailers"]),
            (&[("te", "gzip"), ("connection", "TE")], &[]),
            (&[("trailer", "x-sum")], &["trailer: x-sum"]),
        ] {
            assert_eq!(removed(lines), left, "{lines:?}");
        }
    }

    #[test]
    fn a_nomination_removes_no_end_to_end_field() {
        for (name, value) in [
            ("host", "a"),
            ("authorization", "Basic a"),
            ("cookie", "a=b"),
            ("content-length", "1"),
            ("x-forwarded-for", "192.0.2.1"),
            ("x-real-ip", "192.0.2.1"),
            ("x-request-id", "1"),
            ("sec-websocket-key", "a"),
            ("if-none-match", "*"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONNECTION, HeaderValue::try_from(name.to_ascii_uppercase()).unwrap());
            headers.insert(name, HeaderValue::from_static(value));
            remove(&mut headers);
            assert_eq!(headers.get(name).unwrap(), value);
            assert!(!headers.contains_key(CONNECTION));
        }
    }
}
