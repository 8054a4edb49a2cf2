//! The body of the origin's response, between stored bytes where it completes a stored part.

use std::any::Any;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::vec::IntoIter;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::body::{BodyError, NextFrame};

/// The body of the origin's response, and the stored bytes before and after it.
pub(crate) struct BodySource<B> {
    before: Vec<Bytes>,
    body: B,
    /// The length of `body`, if it is known.
    length: Option<u64>,
    after: Vec<Bytes>,
    is_exact: bool,
}

impl<B> BodySource<B> {
    /// A body alone, which has `length` bytes as far as its head says.
    pub(crate) fn new(body: B, length: Option<u64>) -> Self {
        Self { before: Vec::new(), body, length, after: Vec::new(), is_exact: false }
    }

    /// A body of exactly `length` bytes, between stored ones.
    pub(crate) fn between((before, after): (Vec<Bytes>, Vec<Bytes>), body: B, length: u64) -> Self {
        Self { before, body, length: Some(length), after, is_exact: true }
    }

    /// The length of all of it, if that is known.
    pub(crate) fn length(&self) -> Option<u64> {
        let stored = self.before.iter().chain(&self.after);
        Some(self.length? + stored.map(|bytes| bytes.len() as u64).sum::<u64>())
    }

    /// The body, if nothing stored belongs to it.
    pub(crate) fn into_alone(self) -> Result<B, Self> {
        if self.is_exact { Err(self) } else { Ok(self.body) }
    }
}

impl<B: Body> BodySource<B> {
    /// Whether the body has ended, and nothing stored belongs to it.
    pub(crate) fn is_end_stream(&self) -> bool {
        !self.is_exact && self.body.is_end_stream()
    }
}

/// Reads a body for a client and for the store.
///
/// It polls the origin's body once more when all bytes of the announced length are there. So its end is known as early as
/// possible, and only the end that the body itself reports counts: a stream that is reset after its last byte is incomplete.
pub(crate) struct BodyReader<B> {
    before: IntoIter<Bytes>,
    origin: Pin<Box<B>>,
    /// The bytes of `origin` that are still to come, if their number is known.
    missing: Option<u64>,
    /// Whether `origin` has to have the announced length, as what comes after it depends on that.
    is_exact: bool,
    /// What followed the last announced byte.
    peeked: Option<Peeked>,
    has_ended: bool,
    after: IntoIter<Bytes>,
}

/// A result of `poll_frame`, without the type of the error: the body itself may be unknown where this is named.
type Peeked = Option<Result<Frame<Bytes>, Box<dyn Any + Send>>>;

/// The next piece of a [`BodyReader`].
pub(crate) enum Piece {
    /// Bytes that the store has.
    Stored(Bytes),
    /// A frame of the origin's response.
    Origin(Frame<Bytes>),
}

impl Piece {
    pub(crate) fn into_frame(self) -> Frame<Bytes> {
        match self {
            Self::Stored(data) => Frame::data(data),
            Self::Origin(frame) => frame,
        }
    }
}

impl<B> From<BodySource<B>> for BodyReader<B> {
    fn from(BodySource { before, body, length, after, is_exact }: BodySource<B>) -> Self {
        Self {
            before: before.into_iter(),
            origin: Box::pin(body),
            missing: length,
            is_exact,
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
    pub(crate) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, BodyError<B::Error>>>> {
        if let Some(data) = self.before.next() {
            return Poll::Ready(Some(Ok(Piece::Stored(data))));
        }
        if !self.has_ended {
            match ready!(self.poll_origin(cx)) {
                Some(Ok(frame)) => return Poll::Ready(Some(Ok(Piece::Origin(frame)))),
                Some(Err(error)) => {
                    self.has_ended = true;
                    self.after = Vec::new().into_iter();
                    return Poll::Ready(Some(Err(error)));
                }
                None => self.has_ended = true,
            }
        }
        Poll::Ready(self.after.next().map(|data| Ok(Piece::Stored(data))))
    }

    fn poll_origin(&mut self, cx: &mut Context<'_>) -> Poll<NextFrame<B>> {
        loop {
            let next = match self.peeked.take() {
                Some(peeked) => peeked.map(|frame| frame.map_err(inner_error)),
                None => ready!(self.origin.as_mut().poll_frame(cx)).map(|frame| frame.map_err(BodyError::Inner)),
            };
            let frame = match next {
                Some(Ok(frame)) => frame,
                None if self.is_exact && self.missing != Some(0) => {
                    return Poll::Ready(Some(Err(BodyError::Incomplete)));
                }
                end => return Poll::Ready(end),
            };
            let Some(data) = frame.data_ref() else {
                // Trailers are about the part that they end, and would come before what is stored.
                if self.is_exact {
                    continue;
                }
                return Poll::Ready(Some(Ok(frame)));
            };
            let missing = self.missing.map(|missing| missing.checked_sub(data.len() as u64));
            if missing == Some(None) && self.is_exact {
                return Poll::Ready(Some(Err(BodyError::Incomplete)));
            }
            self.missing = missing.flatten();
            if self.missing == Some(0) {
                self.peek(cx);
            }
            return Poll::Ready(Some(Ok(frame)));
        }
    }

    /// Looks for the end of the origin's body: servers stop reading a body when they have all of its bytes.
    fn peek(&mut self, cx: &mut Context<'_>) {
        if self.origin.is_end_stream() {
            return;
        }
        if let Poll::Ready(next) = self.origin.as_mut().poll_frame(cx) {
            self.peeked = Some(next.map(|frame| frame.map_err(|error| Box::new(error) as Box<dyn Any + Send>)));
        }
    }

    /// Whether the origin has sent all bytes that it announced, and not yet the end of the body.
    pub(crate) fn awaits_end(&self) -> bool {
        self.missing == Some(0) && !self.has_origin_ended()
    }

    fn has_origin_ended(&self) -> bool {
        match &self.peeked {
            _ if self.has_ended => true,
            Some(peeked) => peeked.is_none(),
            None => self.origin.is_end_stream() && (!self.is_exact || self.missing == Some(0)),
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.has_origin_ended() && self.before.as_slice().is_empty() && self.after.as_slice().is_empty()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match self.missing {
            Some(missing) if self.is_exact => {
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
