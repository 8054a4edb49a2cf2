//! The decoder and the encoder of HTTP/1.1 bodies (RFC 9112 §6, §7).

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;

use super::Malformed;
use super::head::Framing;
use crate::trailers::is_allowed;

/// A decoder for the body of an HTTP/1.1 response.
#[derive(Debug)]
pub(super) enum Decoder {
    /// A body with `Content-Length`, and its remaining length in bytes.
    Length(u64),
    Chunked(Chunked),
    Close,
    Ended,
}

/// The state of the decoder within a chunked body (RFC 9112 §7.1).
#[derive(Debug)]
pub(super) enum Chunked {
    /// The size of the next chunk is expected.
    Size,
    /// Data of the current chunk is expected, with the remaining length in bytes.
    Data(u64),
    /// The CRLF after the data of a chunk is expected.
    End,
    Trailers,
}

impl Decoder {
    pub(super) fn new(framing: Framing) -> Self {
        match framing {
            Framing::Empty | Framing::Length(0) => Self::Ended,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Chunked::Size),
            Framing::Close => Self::Close,
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self, Self::Ended)
    }

    /// Returns the remaining length of the body in bytes, if known.
    pub(super) fn remaining(&self) -> Option<u64> {
        match self {
            Self::Length(remaining) => Some(*remaining),
            Self::Ended => Some(0),
            Self::Chunked(_) | Self::Close => None,
        }
    }

    /// Decodes the next frame of the body from `input`. Returns `None` if more input is needed, or after the end of the
    /// body.
    pub(super) fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Frame<Bytes>>, Malformed> {
        match self {
            Self::Ended => Ok(None),
            _ if input.is_empty() => Ok(None),
            Self::Close => Ok(Some(Frame::data(input.split().freeze()))),
            Self::Length(remaining) => {
                let data = take(input, remaining);
                if *remaining == 0 {
                    *self = Self::Ended;
                }
                Ok(Some(Frame::data(data)))
            }
            Self::Chunked(chunked) => {
                let frame = chunked.decode(input)?;
                if let Step::End(trailers) = frame {
                    *self = Self::Ended;
                    return Ok(trailers.map(Frame::trailers));
                }
                Ok(match frame {
                    Step::Data(data) => Some(Frame::data(data)),
                    _ => None,
                })
            }
        }
    }

    /// Ends the body when the connection has been closed. Returns whether the body is complete.
    pub(super) fn end_at_close(&mut self) -> bool {
        match self {
            Self::Close | Self::Ended => {
                *self = Self::Ended;
                true
            }
            Self::Length(_) | Self::Chunked(_) => false,
        }
    }
}

/// The result of one step of the chunked decoder.
enum Step {
    Data(Bytes),
    End(Option<HeaderMap>),
    /// The decoder needs more input.
    NeedsInput,
}

impl Chunked {
    fn decode(&mut self, input: &mut BytesMut) -> Result<Step, Malformed> {
        loop {
            match self {
                // httparse parses a size without digits as 0.
                Self::Size if input.first().is_some_and(|byte| !byte.is_ascii_hexdigit()) => {
                    return Err(Malformed("a chunk of the response body has no valid size"));
                }
                Self::Size => match httparse::parse_chunk_size(input) {
                    Ok(httparse::Status::Complete((length, size))) if length <= MAX_CHUNK_LINE_SIZE => {
                        // httparse accepts any byte in a chunk extension. CR, LF and NUL are not allowed there (RFC
                        // 9112 §7.1.1).
                        if input.iter().take(length - 2).any(|byte| matches!(byte, b'\n' | 0)) {
                            return Err(Malformed("a chunk of the response body has no valid size"));
                        }
                        input.advance(length);
                        *self = if size == 0 { Self::Trailers } else { Self::Data(size) };
                    }
                    Ok(httparse::Status::Partial) if input.len() <= MAX_CHUNK_LINE_SIZE => return Ok(Step::NeedsInput),
                    _ => return Err(Malformed("a chunk of the response body has no valid size")),
                },
                Self::Data(remaining) => {
                    if input.is_empty() {
                        return Ok(Step::NeedsInput);
                    }
                    let data = take(input, remaining);
                    if *remaining == 0 {
                        *self = Self::End;
                    }
                    return Ok(Step::Data(data));
                }
                Self::End => match &input[..] {
                    [b'\r', b'\n', ..] => {
                        input.advance(2);
                        *self = Self::Size;
                    }
                    [] | [b'\r'] => return Ok(Step::NeedsInput),
                    _ => return Err(Malformed("a chunk of the response body does not end after its declared size")),
                },
                Self::Trailers => return trailers(input),
            }
        }
    }
}

