//! Percent-encoding of request targets.
//!
//! Some clients send `/search?q="a"`, `/<a>` or raw UTF-8, which nginx, HAProxy and Caddy accept. [`http::Uri`] cannot
//! represent all of these bytes. Those that it cannot represent, and all non-ASCII bytes, are percent-encoded before any
//! layer reads the target, so that path filter, cache key, log and backend see the same bytes. All others are unchanged.

use http::Uri;

/// The class of a request target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The request target can be represented as [`http::Uri`].
    Valid,
    /// The request target can be represented as [`http::Uri`] after [`percent_encode`].
    Encodable,
    /// The text is not a valid request target.
    Malformed,
}

/// Classifies the target of a request line.
#[must_use]
pub fn classify(target: &[u8]) -> Class {
    // RFC 9112 §3.2: whitespace and control characters are invalid. A fragment is invalid too (§3.2.1), but the URI parser
    // would silently drop it.
    if target.is_empty() || !target.iter().copied().all(is_target_byte) {
        return Class::Malformed;
    }
    let (authority, path, query) = split(target);
    let is_path_byte = |&byte: &u8| is_path_byte(byte);
    let is_query_byte = |&byte: &u8| is_query_byte(byte);
    match path.iter().all(is_path_byte) && query.iter().all(is_query_byte) {
        true if authority.is_empty() && path.first() == Some(&b'/') => Class::Valid,
        true if Uri::try_from(target).is_ok() => Class::Valid,
        false if Uri::try_from(percent_encode(target)).is_ok() => Class::Encodable,
        _ => Class::Malformed,
    }
}

/// Percent-encodes all non-ASCII bytes, and the bytes of path and query that [`http::Uri`] cannot represent.
#[must_use]
pub fn percent_encode(target: &[u8]) -> Vec<u8> {
    let (authority, path, query) = split(target);
    let mut encoded = Vec::with_capacity(target.len() + 32);
    encoded.extend_from_slice(authority);
    push_encoded(&mut encoded, path, is_path_byte);
    push_encoded(&mut encoded, query, is_query_byte);
    encoded
}

fn push_encoded(encoded: &mut Vec<u8>, part: &[u8], is_allowed: impl Fn(u8) -> bool) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in part {
        if is_allowed(byte) {
            encoded.push(byte);
        } else {
            encoded.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

/// Splits a request target into scheme and authority (if any), path, and query with its `?`.
fn split(target: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let is_delimiter = |&byte: &u8| matches!(byte, b'/' | b'?');
    let path_at = match target.first() {
        Some(b'/') => 0,
        // Absolute-form (RFC 9112 §3.2.2).
        _ => match target.windows(3).position(|three| three == b"://") {
            Some(scheme) => {
                let rest = scheme + 3;
                target[rest..].iter().position(is_delimiter).map_or(target.len(), |at| rest + at)
            }
            None => target.len(),
        },
    };
    let (authority, rest) = target.split_at(path_at);
    let (path, query) = rest.split_at(memchr::memchr(b'?', rest).unwrap_or(rest.len()));
    (authority, path, query)
}

/// Returns whether a request target may contain a byte, either unchanged or percent-encoded.
#[inline]
#[must_use]
pub fn is_target_byte(byte: u8) -> bool {
    byte > b' ' && byte != 0x7f && byte != b'#'
}

fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'<' | b'>' | b'`')
}

fn is_query_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn encodes_only_bytes_that_a_uri_cannot_represent() {
        for (target, encoded) in [
            (&b"/a?q=\"x\""[..], "/a?q=%22x%22"),
            (b"/\"a\"", "/\"a\""),
            (b"/<a>?<b>", "/%3Ca%3E?%3Cb%3E"),
            (b"/`a`?`b`", "/%60a%60?`b`"),
            (b"/a\\..\\.env", "/a\\..\\.env"),
            (b"/{a}|^?{b}|^\\", "/{a}|^?{b}|^\\"),
            (b"/\xc3\xa9?\xc3\xa9", "/%C3%A9?%C3%A9"),
            (b"/\xff", "/%FF"),
            (b"/%3C%zz?%", "/%3C%zz?%"),
            (b"http://a.example/<a>?<b>", "http://a.example/%3Ca%3E?%3Cb%3E"),
            (b"http://a.example?<b>", "http://a.example?%3Cb%3E"),
            (b"/a?b=http://c/<d>", "/a?b=http://c/%3Cd%3E"),
        ] {
            assert_eq!(String::from_utf8(percent_encode(target)).unwrap(), encoded);
            assert_ne!(classify(target), Class::Malformed, "{encoded}");
            assert_eq!(classify(encoded.as_bytes()), Class::Valid, "{encoded}");
        }
    }

    #[test]
    fn rejects_invalid_request_targets() {
        for target in [
            &b""[..],
            b"/a b",
            b"/a\tb",
            b"/a\0",
            b"/a\x7f",
            b"/a#b",
            b"?a",
            b"http://[::1/",
            b"http://a:1:2/",
            b"http://@/",
            b"http://a%zz/",
            b"http://<a>/",
            b"http://\xc3\xa9/",
            b"<a>",
            b"\"",
            b"\xc3\xa9",
            &[b"a".repeat(100), b"://a/".to_vec()].concat(),
        ] {
            assert_eq!(classify(target), Class::Malformed, "{}", target.escape_ascii());
        }
    }

    #[test]
    fn encodes_exactly_the_bytes_that_a_uri_cannot_represent() {
        for byte in (0..=u8::MAX).filter(|&byte| is_target_byte(byte)) {
            for prefix in ["/", "/?"] {
                let target = [prefix.as_bytes(), &[byte]].concat();
                let is_allowed = byte.is_ascii() && Uri::try_from(&target[..]).is_ok();
                assert_eq!(classify(&target) == Class::Valid, is_allowed, "{prefix}{}", byte.escape_ascii());
            }
        }
    }

    proptest! {
        #[test]
        fn valid_and_encoded_request_targets_parse_as_uri(target in proptest::collection::vec(any::<u8>(), 0..40), prefix in "|/|http://a/|http://") {
            let target = [prefix.as_bytes(), &target].concat();
            match classify(&target) {
                Class::Valid => prop_assert_eq!(Uri::try_from(&target[..]).map(|uri| uri.to_string().is_ascii()).ok(), Some(true)),
                Class::Encodable => prop_assert_eq!(classify(&percent_encode(&target)), Class::Valid),
                Class::Malformed => {}
            }
        }
    }
}
