//! The decoder of message bodies (RFC 9112 §6).

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;

use crate::chunked::{Chunk, ChunkedDecoder, InvalidBody, Role};
use crate::framing::RequestBodyFraming;
use crate::response::ResponseBodyFraming;

/// A decoder for the body of a message.
#[derive(Debug)]
pub struct BodyDecoder(State);

#[derive(Debug)]
enum State {
    /// A body with `Content-Length`, and its remaining length in bytes.
    Length(u64),
    // Boxed, because most bodies have a length.
    Chunked(Box<ChunkedDecoder>),
    /// A body that ends when the connection is closed.
    Close,
    /// A chunked body of which only the trailer section has not been returned.
    Trailers(HeaderMap),
    /// A chunked body that is invalid after the frames that have been returned.
    Invalid(InvalidBody),
    Ended,
}

impl BodyDecoder {
    /// Creates the decoder of a request body.
    #[must_use]
    pub fn for_request(framing: RequestBodyFraming) -> Self {
        Self(match framing {
            RequestBodyFraming::None | RequestBodyFraming::Upgrade | RequestBodyFraming::Length(0) => State::Ended,
            RequestBodyFraming::Length(length) => State::Length(length),
            RequestBodyFraming::Chunked => State::Chunked(Box::new(ChunkedDecoder::new(Role::Client))),
        })
    }

    /// Creates the decoder of a response body.
    #[must_use]
    pub fn for_response(framing: ResponseBodyFraming) -> Self {
        Self(match framing {
            ResponseBodyFraming::Empty | ResponseBodyFraming::Length(0) => State::Ended,
            ResponseBodyFraming::Length(length) => State::Length(length),
            ResponseBodyFraming::Chunked => State::Chunked(Box::new(ChunkedDecoder::new(Role::Server))),
            ResponseBodyFraming::Close => State::Close,
        })
    }

    /// Returns whether the end of the body has been decoded.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.0, State::Ended)
    }

    /// Returns the remaining length of the body in bytes, if known.
    #[must_use]
    pub fn remaining(&self) -> Option<u64> {
        match &self.0 {
            State::Length(remaining) => Some(*remaining),
            State::Ended => Some(0),
            State::Chunked(_) | State::Close | State::Trailers(_) | State::Invalid(_) => None,
        }
    }

    /// Decodes the next frame of the body from the front of `input`, without copying it.
    ///
    /// Small chunks are copied into one frame, so that a body of many small chunks does not cost one write for each.
    ///
    /// Returns `None` if more input is needed, or after the end of the body.
    ///
    /// # Errors
    ///
    /// If the chunked coding is invalid or exceeds a limit. The connection cannot be used any more.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Frame<Bytes>>, InvalidBody> {
        match &mut self.0 {
            State::Ended => Ok(None),
            State::Invalid(invalid) => Err(*invalid),
            State::Trailers(trailers) => {
                let trailers = std::mem::take(trailers);
                self.0 = State::Ended;
                Ok(Some(Frame::trailers(trailers)))
            }
            _ if input.is_empty() => Ok(None),
            State::Close => Ok(Some(Frame::data(input.split().freeze()))),
            State::Length(remaining) => {
                let length = usize::try_from(*remaining).unwrap_or(usize::MAX).min(input.len());
                *remaining -= length as u64;
                if *remaining == 0 {
                    self.0 = State::Ended;
                }
                Ok(Some(Frame::data(input.split_to(length).freeze())))
            }
            State::Chunked(decoder) => match decoder.decode(input) {
                Ok(Some(Chunk::Data(data))) if data.len() < SMALL_CHUNK && !input.is_empty() => {
                    Ok(Some(Frame::data(self.join(data, input))))
                }
                Ok(Some(Chunk::Data(data))) => Ok(Some(Frame::data(data))),
                Ok(Some(Chunk::End(trailers))) => {
                    self.0 = State::Ended;
                    Ok(trailers.map(Frame::trailers))
                }
                Ok(None) => Ok(None),
                Err(invalid) => {
                    self.0 = State::Invalid(invalid);
                    Err(invalid)
                }
            },
        }
    }

    /// Returns a chunk joined with those that follow it in `input`.
    fn join(&mut self, first: Bytes, input: &mut BytesMut) -> Bytes {
        let State::Chunked(decoder) = &mut self.0 else { return first };
        let mut joined = BytesMut::new();
        while joined.len() < JOINED_CHUNKS && !input.is_empty() {
            match decoder.decode(input) {
                Ok(Some(Chunk::Data(data))) => {
                    if joined.is_empty() {
                        joined.reserve(first.len() + data.len() + input.len());
                        joined.extend_from_slice(&first);
                    }
                    joined.extend_from_slice(&data);
                }
                Ok(Some(Chunk::End(trailers))) => {
                    self.0 = trailers.map_or(State::Ended, State::Trailers);
                    break;
                }
                Ok(None) => break,
                Err(invalid) => {
                    self.0 = State::Invalid(invalid);
                    break;
                }
            }
        }
        if joined.is_empty() { first } else { joined.freeze() }
    }

    /// Ends the body when the connection has been closed. Returns whether the body is complete.
    pub fn end_at_close(&mut self) -> bool {
        let is_complete = matches!(self.0, State::Close | State::Ended);
        if is_complete {
            self.0 = State::Ended;
        }
        is_complete
    }
}

