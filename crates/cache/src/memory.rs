//! What memory costs, as allocators hand it out.

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue};

/// Before the value in an `Arc`.
pub(crate) const REFERENCE_COUNTS: usize = 2 * size_of::<usize>();

/// What an allocation of `size` bytes takes: allocators keep blocks of a few sizes, four to each doubling.
pub(crate) fn block(size: usize) -> usize {
    const SMALLEST: usize = 16;
    match size {
        0..=64 => size.next_multiple_of(SMALLEST),
        _ => size.next_multiple_of(size.next_power_of_two() / 8),
    }
}

/// The bytes and, next to them, what counts who shares them.
pub(crate) fn shared(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { block(bytes) + block(5 * size_of::<usize>()) }
}

/// A header or trailer section whose values share one block.
pub(crate) fn section(headers: &HeaderMap) -> usize {
    fields(headers) + shared(headers.values().map(HeaderValue::len).sum())
}

/// A header map that was cloned, and so has room for what is in it and no more; the values are counted elsewhere.
fn fields(headers: &HeaderMap) -> usize {
    // As `http` lays them out: a list of fields, and an index with a slot and a third for each, which is a power of two.
    const FIELD: usize = size_of::<HeaderName>() + size_of::<HeaderValue>() + 4 * size_of::<usize>();
    const SLOT: usize = 4;
    let index = (headers.keys_len() + headers.keys_len() / 3).next_power_of_two() * SLOT;
    let names = headers.keys().filter(|name| !is_usual(name)).map(|name| shared(name.as_str().len()));
    block(headers.len() * FIELD) + block(index) + names.sum::<usize>()
}

/// Whether the name of a response field is one of those that `http` knows, which take no memory of their own. Of one that
/// is missing here a little too much is counted.
fn is_usual(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::ACCEPT_RANGES
            | header::ACCESS_CONTROL_ALLOW_CREDENTIALS
            | header::ACCESS_CONTROL_ALLOW_HEADERS
            | header::ACCESS_CONTROL_ALLOW_METHODS
            | header::ACCESS_CONTROL_ALLOW_ORIGIN
            | header::ACCESS_CONTROL_EXPOSE_HEADERS
            | header::ACCESS_CONTROL_MAX_AGE
            | header::AGE
            | header::ALLOW
            | header::ALT_SVC
            | header::CACHE_CONTROL
            | header::CACHE_STATUS
            | header::CDN_CACHE_CONTROL
            | header::CONTENT_DISPOSITION
            | header::CONTENT_ENCODING
            | header::CONTENT_LANGUAGE
            | header::CONTENT_LENGTH
            | header::CONTENT_LOCATION
            | header::CONTENT_RANGE
            | header::CONTENT_SECURITY_POLICY
            | header::CONTENT_SECURITY_POLICY_REPORT_ONLY
            | header::CONTENT_TYPE
            | header::DATE
            | header::ETAG
            | header::EXPIRES
            | header::LAST_MODIFIED
            | header::LINK
            | header::LOCATION
            | header::PRAGMA
            | header::REFERRER_POLICY
            | header::RETRY_AFTER
            | header::SERVER
            | header::STRICT_TRANSPORT_SECURITY
            | header::VARY
            | header::VIA
            | header::X_CONTENT_TYPE_OPTIONS
            | header::X_DNS_PREFETCH_CONTROL
            | header::X_FRAME_OPTIONS
            | header::X_XSS_PROTECTION
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_in_four_sizes_to_each_doubling() {
        for (size, expected) in [
            (0, 0),
            (1, 16),
            (17, 32),
            (64, 64),
            (65, 80),
            (130, 160),
            (1024, 1024),
            (1025, 1280),
            (9000, 10240),
            (100_000, 114_688),
        ] {
            assert_eq!(block(size), expected, "{size}");
        }
    }

    #[test]
    fn unusual_names_take_memory_of_their_own() {
        let mut headers = HeaderMap::new();
        headers.insert(header::ETAG, HeaderValue::from_static("x"));
        let usual = fields(&headers);
        headers.insert("x-unusual", HeaderValue::from_static("x"));
        assert!(fields(&headers) - usual >= 104 + 16);
    }
}