/// Takes at most `remaining` bytes from the front of `input`.
fn take(input: &mut BytesMut, remaining: &mut u64) -> Bytes {
    let length = usize::try_from(*remaining).unwrap_or(usize::MAX).min(input.len());
    *remaining -= length as u64;
    input.split_to(length).freeze()
}

/// Parses the trailer section of a chunked response (RFC 9112 §7.1.2).
fn trailers(input: &mut BytesMut) -> Result<Step, Malformed> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_TRAILER_FIELDS];
    let (length, fields) = match httparse::parse_headers(input, &mut fields) {
        Ok(httparse::Status::Complete(complete)) => complete,
        Ok(httparse::Status::Partial) if input.len() <= MAX_TRAILER_SIZE => return Ok(Step::NeedsInput),
        _ => return Err(Malformed("the trailer section of the response is malformed")),
    };
    let mut trailers = HeaderMap::new();
    for field in fields {
        match (HeaderName::from_bytes(field.name.as_bytes()), HeaderValue::from_bytes(field.value)) {
            (Ok(name), Ok(value)) if is_allowed(&name) => drop(trailers.append(name, value)),
            (Ok(_), Ok(_)) => {}
            _ => return Err(Malformed("a trailer field of the response has invalid characters")),
        }
    }
    input.advance(length);
    Ok(Step::End((!trailers.is_empty()).then_some(trailers)))
}

/// An encoder for the body of an HTTP/1.1 request.
#[derive(Debug)]
pub(super) enum Encoder {
    Length(u64),
    Chunked,
}

/// The error for a request body whose length differs from its declared length.
#[derive(Debug, thiserror::Error)]
#[error("the request body does not have its declared length")]
pub(crate) struct WrongLength;

impl Encoder {
    /// Writes the chunk size, if any, that precedes the data of a frame. [`Encoder::after`] returns the framing after
    /// it.
    pub(super) fn before(&mut self, length: usize, out: &mut BytesMut) -> Result<(), WrongLength> {
        match self {
            Self::Length(remaining) => {
                *remaining = remaining.checked_sub(length as u64).ok_or(WrongLength)?;
            }
            Self::Chunked => {
                let mut digits = [0; 16];
                let mut at = digits.len();
                let mut number = length;
                loop {
                    at -= 1;
                    digits[at] = b"0123456789abcdef"[number & 15];
                    number >>= 4;
                    if number == 0 {
                        break;
                    }
                }
                out.put_slice(&digits[at..]);
                out.put_slice(b"\r\n");
            }
        }
        Ok(())
    }

    /// Returns the bytes that follow the data of a frame.
    pub(super) fn after(&self) -> &'static [u8] {
        match self {
            Self::Length(_) => b"",
            Self::Chunked => b"\r\n",
        }
    }

    /// Returns the bytes that follow the data of the last frame and end the body.
    pub(super) fn after_last(&self) -> Result<&'static [u8], WrongLength> {
        match self {
            Self::Length(0) => Ok(b""),
            Self::Length(_) => Err(WrongLength),
            Self::Chunked => Ok(b"\r\n0\r\n\r\n"),
        }
    }

    /// Writes the bytes that end the body, including its trailer section.
    pub(super) fn end(&self, trailers: Option<&HeaderMap>, out: &mut BytesMut) -> Result<(), WrongLength> {
        match self {
            Self::Length(0) => Ok(()),
            Self::Length(_) => Err(WrongLength),
            Self::Chunked => {
                out.put_slice(b"0\r\n");
                for (name, value) in trailers.into_iter().flatten() {
                    out.put_slice(name.as_str().as_bytes());
                    out.put_slice(b": ");
                    out.put_slice(value.as_bytes());
                    out.put_slice(b"\r\n");
                }
                out.put_slice(b"\r\n");
                Ok(())
            }
        }
    }
}

