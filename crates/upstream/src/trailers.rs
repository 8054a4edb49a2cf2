//! The header fields that are allowed in a trailer section (RFC 9110 §6.5.1).

use http::header::{self, HeaderMap, HeaderName};
use http_body::Frame;

/// Removes all fields from a request's trailer section except those about its content, such as digests.
///
/// Some recipients merge the trailer section into the head, against RFC 9110 §6.5.1. Other fields could then replace
/// those that the proxy sets. An intermediary may discard a trailer section (§6.5.2), and most do.
pub(crate) fn retain_integrity_fields(trailers: &mut HeaderMap) {
    while let Some(name) = trailers.keys().find(|name| !is_integrity_field(name) || !is_allowed(name)).cloned() {
        trailers.remove(name);
    }
}

/// Returns whether a trailer field contains a digest, a signature or a gRPC status.
fn is_integrity_field(name: &HeaderName) -> bool {
    let name = name.as_str();
    const WORDS: [&str; 7] = ["checksum", "crc32", "digest", "md5", "sha1", "sha256", "signature"];
    name.starts_with("grpc-") || name.ends_with("-sum") || WORDS.iter().any(|word| name.contains(word))
}

/// Removes fields that are not allowed in a trailer section from a trailer frame.
pub(crate) fn filter_frame<T>(frame: Frame<T>) -> Frame<T> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            while let Some(name) = trailers.keys().find(|name| !is_allowed(name)).cloned() {
                trailers.remove(name);
            }
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

/// Returns whether a field is allowed in a trailer section (RFC 9110 §6.5.1).
///
/// Fields about framing, routing, authentication and content are not allowed, because they are needed before the
/// content. Forwarding fields are not allowed, because a recipient that merges trailers would trust them.
pub(crate) fn is_allowed(name: &HeaderName) -> bool {
    let has_prefix = |prefix: &&str| {
        let same = |(byte, other): (u8, u8)| byte == other || other == b'-' && !byte.is_ascii_alphanumeric();
        name.as_str().len() >= prefix.len() && name.as_str().bytes().zip(prefix.bytes()).all(same)
    };
    const PREFIXES: [&str; 7] = ["x-forwarded", "x-real-ip", "x-request-id", "forwarded", "proxy", "if-", "sec-"];
    !PREFIXES.iter().any(has_prefix)
        && !matches!(
            *name,
            header::AUTHORIZATION
                | header::CACHE_CONTROL
                | header::CONNECTION
                | header::CONTENT_ENCODING
                | header::CONTENT_LENGTH
                | header::CONTENT_RANGE
                | header::CONTENT_TYPE
                | header::COOKIE
                | header::EXPECT
                | header::HOST
                | header::MAX_FORWARDS
                | header::ORIGIN
                | header::RANGE
                | header::SET_COOKIE
                | header::TE
                | header::TRAILER
                | header::TRANSFER_ENCODING
                | header::UPGRADE
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn left(names: &[&'static str], keep: fn(&mut HeaderMap)) -> Vec<&'static str> {
        let mut trailers: HeaderMap =
            names.iter().map(|name| (name.parse().unwrap(), HeaderValue::from_static("1"))).collect();
        keep(&mut trailers);
        names.iter().copied().filter(|name| trailers.contains_key(*name)).collect()
    }

    #[test]
    fn retains_only_integrity_fields_in_the_trailer_section_of_a_request() {
        let checks = ["content-digest", "content-md5", "x-amz-checksum-crc32c", "x-amz-trailer-signature", "x-sum"];
        let others = [
            "x-forwarded-for",
            "x_forwarded_for",
            "x-forwarded-checksum",
            "x-real-ip",
            "cf-connecting-ip",
            "remote_user",
            "x-original-url",
            "content_length",
            "content-length",
            "host",
            "authorization",
            "cookie",
            "transfer-encoding",
            "x-own",
        ];
        assert_eq!(left(&[&checks[..], &others].concat(), retain_integrity_fields), checks);
    }

    #[test]
    fn filters_trailer_frames_and_forwards_data_frames_unchanged() {
        let mut trailers = HeaderMap::new();
        for name in ["x-sum", "content-length", "x-forwarded-for", "x_real_ip", "set-cookie"] {
            trailers.append(name, header::HeaderValue::from_static("1"));
        }
        let left = filter_frame(Frame::<&[u8]>::trailers(trailers)).into_trailers().unwrap();
        assert_eq!(left.keys().collect::<Vec<_>>(), ["x-sum"]);
        assert_eq!(filter_frame(Frame::data(&b"a"[..])).into_data().unwrap(), b"a");
    }
}