/// The size in bytes below which a chunk is joined with the next one, because a copy is cheaper than a write.
const SMALL_CHUNK: usize = 2 * 1024;

/// The size in bytes at which no more chunks are joined.
const JOINED_CHUNKS: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes all frames in `input`. Returns their sizes, the trailers, and the error.
    fn frames(input: &str) -> (Vec<usize>, Option<HeaderMap>, Option<InvalidBody>) {
        let mut decoder = BodyDecoder::for_request(RequestBodyFraming::Chunked);
        let (mut input, mut sizes) = (BytesMut::from(input), Vec::new());
        loop {
            match decoder.decode(&mut input) {
                Ok(Some(frame)) => match frame.into_data() {
                    Ok(data) => sizes.push(data.len()),
                    Err(frame) => return (sizes, frame.into_trailers().ok(), None),
                },
                Ok(None) => return (sizes, None, None),
                Err(invalid) => {
                    assert_eq!(decoder.decode(&mut input).err(), Some(invalid), "the error does not change");
                    return (sizes, None, Some(invalid));
                }
            }
        }
    }

    #[test]
    fn small_chunks_are_joined_up_to_a_limit() {
        let small = "1\r\na\r\n";
        assert_eq!(frames(&format!("{}0\r\n\r\n", small.repeat(3))), (vec![3], None, None));
        let large = format!("1000\r\n{}\r\n", "a".repeat(4096));
        assert_eq!(frames(&format!("{large}{small}{large}")).0, [4096, 4097]);
        let many = frames(&small.repeat(20_000)).0;
        assert_eq!((many.len(), many.iter().sum::<usize>()), (2, 20_000));
    }

    #[test]
    fn trailers_and_errors_follow_joined_chunks() {
        let (sizes, trailers, _) = frames("1\r\na\r\n1\r\nb\r\n0\r\nt: v\r\n\r\n");
        assert_eq!((sizes, trailers.unwrap()["t"].as_bytes()), (vec![2], &b"v"[..]));
        let (sizes, _, invalid) = frames("1\r\na\r\n1\r\nb\r\nx\r\n");
        assert_eq!((sizes, invalid), (vec![2], Some(InvalidBody::ChunkSize)));
    }

    #[test]
    fn detects_the_end_of_a_body_for_each_framing() {
        use ResponseBodyFraming::{Chunked, Close, Empty, Length};
        for (framing, input, content, has_ended, rest) in [
            (Empty, &b"HTTP"[..], &b""[..], true, &b"HTTP"[..]),
            (Length(0), b"HTTP", b"", true, b"HTTP"),
            (Length(3), b"abc", b"abc", true, b""),
            (Length(3), b"ab", b"ab", false, b""),
            (Length(3), b"abcde", b"abc", true, b"de"),
            (Close, b"abc", b"abc", false, b""),
            (Chunked, b"3;a=b\r\nabc\r\n0\r\n\r\nHTTP", b"abc", true, b"HTTP"),
            (Chunked, b"3\r\nabc\r\n0\r\n", b"abc", false, b""),
        ] {
            let mut decoder = BodyDecoder::for_response(framing);
            let (mut input, mut decoded) = (BytesMut::from(input), Vec::new());
            while let Some(frame) = decoder.decode(&mut input).unwrap() {
                decoded.extend_from_slice(&frame.into_data().unwrap());
            }
            assert_eq!((&*decoded, decoder.has_ended(), &*input), (content, has_ended, rest), "{framing:?}");
            assert_eq!(decoder.end_at_close(), has_ended || framing == Close, "{framing:?}");
        }
    }
}
