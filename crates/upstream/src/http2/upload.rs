//! The content of a request on its way to the backend.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use h2::{Reason, SendStream};
use http::HeaderMap;
use http_body::Body;

use super::wire::Reservation;
use crate::body::RequestBody;
use crate::error::BoxError;
use crate::http1::WrongLength;

/// Sends a body as the backend's flow control allows.
pub(super) struct Upload<B: Body> {
    stream: SendStream<Bytes>,
    body: RequestBody<B>,
    /// What is left of the last frame of the body.
    data: Bytes,
    /// Whether `data` is the last of the body.
    is_last: bool,
    has_ended: bool,
    /// How much is to come, if that is known.
    left: Option<u64>,
    has_progressed: bool,
    replay: Option<Replay>,
    /// How much was sent, and what is reserved for it.
    sent: u64,
    reservation: Option<Arc<Reservation>>,
}

/// What was taken of a body, for another connection.
#[derive(Default)]
struct Replay {
    data: Vec<Bytes>,
    length: usize,
    trailers: Option<HeaderMap>,
}

/// Why an upload ends early.
pub(super) enum Stop {
    /// The backend takes no more. The response says why.
    Backend,
    /// The body failed.
    Body(BoxError),
}

impl From<WrongLength> for Stop {
    fn from(error: WrongLength) -> Self {
        Self::Body(error.into())
    }
}

impl<B> Upload<B>
where
    B: Body<Error: Into<BoxError>> + Unpin,
{
    pub(super) fn new(stream: SendStream<Bytes>, body: RequestBody<B>, reservation: Option<Arc<Reservation>>) -> Self {
        let left = body.size_hint().exact();
        Self {
            stream,
            body,
            data: Bytes::new(),
            is_last: false,
            has_ended: false,
            left,
            has_progressed: false,
            replay: Some(Replay::default()),
            sent: 0,
            reservation,
        }
    }

    /// Whether all has been sent.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Whether it is the client's turn to send more.
    pub(super) fn awaits_body(&self) -> bool {
        !self.has_ended && self.data.is_empty() && !self.is_last
    }

    /// Whether anything has been sent since this was last called.
    pub(super) fn has_progressed(&mut self) -> bool {
        std::mem::take(&mut self.has_progressed)
    }

    /// Sends what can be sent; ready when that was all.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stop>> {
        while !self.has_ended {
            if self.data.is_empty() && !self.is_last {
                ready!(self.poll_frame(cx))?;
                continue;
            }
            if self.data.is_empty() {
                self.send(Bytes::new(), true)?;
                continue;
            }
            self.stream.reserve_capacity(self.data.len());
            let mut capacity = self.stream.capacity();
            if capacity == 0 {
                // Ready only when there is more of it than before.
                capacity = match ready!(self.stream.poll_capacity(cx)) {
                    Some(Ok(capacity)) => capacity,
                    Some(Err(_)) | None => return Poll::Ready(Err(Stop::Backend)),
                };
            }
            if capacity > 0 {
                let part = self.data.split_to(capacity.min(self.data.len()));
                let is_end = self.is_last && self.data.is_empty();
                self.send(part, is_end)?;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn send(&mut self, data: Bytes, is_end: bool) -> Result<(), Stop> {
        self.has_progressed = true;
        self.sent += data.len() as u64;
        self.stream.send_data(data, is_end).map_err(|_| Stop::Backend)?;
        if is_end {
            self.end();
        }
        Ok(())
    }

    fn end(&mut self) {
        self.has_ended = true;
        if let Some(reservation) = &self.reservation {
            reservation.shrink(self.sent);
        }
    }

    /// Takes the next frame of the body.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stop>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx)).transpose();
        let frame = frame.map_err(|error| Stop::Body(error.into()))?;
        match frame.map(|frame| frame.into_data().map_err(|frame| frame.into_trailers().ok())) {
            Some(Ok(mut data)) => {
                let length = data.remaining();
                if let Some(left) = &mut self.left {
                    *left = left.checked_sub(length as u64).ok_or(WrongLength)?;
                }
                self.is_last = self.body.is_end_stream();
                self.data = data.copy_to_bytes(length);
                self.keep();
                if self.is_last {
                    self.check_length()?;
                }
            }
            Some(Err(Some(trailers))) => {
                self.check_length()?;
                if let Some(replay) = &mut self.replay {
                    replay.trailers = Some(trailers.clone());
                }
                self.has_progressed = true;
                self.stream.send_trailers(trailers).map_err(|_| Stop::Backend)?;
                self.end();
            }
            Some(Err(None)) => {}
            None => {
                self.check_length()?;
                self.is_last = true;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn check_length(&self) -> Result<(), WrongLength> {
        if self.left.is_none_or(|left| left == 0) { Ok(()) } else { Err(WrongLength) }
    }

    /// Keeps what was taken, while there is little of it.
    fn keep(&mut self) {
        if let Some(replay) = &mut self.replay {
            replay.length += self.data.len();
            replay.data.push(self.data.clone());
            // Each part has a size of its own, too.
            if replay.length > REPLAY || replay.data.len() > REPLAY_PARTS {
                self.replay = None;
            }
        }
    }

    /// The whole body, to be sent on another connection, unless too much of it was taken.
    pub(super) fn into_body(self) -> Option<RequestBody<B>> {
        let Replay { mut data, length, trailers } = self.replay?;
        let taken = match data.len() {
            0 | 1 => data.pop().unwrap_or_default(),
            _ => {
                let mut whole = BytesMut::with_capacity(length);
                data.iter().for_each(|part| whole.extend_from_slice(part));
                whole.freeze()
            }
        };
        Some(self.body.replayed(taken, trailers))
    }

    /// Gives up what was kept: there is a response.
    pub(super) fn forget(&mut self) {
        self.replay = None;
    }

    /// Ends the exchange, because the body failed.
    pub(super) fn abort(&mut self) {
        self.stream.send_reset(Reason::CANCEL);
    }
}

/// How much of a body is kept until there is a response.
pub(super) const REPLAY: usize = 32 * 1024;
const REPLAY_PARTS: usize = 64;
