//! A body on its way into the store and to all who wait for it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Body;

use crate::flight::{End, Flight, Transfer};
use crate::tee::Tee;

/// Boxed, since it moves from the future of the one who asked to where all can reach it.
pub(crate) struct Carried<B> {
    body: Pin<Box<B>>,
    tee: Option<Tee>,
    ended: bool,
}

impl<B> Carried<B> {
    pub(crate) fn new(body: B, tee: Tee) -> Self {
        Self { body: Box::pin(body), tee: Some(tee), ended: false }
    }
}

impl<B> Carried<B>
where
    B: Body<Data = Bytes>,
{
    fn data(&mut self, data: Bytes, flight: &Flight) {
        let Some(mut tee) = self.tee.take() else {
            return flight.advance(|state| state.chunks.push(data));
        };
        if !tee.push(&data) {
            // Too large. The followers are set free, and the leader goes on.
            drop(tee);
            flight.advance(|state| state.chunks.push(data));
        } else if tee.is_complete() || self.body.is_end_stream() {
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
        match ready!(self.body.as_mut().poll_frame(cx)) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => self.data(data, flight),
                Err(frame) => {
                    // They would be lost on a hit.
                    self.tee = None;
                    let trailers = frame.into_trailers().ok();
                    flight.advance(|state| state.trailers = trailers);
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
}
