//! A request body with a maximum size and a timeout.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};

use crate::rejection::RequestRejection;

pin_project! {
    /// A request body with the limits of [`RequestGuardLayer`](crate::RequestGuardLayer).
    #[derive(Debug)]
    pub struct GuardBody<B> {
        // `None` for an empty body, without a value of `B`.
        #[pin]
        inner: Option<B>,
        // `None` for an empty body, as in most requests.
        limits: Option<BodyLimits>,
    }
}

#[derive(Debug)]
struct BodyLimits {
    left: Option<u64>,
    timeout: Duration,
    /// The timer of the body timeout, created when the body is first pending, then reused.
    timer: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
    progress: Progress,
}

/// The progress of a request body, shared with the response future.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress(Arc<State>);

#[derive(Debug, Default)]
struct State {
    failure: AtomicU8,
    has_response: AtomicBool,
}

impl Progress {
    fn fail(&self, error: RequestBodyError) -> RequestBodyError {
        self.0.failure.store(error as u8 + 1, Relaxed);
        error
    }

    /// Disables the timeout, because the response has begun: in a bidirectional stream, the client may wait for data.
    pub(crate) fn set_has_response(&self) {
        self.0.has_response.store(true, Relaxed);
    }

    /// Returns the rejection that corresponds to the failure of the body, if it failed.
    pub(crate) fn rejection(&self) -> Option<RequestRejection> {
        const TOO_LARGE: u8 = RequestBodyError::TooLarge as u8 + 1;
        const TOO_SLOW: u8 = RequestBodyError::TooSlow as u8 + 1;
        match self.0.failure.load(Relaxed) {
            0 => None,
            TOO_LARGE => Some(RequestRejection::BodyTooLarge),
            TOO_SLOW => Some(RequestRejection::BodyTooSlow),
            _ => Some(RequestRejection::BodyBroken),
        }
    }
}

/// The error of reading a request body that is too large, too slow, incomplete or malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestBodyError {
    /// The request body exceeds the maximum size.
    #[error("request body too large")]
    TooLarge,
    /// The client did not send the next part of the request body in time.
    #[error("request body timed out")]
    TooSlow,
    /// The client closed the connection before the end of the body, or the body framing is invalid.
    #[error("request body incomplete or malformed")]
    Broken,
}

impl<B> GuardBody<B> {
    pub(crate) fn empty(inner: B) -> Self {
        Self { inner: Some(inner), limits: None }
    }

    pub(crate) fn new(inner: B, max: Option<u64>, timeout: Duration) -> (Self, Progress) {
        let progress = Progress::default();
        let limits = BodyLimits { left: max, timeout, timer: None, is_waiting: false, progress: progress.clone() };
        (Self { inner: Some(inner), limits: Some(limits) }, progress)
    }
}

/// Creates an empty body, for requests without content and for retries.
impl<B> Default for GuardBody<B> {
    fn default() -> Self {
        Self { inner: None, limits: None }
    }
}

impl<B: Body> Body for GuardBody<B> {
    type Data = B::Data;
    type Error = RequestBodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        let Some(inner) = this.inner.as_pin_mut() else { return Poll::Ready(None) };
        let polled = inner.poll_frame(cx);
        let Some(limits) = this.limits else {
            return polled.map_err(|_| RequestBodyError::Broken);
        };
        match polled {
            Poll::Pending if limits.is_too_slow(cx) => {
                Poll::Ready(Some(Err(limits.progress.fail(RequestBodyError::TooSlow))))
            }
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(frame))) => {
                limits.is_waiting = false;
                Poll::Ready(Some(limits.check_size(frame)))
            }
            Poll::Ready(Some(Err(_))) => Poll::Ready(Some(Err(limits.progress.fail(RequestBodyError::Broken)))),
            Poll::Ready(None) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl BodyLimits {
    fn is_too_slow(&mut self, cx: &mut Context<'_>) -> bool {
        if self.progress.0.has_response.load(Relaxed) {
            return false;
        }
        let timeout = self.timeout;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(timeout)));
        if !self.is_waiting {
            self.is_waiting = true;
            timer.as_mut().reset(Instant::now() + timeout);
        }
        timer.as_mut().poll(cx).is_ready()
    }

    fn check_size<D: Buf>(&mut self, frame: Frame<D>) -> Result<Frame<D>, RequestBodyError> {
        if let (Some(left), Some(data)) = (&mut self.left, frame.data_ref()) {
            *left = left
                .checked_sub(data.remaining() as u64)
                .ok_or_else(|| self.progress.fail(RequestBodyError::TooLarge))?;
        }
        Ok(frame)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use http_body_util::BodyExt;
    use tokio::time::timeout;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn default_guard_body_is_empty_for_any_inner_body() {
        let mut body = GuardBody::<Silent>::default();
        assert!(body.is_end_stream() && body.size_hint().exact() == Some(0));
        assert!(body.frame().await.is_none());
    }

    /// A request body that is always pending, like that of a client that sends no data.
    struct Silent;

    impl Body for Silent {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn body_timeout_applies_only_until_the_response_begins() {
        let (mut body, progress) = GuardBody::new(Silent, None, TIMEOUT);
        assert_eq!(body.frame().await.unwrap().unwrap_err(), RequestBodyError::TooSlow);
        assert_eq!(progress.rejection(), Some(RequestRejection::BodyTooSlow));

        let (mut body, progress) = GuardBody::new(Silent, None, TIMEOUT);
        assert!(timeout(TIMEOUT / 2, body.frame()).await.is_err());
        progress.set_has_response();
        assert!(timeout(TIMEOUT * 100, body.frame()).await.is_err(), "the body does not time out");
        assert_eq!(progress.rejection(), None);
    }
}
