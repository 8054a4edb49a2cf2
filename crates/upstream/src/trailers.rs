//! Which fields may come behind a body (RFC 9110 §6.5.1).

use http::header::{self, HeaderMap, HeaderName};
use http_body::Frame;

/// Leaves of a request's trailers what is about its content: sums, digests and signatures of it.
///
/// Whoever merges trailers into the head, as some do against RFC 9110 §6.5.1, takes any other for what the proxy said
/// there, of who asks and for what. Intermediaries may discard them (§6.5.2), and most do with all.
pub(crate) fn keep_checks(trailers: &mut HeaderMap) {
    while let Some(name) = trailers.keys().find(|name| !is_check(name) || !may_trail(name)).cloned() {
        trailers.remove(name);
    }
}

fn is_check(name: &HeaderName) -> bool {
    let name = name.as_str();
    const WORDS: [&str; 7] = ["checksum", "crc32", "digest", "md5", "sha1", "sha256", "signature"];
    name.starts_with("grpc-") || name.ends_with("-sum") || WORDS.iter().any(|word| name.contains(word))
}

/// The frame without trailers that must not be any.
pub(crate) fn filtered<T>(frame: Frame<T>) -> Frame<T> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            while let Some(name) = trailers.keys().find(|name| !may_trail(name)).cloned() {
                trailers.remove(name);
            }
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

/// RFC 9110 §6.5.1: not what a recipient has to know before the content, or what says how to read it; nor who asks,
/// which a recipient that merges trailers would take for what the proxy said in the head.
pub(crate) fn may_trail(name: &HeaderName) -> bool {
    let is_claim = |prefix: &&str| {
        let same = |(byte, other): (u8, u8)| byte == other || other == b'-' && !byte.is_ascii_alphanumeric();
        name.as_str().len() >= prefix.len() && name.as_str().bytes().zip(prefix.bytes()).all(same)
    };
    const CLAIMS: [&str; 7] = ["x-forwarded", "x-real-ip", "x-request-id", "forwarded", "proxy", "if-", "sec-"];
    !CLAIMS.iter().any(is_claim)
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
    fn of_a_request_what_is_about_its_content_may_trail() {
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
        assert_eq!(left(&[&checks[..], &others].concat(), keep_checks), checks);
    }

    #[test]
    fn trailers_lose_what_frames_or_claims_and_data_is_left_alone() {
        let mut trailers = HeaderMap::new();
        for name in ["x-sum", "content-length", "x-forwarded-for", "x_real_ip", "set-cookie"] {
            trailers.append(name, header::HeaderValue::from_static("1"));
        }
        let left = filtered(Frame::<&[u8]>::trailers(trailers)).into_trailers().unwrap();
        assert_eq!(left.keys().collect::<Vec<_>>(), ["x-sum"]);
        assert_eq!(filtered(Frame::data(&b"a"[..])).into_data().unwrap(), b"a");
    }
}
