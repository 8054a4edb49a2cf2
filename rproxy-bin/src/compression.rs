//! What tower-http's compression leaves to its users: `no-transform`, and honest ETags.

use http::header::{CACHE_CONTROL, CONTENT_ENCODING, ETAG};
use http::{HeaderValue, Response};
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{And, DefaultPredicate, Predicate};

/// Compresses what is worth it and may be.
pub(crate) fn layer() -> CompressionLayer<And<DefaultPredicate, MayTransform>> {
    CompressionLayer::new().compress_when(DefaultPredicate::new().and(MayTransform))
}

/// RFC 9111 §5.2.2.6: `no-transform` forbids it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MayTransform;

impl Predicate for MayTransform {
    fn should_compress<B>(&self, response: &Response<B>) -> bool
    where
        B: http_body::Body,
    {
        let mut lines = response.headers().get_all(CACHE_CONTROL).iter();
        !lines.any(|line| {
            let mut directives = line.as_bytes().split(|&byte| byte == b',');
            directives.any(|directive| directive.trim_ascii().eq_ignore_ascii_case(b"no-transform"))
        })
    }
}

/// Marks a response that the upstream encoded itself; its ETag speaks of that encoding.
#[derive(Clone, Copy)]
struct EncodedUpstream;

/// For below the compression: remembers whether the response came encoded.
pub(crate) fn mark<B>(mut response: Response<B>) -> Response<B> {
    if response.headers().contains_key(CONTENT_ENCODING) {
        response.extensions_mut().insert(EncodedUpstream);
    }
    response
}

/// For above the compression: RFC 9110 §8.8.3.3: bytes that are not those of the strong ETag may not
/// carry it.
pub(crate) fn weaken_etag<B>(mut response: Response<B>) -> Response<B> {
    if !response.headers().contains_key(CONTENT_ENCODING) || response.extensions().get::<EncodedUpstream>().is_some() {
        return response;
    }
    let weak = response
        .headers()
        .get(ETAG)
        .filter(|etag| !etag.as_bytes().starts_with(b"W/"))
        .and_then(|etag| HeaderValue::from_bytes(&[b"W/", etag.as_bytes()].concat()).ok());
    if let Some(weak) = weak {
        response.headers_mut().insert(ETAG, weak);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Empty;

    #[test]
    fn no_transform_is_obeyed() {
        for (value, may) in [("public, No-Transform", false), ("no-transform", false), ("max-age=60", true)] {
            let response = Response::builder().header(CACHE_CONTROL, value).body(Empty::<bytes::Bytes>::new()).unwrap();
            assert_eq!(MayTransform.should_compress(&response), may, "{value}");
        }
    }

    #[test]
    fn only_what_was_compressed_here_loses_its_strong_etag() {
        for (upstream, here, etag, expected) in [
            (None, Some("gzip"), "\"a\"", "W/\"a\""),
            (None, Some("gzip"), "W/\"a\"", "W/\"a\""),
            (None, None, "\"a\"", "\"a\""),
            (Some("br"), None, "\"a\"", "\"a\""),
        ] {
            let mut response = Response::builder().header(ETAG, etag).body(()).unwrap();
            let encode = |response: &mut Response<()>, encoding: Option<&'static str>| {
                let headers = response.headers_mut();
                headers.extend(encoding.map(|encoding| (CONTENT_ENCODING, HeaderValue::from_static(encoding))));
            };
            encode(&mut response, upstream);
            let mut response = mark(response);
            encode(&mut response, here);
            assert_eq!(weaken_etag(response).headers()[ETAG], expected);
        }
    }
}
