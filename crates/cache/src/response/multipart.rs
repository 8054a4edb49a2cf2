//! The content of a 206 response with several ranges (`multipart/byteranges`, RFC 9110 §14.6).

use std::hash::{BuildHasher, RandomState};

use bytes::Bytes;
use http::HeaderValue;

/// Several byte ranges of a body, encoded as `multipart/byteranges`. The bytes of the body are shared and not copied.
pub(crate) struct Multipart {
    pub(crate) content_type: HeaderValue,
    pub(crate) segments: Vec<Bytes>,
}

impl Multipart {
    /// Creates the multipart content from ranges of `body`, given as first and last byte positions. `content_type` is
    /// that of the body.
    pub(crate) fn new(body: &Bytes, ranges: &[(u64, u64)], content_type: Option<&HeaderValue>) -> Self {
        // The boundary is random, so that no body contains it on purpose.
        let boundary = format!("{:016x}{:016x}", random(), random());
        let mut segments = Vec::with_capacity(2 * ranges.len() + 1);
        for (number, (first, last)) in ranges.iter().enumerate() {
            let mut head = Vec::with_capacity(128);
            if number > 0 {
                head.extend_from_slice(b"\r\n");
            }
            head.extend_from_slice(format!("--{boundary}\r\n").as_bytes());
            if let Some(content_type) = content_type {
                head.extend_from_slice(b"Content-Type: ");
                head.extend_from_slice(content_type.as_bytes());
                head.extend_from_slice(b"\r\n");
            }
            head.extend_from_slice(format!("Content-Range: bytes {first}-{last}/{}\r\n\r\n", body.len()).as_bytes());
            segments.push(Bytes::from(head));
            segments.push(body.slice(*first as usize..=*last as usize));
        }
        segments.push(Bytes::from(format!("\r\n--{boundary}--\r\n")));
        let content_type = HeaderValue::try_from(format!("multipart/byteranges; boundary={boundary}"));
        let content_type = content_type.unwrap_or(HeaderValue::from_static("multipart/byteranges"));
        Self { content_type, segments }
    }

    pub(crate) fn length(&self) -> u64 {
        self.segments.iter().map(|segment| segment.len() as u64).sum()
    }
}

/// Returns a random number.
fn random() -> u64 {
    RandomState::new().hash_one(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_a_multipart_body_has_its_own_header_section() {
        // RFC 9110 §15.3.7.2
        let body = Bytes::from_static(b"0123456789");
        let content_type = HeaderValue::from_static("text/plain");
        let multipart = Multipart::new(&body, &[(0, 1), (8, 9)], Some(&content_type));
        let boundary = multipart.content_type.to_str().unwrap().split_once("boundary=").unwrap().1.to_owned();
        let expected = format!(
            "--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\r\n01\r\n\
             --{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes 8-9/10\r\n\r\n89\r\n--{boundary}--\r\n"
        );
        assert_eq!(multipart.segments.concat(), expected.as_bytes());
        assert_eq!(multipart.length(), expected.len() as u64);
        assert!(boundary.len() == 32 && boundary != "0".repeat(32));
        assert!(!multipart.segments[1].is_empty() && multipart.segments[1].as_ptr() == body.as_ptr(), "not copied");
    }

    #[test]
    fn boundaries_of_multipart_bodies_are_unique() {
        let body = Bytes::from_static(b"01");
        let boundary = || Multipart::new(&body, &[(0, 0), (1, 1)], None).content_type;
        assert_ne!(boundary(), boundary());
    }
}
