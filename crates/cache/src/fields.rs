//! Fields of stored heads: which are stored, and how.

use bytes::{BufMut, BytesMut};
use http::HeaderMap;
use http::header::{self, HeaderName, HeaderValue};

use crate::cache_status::CACHE_STATUS;

/// Gives a field that is there another value. `insert` would make room for one more first.
pub(crate) fn replace(headers: &mut HeaderMap, name: &HeaderName, value: HeaderValue) {
    if let Some(present) = headers.get_mut(name) {
        *present = value;
    }
}

/// Adds the fields of `others` whose names are not in `headers` yet.
pub(crate) fn add_missing(headers: &mut HeaderMap, others: &HeaderMap) {
    let missing: Vec<&HeaderName> = others.keys().filter(|name| !headers.contains_key(*name)).collect();
    for name in missing {
        for value in others.get_all(name) {
            headers.append(name, value.clone());
        }
    }
}

/// RFC 9111 §3.1
pub(crate) fn is_unstored(name: &HeaderName, headers: &HeaderMap, unstored: &[HeaderName]) -> bool {
    is_hop_by_hop(name)
        || *name == header::AGE
        || *name == CACHE_STATUS
        || unstored.contains(name)
        || is_connection_option(name, headers)
}

pub(crate) fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::CONNECTION
            | header::PROXY_AUTHENTICATE
            | header::PROXY_AUTHORIZATION
            | header::TE
            | header::TRAILER
            | header::TRANSFER_ENCODING
            | header::UPGRADE
    ) || matches!(name.as_str(), "keep-alive" | "proxy-connection" | "proxy-authentication-info")
}

/// RFC 9110 §7.6.1
fn is_connection_option(name: &HeaderName, headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(header::CONNECTION).iter();
    lines.any(|line| {
        line.as_bytes()
            .split(|&byte| byte == b',')
            .any(|option| option.trim_ascii().eq_ignore_ascii_case(name.as_str().as_bytes()))
    })
}

/// All lines of a list as one.
pub(crate) fn combined(headers: &HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    let lines: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    if lines.is_empty() { None } else { HeaderValue::from_bytes(&lines.join(&b", "[..])).ok() }
}

/// The chosen fields in memory of their own: the values that a server's parser makes are slices of
/// its read buffer, and each would keep all of that alive.
pub(crate) fn compact(headers: &HeaderMap, chosen: impl Fn(&HeaderName) -> bool, more: usize) -> HeaderMap {
    let kept: Vec<_> = headers.iter().filter(|(name, _)| chosen(name)).collect();
    let mut text = BytesMut::with_capacity(kept.iter().map(|(_, value)| value.len()).sum());
    let mut compact = HeaderMap::with_capacity(kept.len() + more);
    for (name, value) in kept {
        text.put_slice(value.as_bytes());
        if let Ok(value) = HeaderValue::from_maybe_shared(text.split().freeze()) {
            compact.append(name, value);
        }
    }
    compact
}
