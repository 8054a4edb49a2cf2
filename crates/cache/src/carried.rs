//! A body that is copied into the store while it is read: for one client, or for all who wait for it.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, SizeHint};
use tokio::runtime::Handle;

use crate::body::NextFrame;
use crate::flight::{END_WITHIN, End, Flight, Transfer};
use crate::reader::{BodyReader, Piece};
use crate::tee::Tee;

/// A body that one client reads.
///
/// The copy is boxed, as it moves to a task if the client has all bytes before the body has reported its end.
pub(crate) struct Copied<B> {
    copy: Option<Box<Copy<B>>>,
    finish: fn(Box<Copy<B>>),
}

struct Copy<B> {
    reader: BodyReader<B>,
    tee: Option<Tee>,
    /// Whether bytes that are stored already belong to the copy.
    covers_stored: bool,
}

impl<B> Copied<B>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Send + 'static,
{
    pub(crate) fn new(reader: BodyReader<B>, tee: Option<Tee>, covers_stored: bool) -> Self {
        Self { copy: Some(Box::new(Copy { reader, tee, covers_stored })), finish: finish::<B> }
    }
}

impl<B> Copied<B> {
    pub(crate) fn is_copied(&self) -> bool {
        self.copy.as_ref().is_some_and(|copy| copy.tee.is_some())
    }
}

impl<B> Copied<B>
where
    B: Body<Data = Bytes>,
    B::Error: Send + 'static,
{
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<NextFrame<B>> {
        match &mut self.copy {
            Some(copy) => copy.poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.copy.as_ref().is_none_or(|copy| copy.reader.is_end_stream())
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.copy.as_ref().map_or_else(|| SizeHint::with_exact(0), |copy| copy.reader.size_hint())
    }
}

impl<B> Drop for Copied<B> {
    fn drop(&mut self) {
        if let Some(copy) = self.copy.take().filter(|copy| copy.tee.as_ref().is_some_and(Tee::is_complete)) {
            (self.finish)(copy);
        }
    }
}

fn finish<B>(mut copy: Box<Copy<B>>)
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Send + 'static,
{
    if let Ok(runtime) = Handle::try_current()
        && !std::thread::panicking()
    {
        runtime.spawn(async move {
            let end = std::future::poll_fn(|cx| {
                while copy.tee.is_some() {
                    if ready!(copy.poll_frame(cx)).is_none() {
                        break;
                    }
                }
                Poll::Ready(())
            });
            let _ = tokio::time::timeout(END_WITHIN, end).await;
        });
    }
}

impl<B> Copy<B>
where
    B: Body<Data = Bytes>,
    B::Error: Send + 'static,
{
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<NextFrame<B>> {
        let piece = ready!(self.reader.poll_piece(cx));
        // Whatever goes wrong, the tee is gone and the client is served on.
        if let Some(mut tee) = self.tee.take() {
            let goes_on = match &piece {
                Some(Ok(Piece::Stored(data))) => !self.covers_stored || tee.push(data),
                Some(Ok(Piece::Origin(frame))) => match (frame.data_ref(), frame.trailers_ref()) {
                    (Some(data), _) => tee.push(data),
                    (None, Some(trailers)) => tee.push_trailers(trailers),
                    (None, None) => true,
                },
                Some(Err(_)) => false,
                None => true,
            };
            if goes_on {
                tee.set_awaits_end(self.reader.awaits_end());
            }
            if goes_on && (piece.is_none() || self.reader.is_end_stream()) {
                tee.finish();
            } else if goes_on {
                self.tee = Some(tee);
            }
        }
        Poll::Ready(piece.map(|piece| piece.map(Piece::into_frame)))
    }
}

/// A body that several clients read.
pub(crate) struct Carried<B> {
    reader: BodyReader<B>,
    tee: Option<Tee>,
    ended: bool,
}

impl<B> Carried<B> {
    pub(crate) fn new(reader: BodyReader<B>, tee: Tee) -> Self {
        Self { reader, tee: Some(tee), ended: false }
    }
}

impl<B> Carried<B>
where
    B: Body<Data = Bytes>,
    B::Error: Send + 'static,
{
    fn data(&mut self, data: Bytes, flight: &Flight) {
        let Some(mut tee) = self.tee.take() else {
            return flight.advance(|state| state.chunks.push(data));
        };
        if tee.push(&data) {
            return self.go_on(tee);
        }
        // Too large. The followers are set free, and the leader goes on.
        drop(tee);
        flight.advance(|state| state.chunks.push(data));
    }

    fn trailers(&mut self, trailers: HeaderMap, flight: &Flight) {
        let tee = self.tee.take().and_then(|mut tee| tee.push_trailers(&trailers).then_some(tee));
        flight.advance(|state| state.trailers = Some(trailers));
        if let Some(tee) = tee {
            self.go_on(tee);
        }
    }

    fn go_on(&mut self, mut tee: Tee) {
        tee.set_awaits_end(self.reader.awaits_end());
        if self.reader.is_end_stream() {
            tee.finish();
        } else {
            self.tee = Some(tee);
        }
    }
}

impl<B> Transfer for Carried<B>
where
    B: Body<Data = Bytes> + Send,
    B::Error: Send + 'static,
{
    fn poll_on(&mut self, flight: &Flight, cx: &mut Context<'_>) -> Poll<()> {
        if self.ended {
            return Poll::Pending;
        }
        match ready!(self.reader.poll_piece(cx)) {
            Some(Ok(piece)) => match piece.into_frame().into_data() {
                Ok(data) => self.data(data, flight),
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        self.trailers(trailers, flight);
                    }
                }
            },
            Some(Err(error)) => {
                self.ended = true;
                flight.advance(|state| state.end = Some(End::Failed(Some(Box::new(error)))));
                self.tee = None;
            }
            None => {
                self.ended = true;
                if let Some(tee) = self.tee.take() {
                    tee.finish();
                }
                flight.advance(|state| state.end = Some(End::Clean));
            }
        }
        Poll::Ready(())
    }

    fn awaits_end(&self) -> bool {
        !self.ended && self.tee.as_ref().is_some_and(Tee::is_complete)
    }
}
