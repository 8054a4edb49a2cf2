//! The encoder of message bodies, and the serialisation of the chunked transfer coding (RFC 9112 §6, §7.1).

use http::header::HeaderMap;

use crate::fields::put_field;
use crate::framing::RequestBodyFraming;

/// An encoder for the body of a request.
///
/// It writes only the framing around the data, so that the data itself is not copied.
///
/// # Examples
///
/// ```
/// use rproxy_http1::{BodyEncoder, RequestBodyFraming};
///
/// let mut out = Vec::new();
/// let mut encoder = BodyEncoder::for_request(RequestBodyFraming::Chunked).expect("the request has content");
/// for data in [&b"hello"[..], b" world"] {
///     encoder.begin_data(&mut out, data.len())?;
///     out.extend_from_slice(data);
///     out.extend_from_slice(encoder.end_data());
/// }
/// encoder.end(&mut out, None)?;
/// assert_eq!(out, b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n");
/// # Ok::<(), rproxy_http1::WrongLength>(())
/// ```
#[derive(Debug)]
pub struct BodyEncoder(State);

#[derive(Debug)]
enum State {
    /// A body with `Content-Length`, and its remaining length in bytes.
    Length(u64),
    Chunked,
}

/// The error for a request body whose length differs from its declared length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request body does not have its declared length")]
pub struct WrongLength;

impl BodyEncoder {
    /// Creates the encoder of a request body. Returns `None` if the request has no content.
    #[must_use]
    pub fn for_request(framing: RequestBodyFraming) -> Option<Self> {
        match framing {
            RequestBodyFraming::Length(length) => Some(Self(State::Length(length))),
            RequestBodyFraming::Chunked => Some(Self(State::Chunked)),
            RequestBodyFraming::None | RequestBodyFraming::Upgrade => None,
        }
    }

    /// Returns whether all bytes of the declared length have been encoded.
    #[must_use]
    pub fn is_at_declared_length(&self) -> bool {
        matches!(self.0, State::Length(0))
    }

    /// Writes the framing that precedes data of this length, which is not 0. [`end_data`](Self::end_data) follows it.
    ///
    /// # Errors
    ///
    /// If the body is longer than its declared length.
    pub fn begin_data(&mut self, out: &mut Vec<u8>, length: usize) -> Result<(), WrongLength> {
        match &mut self.0 {
            State::Length(remaining) => *remaining = remaining.checked_sub(length as u64).ok_or(WrongLength)?,
            State::Chunked => put_chunk_size(out, length),
        }
        Ok(())
    }

    /// Returns the framing that follows data.
    #[must_use]
    pub fn end_data(&self) -> &'static [u8] {
        match self.0 {
            State::Length(_) => b"",
            State::Chunked => b"\r\n",
        }
    }

    /// Returns the framing that follows the last data, and ends a body without trailers.
    ///
    /// # Errors
    ///
    /// If the body is shorter than its declared length.
    pub fn end_last_data(&self) -> Result<&'static [u8], WrongLength> {
        match self.0 {
            State::Length(0) => Ok(b""),
            State::Length(_) => Err(WrongLength),
            State::Chunked => Ok(b"\r\n0\r\n\r\n"),
        }
    }

    /// Writes the end of the body, with its trailer section. A body with `Content-Length` cannot have one.
    ///
    /// # Errors
    ///
    /// If the body is shorter than its declared length.
    pub fn end(&self, out: &mut Vec<u8>, trailers: Option<&HeaderMap>) -> Result<(), WrongLength> {
        match self.0 {
            State::Length(0) => {}
            State::Length(_) => return Err(WrongLength),
            State::Chunked => put_last_chunk(out, trailers),
        }
        Ok(())
    }
}

/// Writes the chunk size line that precedes the data of a chunk. `length` is not 0, which would end the body.
pub fn put_chunk_size(out: &mut Vec<u8>, length: usize) {
    let mut digits = [0; 16];
    let (mut at, mut number) = (digits.len(), length);
    while number > 0 {
        at -= 1;
        digits[at] = b"0123456789abcdef"[number & 15];
        number >>= 4;
    }
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

/// Writes the last chunk and the trailers of a chunked body (RFC 9112 §7.1).
pub fn put_last_chunk(out: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        put_field(out, name.as_str(), value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::BodyDecoder;
    use bytes::BytesMut;
    use http::header::DATE;
    use proptest::prelude::*;

    #[test]
    fn writes_hexadecimal_chunk_sizes_and_trailers() {
        let mut out = Vec::new();
        put_chunk_size(&mut out, 0x1a2b);
        put_last_chunk(&mut out, Some(&HeaderMap::from_iter([(DATE, http::HeaderValue::from_static("now"))])));
        assert_eq!(out, b"1a2b\r\n0\r\ndate: now\r\n\r\n");
    }

    #[test]
    fn rejects_a_request_body_whose_length_differs_from_content_length() {
        let mut out = Vec::new();
        let mut encoder = BodyEncoder::for_request(RequestBodyFraming::Length(3)).unwrap();
        assert!(encoder.begin_data(&mut out, 2).is_ok() && encoder.end(&mut out, None).is_err());
        assert!(!encoder.is_at_declared_length() && encoder.end_last_data().is_err());
        assert!(encoder.begin_data(&mut out, 2).is_err());
        assert!(encoder.begin_data(&mut out, 1).is_ok() && encoder.end(&mut out, None).is_ok());
        assert!(encoder.is_at_declared_length() && encoder.end_last_data() == Ok(b"") && out.is_empty());
    }

    proptest! {
        #[test]
        fn chunked_encoding_of_a_request_body_round_trips(frames: Vec<Vec<u8>>, piece in 1..64_usize) {
            let (mut encoder, mut out) = (BodyEncoder::for_request(RequestBodyFraming::Chunked).unwrap(), Vec::new());
            for frame in frames.iter().filter(|frame| !frame.is_empty()) {
                encoder.begin_data(&mut out, frame.len()).unwrap();
                out.extend_from_slice(frame);
                out.extend_from_slice(encoder.end_data());
            }
            encoder.end(&mut out, None).unwrap();
            let mut decoder = BodyDecoder::for_request(RequestBodyFraming::Chunked);
            let (mut input, mut data) = (BytesMut::new(), Vec::new());
            for piece in out.chunks(piece) {
                input.extend_from_slice(piece);
                while let Some(frame) = decoder.decode(&mut input).unwrap() {
                    data.extend_from_slice(&frame.into_data().unwrap());
                }
            }
            prop_assert!(decoder.has_ended() && input.is_empty());
            prop_assert_eq!(data, frames.concat());
        }
    }
}
