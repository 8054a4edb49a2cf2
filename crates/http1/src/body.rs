//! The decoder of message bodies (RFC 9112 §6).

use bytes::{Bytes, BytesMut};
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
            State::Chunked(_) | State::Close => None,
        }
    }

    /// Decodes the next frame of the body from the front of `input`, without copying it.
    ///
    /// Returns `None` if more input is needed, or after the end of the body.
    ///
    /// # Errors
    ///
    /// If the chunked coding is invalid or exceeds a limit. The connection cannot be used any more.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Frame<Bytes>>, InvalidBody> {
        match &mut self.0 {
            State::Ended => Ok(None),
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
            State::Chunked(decoder) => Ok(match decoder.decode(input)? {
                Some(Chunk::Data(data)) => Some(Frame::data(data)),
                Some(Chunk::End(trailers)) => {
                    self.0 = State::Ended;
                    trailers.map(Frame::trailers)
                }
                None => None,
            }),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

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
