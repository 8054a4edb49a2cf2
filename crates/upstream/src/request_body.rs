//! The body of a request, with the parts of it that are sent again in a retry.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use crate::trailers;

/// A request body, with buffered parts that were read in advance or are resent in a retry.
pub(crate) struct RequestBody<B: Body> {
    /// Content that is sent before the rest of `body`.
    buffered: Option<Chunk<B::Data>>,
    body: Option<B>,
    /// The trailer section of the request, if it was already read.
    trailers: Option<HeaderMap>,
}

impl<B: Body> RequestBody<B> {
    pub(crate) fn empty() -> Self {
        Self { buffered: None, body: None, trailers: None }
    }

    pub(crate) fn new(body: B) -> Self {
        Self { buffered: None, body: (!body.is_end_stream()).then_some(body), trailers: None }
    }

    /// Returns whether the request has neither content nor a trailer section.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffered.is_none() && self.body.is_none() && self.trailers.is_none()
    }

    /// Returns the length of the content: `u64::MAX` if unknown, `None` without content.
    pub(crate) fn content_length(&self) -> Option<u64>
    where
        B: Unpin,
    {
        let buffered = self.buffered.as_ref().map_or(0, |data| data.remaining() as u64);
        match &self.body {
            Some(body) if !body.is_end_stream() => Some(self.size_hint().exact().unwrap_or(u64::MAX)),
            _ => (!self.is_end_stream()).then_some(buffered),
        }
    }

    /// Reads the next frame if it is available, so that the length of a short body becomes known.
    pub(crate) async fn peek(&mut self) -> Result<(), B::Error>
    where
        B: Unpin,
    {
        if self.buffered.is_some() || self.trailers.is_some() || self.body.is_none() {
            return Ok(());
        }
        let Poll::Ready(frame) = poll_fn(|cx| Poll::Ready(Pin::new(&mut *self).poll_frame(cx))).await else {
            return Ok(());
        };
        match frame.transpose()?.map(Frame::into_data) {
            Some(Ok(data)) => self.buffered = Some(data),
            Some(Err(frame)) => *self = Self { buffered: None, body: None, trailers: frame.into_trailers().ok() },
            None => self.body = None,
        }
        Ok(())
    }

    /// Restores content that was already read from the body.
    pub(crate) fn with_buffered(self, data: Chunk<B::Data>) -> Self {
        Self { buffered: Some(data), ..self }
    }

    /// Restores the content and the trailer section that were already read from the body.
    pub(crate) fn with_replay(self, data: Bytes, trailers: Option<HeaderMap>) -> Self {
        let buffered = (!data.is_empty()).then_some(Chunk::Replayed(data));
        // The trailer section is the end of the body.
        let body = if trailers.is_some() { None } else { self.body };
        Self { buffered, body, trailers }
    }
}

/// A chunk of the content of a request.
pub(crate) enum Chunk<D> {
    /// Data that has not been sent before.
    Original(D),
    /// Data that is sent again in a retry.
    Replayed(Bytes),
}

impl<D: Buf> Buf for Chunk<D> {
    fn remaining(&self) -> usize {
        match self {
            Self::Original(data) => data.remaining(),
            Self::Replayed(data) => data.remaining(),
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Original(data) => data.chunk(),
            Self::Replayed(data) => data.chunk(),
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Original(data) => data.advance(count),
            Self::Replayed(data) => data.advance(count),
        }
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        match self {
            // Without a copy if the data is `Bytes`.
            Self::Original(data) => data.copy_to_bytes(length),
            Self::Replayed(data) => data.copy_to_bytes(length),
        }
    }
}

// No field is pinned.
impl<B: Body + Unpin> Unpin for RequestBody<B> {}

impl<B> Body for RequestBody<B>
where
    B: Body + Unpin,
{
    type Data = Chunk<B::Data>;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, B::Error>>> {
        if let Some(data) = self.buffered.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        match &mut self.body {
            Some(body) => {
                let mut polled = ready!(Pin::new(body).poll_frame(cx));
                if let Some(Ok(frame)) = &mut polled
                    && let Some(trailers) = frame.trailers_mut()
                {
                    trailers::retain_integrity_fields(trailers);
                }
                Poll::Ready(polled.map(|frame| frame.map(|frame| frame.map_data(Chunk::Original))))
            }
            None => Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.buffered.is_none() && self.trailers.is_none() && self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        if let Some(buffered) = &self.buffered {
            let buffered = buffered.remaining() as u64;
            let (lower, upper) = (hint.lower(), hint.upper());
            hint = SizeHint::new();
            hint.set_lower(lower.saturating_add(buffered));
            if let Some(upper) = upper {
                hint.set_upper(upper.saturating_add(buffered));
            }
        }
        hint
    }
}
