//! A request body with a size and a pace.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};

use super::RequestRefusal;

pin_project! {
    /// The body of a request that passed [`RequestGuardLayer`](super::RequestGuardLayer).
    #[derive(Debug)]
    pub struct GuardBody<B> {
        #[pin]
        inner: B,
        // `None` where there is no body, as in most requests.
        bounds: Option<Bounds>,
    }
}

#[derive(Debug)]
struct Bounds {
    left: Option<u64>,
    timeout: Duration,
    /// Made when a part is waited for, and used again.
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
    failure: Failure,
}

/// What became of a body, as the one who answers the request must know it.
#[derive(Clone, Debug, Default)]
pub(super) struct Failure(Arc<AtomicU8>);

impl Failure {
    fn set(&self, error: RequestBodyError) -> RequestBodyError {
        self.0.store(error as u8 + 1, Relaxed);
        error
    }

    pub(super) fn refusal(&self) -> Option<RequestRefusal> {
        const TOO_LARGE: u8 = RequestBodyError::TooLarge as u8 + 1;
        const TOO_SLOW: u8 = RequestBodyError::TooSlow as u8 + 1;
        match self.0.load(Relaxed) {
            0 => None,
            TOO_LARGE => Some(RequestRefusal::BodyTooLarge),
            TOO_SLOW => Some(RequestRefusal::BodyTooSlow),
            _ => Some(RequestRefusal::BodyBroken),
        }
    }
}

/// A request body that did not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestBodyError {
    /// More bytes than the limit.
    #[error("request body too large")]
    TooLarge,
    /// The next part took too long.
    #[error("request body too slow")]
    TooSlow,
    /// The client went away or broke the framing.
    #[error("request body broken off")]
    Broken,
}

impl<B> GuardBody<B> {
    pub(super) fn empty(inner: B) -> Self {
        Self { inner, bounds: None }
    }

    pub(super) fn new(inner: B, max: Option<u64>, timeout: Duration) -> (Self, Failure) {
        let failure = Failure::default();
        let bounds = Bounds { left: max, timeout, timer: None, waiting: false, failure: failure.clone() };
        (Self { inner, bounds: Some(bounds) }, failure)
    }
}

impl<B: Default> Default for GuardBody<B> {
    fn default() -> Self {
        Self::empty(B::default())
    }
}

impl<B: Body> Body for GuardBody<B> {
    type Data = B::Data;
    type Error = RequestBodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        let polled = this.inner.poll_frame(cx);
        let Some(bounds) = this.bounds else {
            return polled.map_err(|_| RequestBodyError::Broken);
        };
        match polled {
            Poll::Pending if bounds.is_too_slow(cx) => {
                Poll::Ready(Some(Err(bounds.failure.set(RequestBodyError::TooSlow))))
            }
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(frame))) => {
                bounds.waiting = false;
                Poll::Ready(Some(bounds.take(frame)))
            }
            Poll::Ready(Some(Err(_))) => Poll::Ready(Some(Err(bounds.failure.set(RequestBodyError::Broken)))),
            Poll::Ready(None) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Bounds {
    fn is_too_slow(&mut self, cx: &mut Context<'_>) -> bool {
        let timeout = self.timeout;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(timeout)));
        if !self.waiting {
            self.waiting = true;
            timer.as_mut().reset(Instant::now() + timeout);
        }
        timer.as_mut().poll(cx).is_ready()
    }

    fn take<D: Buf>(&mut self, frame: Frame<D>) -> Result<Frame<D>, RequestBodyError> {
        if let (Some(left), Some(data)) = (&mut self.left, frame.data_ref()) {
            *left = left
                .checked_sub(data.remaining() as u64)
                .ok_or_else(|| self.failure.set(RequestBodyError::TooLarge))?;
        }
        Ok(frame)
    }
}
