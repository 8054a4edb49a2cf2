//! The response body of a shared fetch, for one of its clients.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use crate::body::error::BodyError;
use crate::coalesce::shared_fetch::{End, Follower, Next};

/// The body of a shared fetch, as one client receives it.
pub(crate) struct SharedBody {
    follower: Follower,
    /// Whether this is the leader's body, which continues even if the response cannot be shared.
    is_leader: bool,
    chunks: usize,
    bytes: usize,
    length: Option<u64>,
    /// The trailer section of the response, which is sent after the data. Boxed, since it would make every response
    /// body larger.
    trailers: Option<Box<HeaderMap>>,
    has_ended: bool,
}

impl SharedBody {
    /// Creates the body for one client, with the `length` in bytes if known.
    pub(crate) fn new(follower: Follower, is_leader: bool, length: Option<u64>) -> Self {
        Self { follower, is_leader, chunks: 0, bytes: 0, length, trailers: None, has_ended: false }
    }

    pub(crate) fn poll_frame<E: 'static>(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError<E>>>> {
        if self.has_ended {
            return Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(*trailers))));
        }
        Poll::Ready(match ready!(self.follower.poll_next(self.chunks, self.is_leader, cx)) {
            Next::Chunk(chunk) => {
                self.chunks += 1;
                self.bytes += chunk.len();
                Some(Ok(Frame::data(chunk)))
            }
            Next::Complete(response) => {
                self.has_ended = true;
                let rest = response.body().slice(self.bytes.min(response.body().len())..);
                self.bytes = response.body().len();
                // The leader also gets the fields that are not stored.
                self.trailers = match self.is_leader {
                    true => self.follower.take_trailers().map(Box::new),
                    false => response.trailers().cloned().map(Box::new),
                };
                match rest.is_empty() {
                    false => Some(Ok(Frame::data(rest))),
                    true => self.trailers.take().map(|trailers| Ok(Frame::trailers(*trailers))),
                }
            }
            Next::End(End::Clean) => {
                self.has_ended = true;
                self.follower.take_trailers().map(|trailers| Ok(Frame::trailers(trailers)))
            }
            Next::End(End::Failed(error)) => {
                self.has_ended = true;
                let error = error.and_then(|error| error.downcast().ok());
                Some(Err(error.map_or(BodyError::Incomplete, |error| *error)))
            }
        })
    }

    /// Whether the body is still being copied into the store and shared with other clients.
    pub(crate) fn is_shared(&self) -> bool {
        !self.has_ended && !self.follower.is_released()
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.has_ended && self.trailers.is_none()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match self.length {
            Some(length) => SizeHint::with_exact(length.saturating_sub(self.bytes as u64)),
            None => SizeHint::default(),
        }
    }
}