/// The maximum length of the line with a chunk's size and its ignored extensions (RFC 9112 §7.1.1).
const MAX_CHUNK_LINE_SIZE: usize = 1024;
/// The maximum number of fields in a trailer section.
pub(crate) const MAX_TRAILER_FIELDS: usize = 32;
/// The maximum size of a trailer section in bytes.
pub(crate) const MAX_TRAILER_SIZE: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Decodes `input` in segments of `piece` bytes. Returns data, trailer section, whether the body ended, and the
    /// remaining length.
    fn decoded(framing: Framing, input: &[u8], piece: usize) -> Result<(Vec<u8>, HeaderMap, bool, usize), Malformed> {
        let mut decoder = Decoder::new(framing);
        let (mut buffer, mut data, mut trailers) = (BytesMut::new(), Vec::new(), HeaderMap::new());
        for piece in input.chunks(piece) {
            buffer.extend_from_slice(piece);
            while let Some(frame) = decoder.decode(&mut buffer)? {
                match frame.into_data() {
                    Ok(bytes) => data.extend_from_slice(&bytes),
                    Err(frame) => trailers.extend(frame.into_trailers().unwrap()),
                }
            }
        }
        Ok((data, trailers, decoder.has_ended(), buffer.len()))
    }

    #[test]
    fn detects_the_end_of_a_body_for_each_framing() {
        for (framing, input, data, ended, left) in [
            (Framing::Length(3), &b"abc"[..], &b"abc"[..], true, 0),
            (Framing::Length(3), b"ab", b"ab", false, 0),
            (Framing::Length(3), b"abcde", b"abc", true, 2),
            (Framing::Close, b"abc", b"abc", false, 0),
            (Framing::Chunked, b"3\r\nabc\r\n0\r\n\r\n", b"abc", true, 0),
            (Framing::Chunked, b"3;a=b;c\r\nabc\r\n00A\r\n0123456789\r\n0;x\r\n\r\nHTTP", b"abc0123456789", true, 4),
            (Framing::Chunked, b"3\r\nabc\r\n0\r\n", b"abc", false, 0),
            (Framing::Chunked, b"3\r\nabc\r\n", b"abc", false, 0),
        ] {
            for piece in 1..=input.len() {
                let got = decoded(framing, input, piece).unwrap();
                // With small pieces, the bytes after the end are not read.
                assert_eq!((&got.0[..], got.2), (data, ended), "{framing:?} {piece}");
                if piece == input.len() && ended {
                    assert_eq!(got.3, left);
                }
            }
        }
    }

    #[test]
    fn removes_framing_fields_from_trailer_sections() {
        let input = b"1\r\na\r\n0\r\nx-sum: 1\r\nContent-Length: 5\r\nhost: h\r\nX_Forwarded-For: 1\r\nx-real-ip: 1\r\nexpect: 1\r\nx-sum: 2\r\n\r\n";
        for piece in 1..=input.len() {
            let (data, trailers, ended, _) = decoded(Framing::Chunked, input, piece).unwrap();
            assert!(ended && data == b"a");
            assert_eq!(trailers.keys().collect::<Vec<_>>(), ["x-sum"]);
            assert_eq!(trailers.get_all("x-sum").iter().collect::<Vec<_>>(), ["1", "2"]);
        }
    }

    #[test]
    fn rejects_malformed_chunks_of_a_response_body() {
        let long = format!("1;{}\r\na", "x".repeat(MAX_CHUNK_LINE_SIZE));
        let trailers = format!("0\r\nx: {}", "x".repeat(MAX_TRAILER_SIZE));
        let many: String = (0..=MAX_TRAILER_FIELDS).map(|n| format!("x-{n}: 1\r\n")).collect();
        let many = format!("0\r\n{many}\r\n");
        for input in [
            "x\r\n",
            "-1\r\n",
            "0x1\r\na",
            "1\na",
            "1;\na\r\na",
            "1;\0\r\na",
            "fffffffffffffffff\r\n",
            "3\r\nabcd\r\n",
            "1\r\na0\r\n",
            "\r\n",
            &long,
            &trailers,
            &many,
        ] {
            assert!(decoded(Framing::Chunked, input.as_bytes(), input.len()).is_err(), "{input}");
        }
    }

    #[test]
    fn rejects_a_request_body_whose_length_differs_from_content_length() {
        let mut out = BytesMut::new();
        let mut encoder = Encoder::Length(3);
        assert!(encoder.before(2, &mut out).is_ok() && encoder.end(None, &mut out).is_err());
        assert!(encoder.before(2, &mut out).is_err());
        assert!(encoder.before(1, &mut out).is_ok() && encoder.end(None, &mut out).is_ok());
        assert!(out.is_empty());
    }

    proptest! {
        #[test]
        fn chunked_encoding_of_a_request_body_round_trips(frames: Vec<Vec<u8>>, piece in 1..64_usize) {
            let (mut encoder, mut out) = (Encoder::Chunked, BytesMut::new());
            for frame in frames.iter().filter(|frame| !frame.is_empty()) {
                encoder.before(frame.len(), &mut out).unwrap();
                out.extend_from_slice(frame);
                out.extend_from_slice(encoder.after());
            }
            encoder.end(None, &mut out).unwrap();
            let (data, _, ended, left) = decoded(Framing::Chunked, &out, piece).unwrap();
            prop_assert!(ended && left == 0);
            prop_assert_eq!(data, frames.concat());
        }

        #[test]
        fn decoding_an_arbitrary_response_body_never_panics(input: Vec<u8>, piece in 1..64_usize) {
            for framing in [Framing::Chunked, Framing::Length(7), Framing::Close] {
                let _ = decoded(framing, &input, piece);
            }
        }
    }
}
