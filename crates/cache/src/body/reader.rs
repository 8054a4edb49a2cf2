//! A reader of the origin's response body, and of the stored bytes before and after it.

use std::any::Any;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::vec::IntoIter;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{StatusCode, response};
use http_body::{Body, Frame, SizeHint};

use crate::body::error::{BodyError, NextFrame};

/// The origin's response body, with the stored bytes that precede and follow it.
pub(crate) struct BodySource<B> {
    before: Vec<Bytes>,
    body: B,
    /// The length of `body` in bytes, if known.
    length: Option<u64>,
    after: Vec<Bytes>,
    /// Whether `body` completes stored bytes, and must therefore have exactly `length` bytes.
    is_completion: bool,
}

impl<B> BodySource<B> {
    /// Creates a source of stored bytes with exactly `length` bytes of `body` between them.
    pub(crate) fn between((before, after): (Vec<Bytes>, Vec<Bytes>), body: B, length: u64) -> Self {
        Self { before, body, length: Some(length), after, is_completion: true }
    }

    /// Returns the total length of the body and the stored bytes, if known.
    pub(crate) fn length(&self) -> Option<u64> {
        let stored = self.before.iter().chain(&self.after);
        Some(self.length? + stored.map(|bytes| bytes.len() as u64).sum::<u64>())
    }

    /// Returns the origin's body, or `self` as an error if the body completes stored bytes.
    pub(crate) fn into_unmixed(self) -> Result<B, Self> {
        if self.is_completion { Err(self) } else { Ok(self.body) }
    }
}

impl<B: Body> BodySource<B> {
    /// Creates a source from a response body, with the length from its `Content-Length`.
    pub(crate) fn of_response(head: &response::Parts, body: B) -> Self {
        let length = expected_length(head, &body);
        Self { before: Vec::new(), body, length, after: Vec::new(), is_completion: false }
    }

    /// Whether the body has ended and there are no stored bytes around it.
    pub(crate) fn is_end_stream(&self) -> bool {
        !self.is_completion && self.body.is_end_stream()
    }
}

/// Returns the total length of the body in bytes, if known.
fn expected_length<B: Body>(head: &response::Parts, body: &B) -> Option<u64> {
    if head.status == StatusCode::NO_CONTENT {
        return body.size_hint().exact();
    }
    let announced = head.headers.get(header::CONTENT_LENGTH).map(HeaderValue::as_bytes);
    match announced.map(|digits| std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok())) {
        Some(Some(length)) => Some(length),
        // No body has this length, so the response is not stored.
        Some(None) => Some(u64::MAX),
        None => body.size_hint().exact(),
    }
}

/// A response body reader that feeds both the client and the store.
///
/// After the last announced byte it polls the body again, so that the end is known as early as possible. Only the end that
/// the body itself reports counts: an HTTP/2 stream that is reset after its last byte is incomplete.
pub(crate) struct BodyReader<B> {
    before: IntoIter<Bytes>,
    origin: Pin<Box<B>>,
    /// The number of bytes of the origin's body that have not arrived yet, if known.
    missing: Option<u64>,
    is_completion: bool,
    /// The result of polling the body after the last byte of its declared length.
    peeked: Option<Peeked>,
    has_ended: bool,
    after: IntoIter<Bytes>,
}

/// The result of polling the next frame of a body. The error is type-erased, as `B` may have no bounds here.
type Peeked = Option<Result<Frame<Bytes>, Box<dyn Any + Send>>>;

/// A part of a response body: stored bytes or a frame from the origin.
pub(crate) enum BodyPiece {
    /// Bytes that were read from the store.
    Stored(Bytes),
    /// A frame of the origin's response body.
    Origin(Frame<Bytes>),
}

impl BodyPiece {
    pub(crate) fn into_frame(self) -> Frame<Bytes> {
        match self {
            Self::Stored(data) => Frame::data(data),
            Self::Origin(frame) => frame,
        }
    }
}

