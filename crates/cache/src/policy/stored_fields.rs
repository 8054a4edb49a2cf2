//! The header fields of stored responses.

use bytes::{BufMut, BytesMut};
use http::HeaderMap;
use http::header::{self, HeaderName, HeaderValue};

use crate::cache_status::CACHE_STATUS;

/// Replaces the value of a header field, if the field exists. `HeaderMap::insert` would reserve capacity for another
/// field.
pub(crate) fn replace_value(headers: &mut HeaderMap, name: &HeaderName, value: HeaderValue) {
    if let Some(present) = headers.get_mut(name) {
        *present = value;
    }
}

/// Adds the fields of `others` whose names do not occur in `headers`.
pub(crate) fn add_missing(headers: &mut HeaderMap, others: &HeaderMap) {
    let missing: Vec<&HeaderName> = others.keys().filter(|name| !headers.contains_key(*name)).collect();
    for name in missing {
        for value in others.get_all(name) {
            headers.append(name, value.clone());
        }
    }
}

/// Whether a header field must not be stored (RFC 9111 §3.1).
pub(crate) fn is_excluded(name: &HeaderName, headers: &HeaderMap, excluded: &[HeaderName]) -> bool {
    is_hop_by_hop(name)
        || *name == header::AGE
        || *name == CACHE_STATUS
        || excluded.contains(name)
        || is_connection_option(name, headers)
}

/// Whether a header field applies only to one connection.
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

/// Whether `Connection` lists the name of a header field (RFC 9110 §7.6.1).
pub(crate) fn is_connection_option(name: &HeaderName, headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::CONNECTION).iter();
    values.any(|value| {
        value
            .as_bytes()
            .split(|&byte| byte == b',')
            .any(|option| option.trim_ascii().eq_ignore_ascii_case(name.as_str().as_bytes()))
    })
}

/// Joins the values of a list field into one value.
pub(crate) fn combined_value(headers: &HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    let values: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    if values.is_empty() { None } else { HeaderValue::from_bytes(&values.join(&b", "[..])).ok() }
}

/// Copies header fields, so that all values share one allocation. The values of a server's parser are slices of its
/// read buffer, and would keep it alive.
pub(crate) fn copy_compactly(
    headers: &HeaderMap,
    is_copied: impl Fn(&HeaderName) -> bool,
    spare_capacity: usize,
) -> HeaderMap {
    let kept: Vec<_> = headers.iter().filter(|(name, _)| is_copied(name)).collect();
    let mut text = BytesMut::with_capacity(kept.iter().map(|(_, value)| value.len()).sum());
    let mut copy_compactly = HeaderMap::with_capacity(kept.len() + spare_capacity);
    for (name, value) in kept {
        text.put_slice(value.as_bytes());
        if let Ok(value) = HeaderValue::from_maybe_shared(text.split().freeze()) {
            copy_compactly.append(name, value);
        }
    }
    copy_compactly
}
