//! The upload of a request body to an HTTP/2 backend.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use h2::{Reason, SendStream};
use http::HeaderMap;
use http_body::Body;
use rproxy_http1::WrongLength;

use super::observed_socket::Reservation;
use crate::error::BoxError;
use crate::request_body::RequestBody;

/// A request body that is sent within the backend's flow-control windows.
pub(super) struct Upload<B: Body> {
    stream: SendStream<Bytes>,
    body: RequestBody<B>,
    /// The part of the last frame that has not been sent yet.
    data: Bytes,
    /// Whether `data` is the last data of the request body.
    is_last: bool,
    has_ended: bool,
    /// The remaining length of the request body in bytes, if known.
    left: Option<u64>,
    has_progressed: bool,
    replay: Option<Replay>,
    /// The number of body bytes that were sent.
    sent: u64,
    /// The part of the send window that is reserved for the request body.
    reservation: Option<Arc<Reservation>>,
}

/// The body content that was read, buffered for a retry on another connection.
#[derive(Default)]
struct Replay {
    data: Vec<Bytes>,
    length: usize,
    trailers: Option<HeaderMap>,
}

/// The reason that an upload is incomplete.
pub(super) enum UploadError {
    /// The backend stopped reading the request body. The response contains the reason.
    Backend,
    /// Reading the request body from the client failed.
    Body(BoxError),
}

impl From<WrongLength> for UploadError {
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

    /// Returns whether the request body was sent completely.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Returns whether the next part of the body has not arrived yet.
    pub(super) fn awaits_body(&self) -> bool {
        !self.has_ended && self.data.is_empty() && !self.is_last
    }

    /// Returns whether the upload has progressed since the last call.
    pub(super) fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.has_progressed)
    }

    /// Sends the request body. It is ready when the body was sent completely.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UploadError>> {
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
                // Ready only when the capacity has increased.
                capacity = match ready!(self.stream.poll_capacity(cx)) {
                    Some(Ok(capacity)) => capacity,
                    Some(Err(_)) | None => return Poll::Ready(Err(UploadError::Backend)),
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

    /// Sends a part of the request body.
    fn send(&mut self, data: Bytes, is_end: bool) -> Result<(), UploadError> {
        self.has_progressed = true;
        self.sent += data.len() as u64;
        self.stream.send_data(data, is_end).map_err(|_| UploadError::Backend)?;
        if is_end {
            self.end();
        }
        Ok(())
    }

    /// Records that the request body has ended.
    fn end(&mut self) {
        self.has_ended = true;
        if let Some(reservation) = &self.reservation {
            reservation.shrink(self.sent);
        }
    }

    /// Reads the next frame of the request body.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UploadError>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx)).transpose();
        let frame = frame.map_err(|error| UploadError::Body(error.into()))?;
        match frame.map(|frame| frame.into_data().map_err(|frame| frame.into_trailers().ok())) {
            Some(Ok(mut data)) => {
                let length = data.remaining();
                if let Some(left) = &mut self.left {
                    *left = left.checked_sub(length as u64).ok_or(WrongLength)?;
                }
                self.is_last = self.body.is_end_stream();
                self.data = data.copy_to_bytes(length);
                self.buffer_for_replay();
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
                self.stream.send_trailers(trailers).map_err(|_| UploadError::Backend)?;
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

    /// Returns an error if the request body is shorter than its declared length.
    fn check_length(&self) -> Result<(), WrongLength> {
        if self.left.is_none_or(|left| left == 0) { Ok(()) } else { Err(WrongLength) }
    }

    /// Buffers the current data for a retry, up to a size limit.
    fn buffer_for_replay(&mut self) {
        if let Some(replay) = &mut self.replay {
            replay.length += self.data.len();
            replay.data.push(self.data.clone());
            // Each part has an overhead, so their number is limited, too.
            if replay.length > MAX_REPLAY_SIZE || replay.data.len() > MAX_REPLAY_PARTS {
                self.replay = None;
            }
        }
    }

    /// Returns the complete request body for a retry. Returns `None` if it exceeded the limit.
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
        Some(self.body.with_replay(taken, trailers))
    }

    /// Discards the data that was buffered for a retry, because a response was received.
    pub(super) fn discard_replay(&mut self) {
        self.replay = None;
    }

    /// Resets the stream because the request body failed.
    pub(super) fn abort(&mut self) {
        self.stream.send_reset(Reason::CANCEL);
    }
}

/// The maximum number of body bytes that are buffered for a retry.
pub(super) const MAX_REPLAY_SIZE: usize = 32 * 1024;
/// The maximum number of body chunks that are buffered for a retry.
const MAX_REPLAY_PARTS: usize = 64;
