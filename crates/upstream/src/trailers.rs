//! What may come behind the content.

use http::header::{self, HeaderName};
use http_body::Frame;

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
    use http::HeaderMap;

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
