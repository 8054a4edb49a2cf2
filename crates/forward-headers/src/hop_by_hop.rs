//! Removal of hop-by-hop fields (RFC 9110 §7.6.1).

use http::HeaderMap;
use http::header::{
    self, CONNECTION, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};

/// Removes hop-by-hop fields, and the fields that `Connection` nominates.
///
/// Passes the names of all other fields to `read_name`, including `TE` and nominated ones.
pub(crate) fn remove(headers: &mut HeaderMap, mut read_name: impl FnMut(&str)) {
    // Most messages have at most one such field. One pass over the names is cheaper than ten searches.
    let (mut connection, mut te, mut others) = (false, false, false);
    for name in headers.keys() {
        match name.as_str() {
            "connection" => connection = true,
            "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings" => others = true,
            name => {
                te |= name == "te";
                read_name(name);
            }
        }
    }
    if connection && let header::Entry::Occupied(connection) = headers.entry(CONNECTION) {
        // A fast path for the usual values.
        let has_nominated = !connection.iter().all(|line| is_persistence_option(line.as_bytes()));
        let nominated = if has_nominated { nominated(connection.iter()) } else { Vec::new() };
        connection.remove();
        for name in nominated {
            headers.remove(name);
        }
    }
    if others {
        for name in &HOP_BY_HOP {
            headers.remove(name);
        }
    }
    // RFC 9110 §10.1.4: `trailers` is valid for the next hop, because this proxy forwards trailers. The upstream adds `TE`
    // to `Connection` if the protocol to the backend has that field.
    if te && let header::Entry::Occupied(te) = headers.entry(TE) {
        let accepts_trailers = te.iter().flat_map(members).take(MAX_OPTIONS).any(is_trailers);
        if accepts_trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        } else {
            te.remove();
        }
    }
}

/// Returns the fields that `Connection` nominates, except end-to-end fields.
///
/// RFC 9110 §7.6.1 forbids nominating those. A client could otherwise remove fields that identify or restrict it.
fn nominated<'a>(connection: impl Iterator<Item = &'a HeaderValue>) -> Vec<HeaderName> {
    connection
        .flat_map(members)
        .take(MAX_OPTIONS)
        .filter(|option| !is_persistence_option(option))
        .filter_map(|option| HeaderName::from_bytes(option).ok())
        // A client must nominate `TE` (RFC 9110 §10.1.4); it is handled separately.
        .filter(|name| *name != TE && !is_end_to_end(name))
        .collect()
}

/// Returns whether a connection option is about the persistence of the connection, and nominates no field.
fn is_persistence_option(option: &[u8]) -> bool {
    option.eq_ignore_ascii_case(b"keep-alive") || option.eq_ignore_ascii_case(b"close")
}

/// Returns the members of a comma-separated list.
fn members(line: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    line.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|option| !option.is_empty())
}

/// The maximum number of `Connection` options that are read. Each can nominate one field, and requests have fewer
/// fields.
const MAX_OPTIONS: usize = 128;

fn is_trailers(option: &[u8]) -> bool {
    let name = option.split(|&byte| byte == b';').next().unwrap_or_default();
    name.trim_ascii().eq_ignore_ascii_case(b"trailers")
}

/// Returns whether a field is end-to-end and thus must not be nominated by `Connection`.
pub(crate) fn is_end_to_end(name: &HeaderName) -> bool {
    END_TO_END.contains(name) || END_TO_END_PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix))
}

/// Hop-by-hop fields, except `TE`, whose value `trailers` is kept. `Trailer` is end-to-end since RFC 9110 §6.6.2.
const HOP_BY_HOP: [HeaderName; 7] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// End-to-end fields on which the proxy or a backend relies.
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

    /// Removes hop-by-hop fields, and returns the remaining field names in sorted order.
    fn after_removal(fields: &[(&'static str, &'static str)]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        remove(&mut headers, |_| {});
        let mut remaining: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        remaining.sort();
        remaining
    }

    #[test]
    fn removes_hop_by_hop_fields_and_fields_nominated_by_connection() {
        for (fields, remaining) in [
            (&[("accept", "a"), ("keep-alive", "timeout=5"), ("transfer-encoding", "chunked")][..], &["accept: a"][..]),
            (&[("connection", "close, X-Own"), ("x-own", "1"), ("x-other", "2")], &["x-other: 2"]),
            (&[("connection", "x-a"), ("connection", " , X-B,"), ("x-a", "1"), ("x-b", "2")], &[]),
            (&[("connection", "Keep-Alive"), ("connection", "x-a"), ("x-a", "1")], &[]),
            (&[("upgrade", "h2c"), ("http2-settings", "AAA"), ("connection", "Upgrade, HTTP2-Settings")], &[]),
            (&[("proxy-authorization", "a"), ("proxy-authenticate", "b"), ("proxy-connection", "c")], &[]),
            (&[("te", "gzip")], &[]),
            (&[("te", "gzip, Trailers;q=0.5")], &["te: trailers"]),
            (&[("te", "gzip"), ("te", "trailers"), ("connection", "TE")], &["te: trailers"]),
            (&[("te", "gzip"), ("connection", "TE")], &[]),
            (&[("trailer", "x-sum")], &["trailer: x-sum"]),
        ] {
            assert_eq!(after_removal(fields), remaining, "{fields:?}");
        }
    }

    #[test]
    fn keeps_end_to_end_fields_nominated_by_connection() {
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
            remove(&mut headers, |_| {});
            assert_eq!(headers.get(name).unwrap(), value);
            assert!(!headers.contains_key(CONNECTION));
        }
    }
}
