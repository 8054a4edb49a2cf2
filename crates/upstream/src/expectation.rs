//! The expectation `100-continue` of a request (RFC 9110 §10.1.1).

use http::header::EXPECT;
use http::{Request, Version};
use http_body::Body;

use crate::request_body::RequestBody;

/// The handling of requests with `Expect: 100-continue` (RFC 9110 §10.1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExpectContinue {
    /// Sends the field to HTTP/1.1 backends, and the content after the backend has responded with 100, or after 1 s.
    ///
    /// If the backend sends a final response first, the content is not sent, and the connection is closed.
    #[default]
    Forward,
    /// Removes the field, and sends the content without waiting for the backend.
    Answer,
}

impl ExpectContinue {
    /// Removes `Expect` from a request unless the backend decides whether the content is sent.
    ///
    /// An HTTP/1.0 client cannot receive a 100 (RFC 9110 §10.1.1), and the server sends none over HTTP/2. Other
    /// expectations are not defined.
    pub(crate) fn apply<B: Body + Unpin>(self, request: &mut Request<RequestBody<B>>) {
        let Some(expectation) = request.headers().get(EXPECT) else { return };
        let is_forwarded = self == Self::Forward
            && request.version() == Version::HTTP_11
            && expectation.as_bytes().eq_ignore_ascii_case(b"100-continue")
            && request.headers().get_all(EXPECT).iter().count() == 1
            && !request.body().is_end_stream()
            && request.body().size_hint().exact() != Some(0);
        if !is_forwarded {
            request.headers_mut().remove(EXPECT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http_body_util::Full;

    #[test]
    fn expectation_is_forwarded_for_the_content_of_http_1_1_requests() {
        let forward = ExpectContinue::Forward;
        for (policy, version, lines, content, expected) in [
            (forward, Version::HTTP_11, &["100-continue"][..], "a", true),
            (forward, Version::HTTP_11, &["100-Continue"], "a", true),
            (forward, Version::HTTP_11, &["100-continue"], "", false),
            (forward, Version::HTTP_10, &["100-continue"], "a", false),
            (forward, Version::HTTP_2, &["100-continue"], "a", false),
            (forward, Version::HTTP_11, &["100-continue", "100-continue"], "a", false),
            (forward, Version::HTTP_11, &["100-continue, x"], "a", false),
            (forward, Version::HTTP_11, &["x 100-continue"], "a", false),
            (forward, Version::HTTP_11, &["200-ok"], "a", false),
            (ExpectContinue::Answer, Version::HTTP_11, &["100-continue"], "a", false),
        ] {
            let mut request = Request::post("/").version(version);
            for line in lines {
                request = request.header(EXPECT, *line);
            }
            let mut request = request.body(RequestBody::new(Full::<Bytes>::from(content))).unwrap();
            policy.apply(&mut request);
            assert_eq!(request.headers().contains_key(EXPECT), expected, "{policy:?} {version:?} {lines:?} {content}");
        }
    }
}
