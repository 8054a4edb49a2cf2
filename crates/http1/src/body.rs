//! The decoder of message bodies (RFC 9112 §6).

use bytes::{Bytes, BytesMut};
use http_body::Frame;

use crate::chunked::{Chunk, ChunkedDecoder, Role};
use crate::{RequestBodyFraming, ResponseBodyFraming};

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

/// The reason that a body is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidBody {
    /// A chunk has no valid size.
    #[error("a chunk has no valid size")]
    ChunkSize,
    /// A chunk does not end after its declared size.
    #[error("a chunk does not end after its declared size")]
    ChunkEnd,
    /// The trailer section is malformed, or has too many fields.
    #[error("the trailer section is malformed or has too many fields")]
    Trailers,
    /// Chunk extensions or trailers are too large.
    #[error("chunk extensions or trailers are too large")]
    Overhead,
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

    /// Decodes the next frame of the body from the front of `input`, without copying it.
    ///
    /// Returns `None` if more input is needed, or after the end of the body.
    ///
    /// # Errors
    ///
    /// If the chunked coding is invalid or exceeds a limit. The connection can't be used any more.
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
