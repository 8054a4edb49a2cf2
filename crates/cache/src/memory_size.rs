//! Estimates of the memory that values occupy, including allocator overhead.

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue};

/// The size of the reference counters in an `Arc` allocation.
pub(crate) const REFERENCE_COUNTS: usize = 2 * size_of::<usize>();

/// Returns the memory that an allocation of `size` bytes occupies. Allocators round up to one of four sizes per
/// doubling.
pub(crate) fn allocation(size: usize) -> usize {
    const SMALLEST: usize = 16;
    match size {
        0..=64 => size.next_multiple_of(SMALLEST),
        _ => size.next_multiple_of(size.next_power_of_two() / 8),
    }
}

/// Returns the memory that a `Bytes` value occupies, including its reference counter.
pub(crate) fn shared_bytes(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { allocation(bytes) + allocation(5 * size_of::<usize>()) }
}

/// Returns the memory that a header or trailer section occupies if its values share one allocation.
pub(crate) fn section(headers: &HeaderMap) -> usize {
    header_map(headers) + shared_bytes(headers.values().map(HeaderValue::len).sum())
}

/// Returns the memory that a header map occupies, excluding its values. The map must be a clone, which has no spare
/// capacity.
fn header_map(headers: &HeaderMap) -> usize {
    // The layout of `http`: a list of fields, and an index of 4/3 slots per field, rounded up to a power of two.
    const FIELD: usize = size_of::<HeaderName>() + size_of::<HeaderValue>() + 4 * size_of::<usize>();
    const SLOT: usize = 4;
    let index = (headers.keys_len() + headers.keys_len() / 3).next_power_of_two() * SLOT;
    let names = headers.keys().filter(|name| !is_standard_name(name)).map(|name| shared_bytes(name.as_str().len()));
    allocation(headers.len() * FIELD) + allocation(index) + names.sum::<usize>()
}

/// Whether `http` has a constant for a response field, so that the field name occupies no memory.
///
/// If a constant is missing here, the estimate is a little too large.
fn is_standard_name(name: &HeaderName) -> bool {
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
    fn allocation_sizes_are_rounded_up_to_four_size_classes_per_power_of_two() {
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
            assert_eq!(allocation(size), expected, "{size}");
        }
    }

    #[test]
    fn memory_of_a_header_map_includes_custom_field_names() {
        let mut headers = HeaderMap::new();
        headers.insert(header::ETAG, HeaderValue::from_static("x"));
        let standard = header_map(&headers);
        headers.insert("x-unusual", HeaderValue::from_static("x"));
        assert!(header_map(&headers) - standard >= 104 + 16);
    }
}