impl<B> From<BodySource<B>> for BodyReader<B> {
    fn from(BodySource { before, body, length, after, is_completion }: BodySource<B>) -> Self {
        Self {
            before: before.into_iter(),
            origin: Box::pin(body),
            missing: length,
            is_completion,
            peeked: None,
            has_ended: false,
            after: after.into_iter(),
        }
    }
}

impl<B> BodyReader<B>
where
    B: Body<Data = Bytes>,
    B::Error: Send + 'static,
{
    /// Polls for the next part of the body. `None` is the clean end of the body.
    pub(crate) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<BodyPiece, BodyError<B::Error>>>> {
        if let Some(data) = self.before.next() {
            return Poll::Ready(Some(Ok(BodyPiece::Stored(data))));
        }
        if !self.has_ended {
            match ready!(self.poll_origin(cx)) {
                Some(Ok(frame)) => return Poll::Ready(Some(Ok(BodyPiece::Origin(frame)))),
                Some(Err(error)) => {
                    self.has_ended = true;
                    self.after = Vec::new().into_iter();
                    return Poll::Ready(Some(Err(error)));
                }
                None => self.has_ended = true,
            }
        }
        Poll::Ready(self.after.next().map(|data| Ok(BodyPiece::Stored(data))))
    }

    fn poll_origin(&mut self, cx: &mut Context<'_>) -> Poll<NextFrame<B>> {
        loop {
            let next = match self.peeked.take() {
                Some(peeked) => peeked.map(|frame| frame.map_err(inner_error)),
                None => ready!(self.origin.as_mut().poll_frame(cx)).map(|frame| frame.map_err(BodyError::Inner)),
            };
            let frame = match next {
                Some(Ok(frame)) => frame,
                None if self.is_completion && self.missing != Some(0) => {
                    return Poll::Ready(Some(Err(BodyError::Incomplete)));
                }
                end => return Poll::Ready(end),
            };
            let Some(data) = frame.data_ref() else {
                // Trailers of the missing part do not apply to the whole response, and would precede stored bytes.
                if self.is_completion {
                    continue;
                }
                return Poll::Ready(Some(Ok(frame)));
            };
            let missing = self.missing.map(|missing| missing.checked_sub(data.len() as u64));
            if missing == Some(None) && self.is_completion {
                return Poll::Ready(Some(Err(BodyError::Incomplete)));
            }
            self.missing = missing.flatten();
            if self.missing == Some(0) {
                self.peek(cx);
            }
            return Poll::Ready(Some(Ok(frame)));
        }
    }

    /// Polls for the end of the origin's body after the last byte of its declared length. Servers stop reading a body
    /// after its last byte.
    fn peek(&mut self, cx: &mut Context<'_>) {
        if self.origin.is_end_stream() {
            return;
        }
        if let Poll::Ready(next) = self.origin.as_mut().poll_frame(cx) {
            self.peeked = Some(next.map(|frame| frame.map_err(|error| Box::new(error) as Box<dyn Any + Send>)));
        }
    }

    /// Whether the origin has sent all bytes of the declared length but has not ended the body yet.
    pub(crate) fn awaits_end(&self) -> bool {
        self.missing == Some(0) && !self.has_origin_ended()
    }

    fn has_origin_ended(&self) -> bool {
        match &self.peeked {
            _ if self.has_ended => true,
            Some(peeked) => peeked.is_none(),
            None => self.origin.is_end_stream() && (!self.is_completion || self.missing == Some(0)),
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.has_origin_ended() && self.before.as_slice().is_empty() && self.after.as_slice().is_empty()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match self.missing {
            Some(missing) if self.is_completion => {
                let stored = self.before.as_slice().iter().chain(self.after.as_slice());
                SizeHint::with_exact(missing + stored.map(|bytes| bytes.len() as u64).sum::<u64>())
            }
            _ => self.origin.size_hint(),
        }
    }
}

fn inner_error<E: 'static>(error: Box<dyn Any + Send>) -> BodyError<E> {
    error.downcast().map_or(BodyError::Incomplete, |error| BodyError::Inner(*error))
}
