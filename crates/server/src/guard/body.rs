//! A request body with a size and a pace.

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

use super::RequestRefusal;

pin_project! {
    /// The body of a request that passed [`RequestGuardLayer`](super::RequestGuardLayer).
    #[derive(Debug)]
    pub struct GuardBody<B> {
        // `None`: it is empty, whatever `B` is.
        #[pin]
        inner: Option<B>,
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
    progress: Progress,
}

/// The state of a body that the one who answers the request shares.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress(Arc<State>);

#[derive(Debug, Default)]
struct State {
    failure: AtomicU8,
    is_answered: AtomicBool,
}

impl Progress {
    fn fail(&self, error: RequestBodyError) -> RequestBodyError {
        self.0.failure.store(error as u8 + 1, Relaxed);
        error
    }

    /// There is a response. From then on a client may be silent for as long as the exchange lasts: in a bidirectional
    /// stream it is the other side's turn.
    pub(super) fn answered(&self) {
        self.0.is_answered.store(true, Relaxed);
    }

    pub(super) fn refusal(&self) -> Option<RequestRefusal> {
        const TOO_LARGE: u8 = RequestBodyError::TooLarge as u8 + 1;
        const TOO_SLOW: u8 = RequestBodyError::TooSlow as u8 + 1;
        match self.0.failure.load(Relaxed) {
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
        Self { inner: Some(inner), bounds: None }
    }

    pub(super) fn new(inner: B, max: Option<u64>, timeout: Duration) -> (Self, Progress) {
        let progress = Progress::default();
        let bounds = Bounds { left: max, timeout, timer: None, waiting: false, progress: progress.clone() };
        (Self { inner: Some(inner), bounds: Some(bounds) }, progress)
    }
}

/// An empty body, for a request that has none or is sent again.
impl<B> Default for GuardBody<B> {
    fn default() -> Self {
        Self { inner: None, bounds: None }
    }
}

impl<B: Body> Body for GuardBody<B> {
    type Data = B::Data;
    type Error = RequestBodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        let Some(inner) = this.inner.as_pin_mut() else { return Poll::Ready(None) };
        let polled = inner.poll_frame(cx);
        let Some(bounds) = this.bounds else {
            return polled.map_err(|_| RequestBodyError::Broken);
        };
        match polled {
            Poll::Pending if bounds.is_too_slow(cx) => {
                Poll::Ready(Some(Err(bounds.progress.fail(RequestBodyError::TooSlow))))
            }
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(frame))) => {
                bounds.waiting = false;
                Poll::Ready(Some(bounds.take(frame)))
            }
            Poll::Ready(Some(Err(_))) => Poll::Ready(Some(Err(bounds.progress.fail(RequestBodyError::Broken)))),
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

impl Bounds {
    fn is_too_slow(&mut self, cx: &mut Context<'_>) -> bool {
        if self.progress.0.is_answered.load(Relaxed) {
            return false;
        }
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
    async fn the_default_is_empty_for_any_inner_body() {
        let mut body = GuardBody::<Silent>::default();
        assert!(body.is_end_stream() && body.size_hint().exact() == Some(0));
        assert!(body.frame().await.is_none());
    }

    /// A client that sends nothing.
    struct Silent;

    impl Body for Silent {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_too_slow_until_there_is_a_response() {
        let (mut body, progress) = GuardBody::new(Silent, None, TIMEOUT);
        assert_eq!(body.frame().await.unwrap().unwrap_err(), RequestBodyError::TooSlow);
        assert_eq!(progress.refusal(), Some(RequestRefusal::BodyTooSlow));

        let (mut body, progress) = GuardBody::new(Silent, None, TIMEOUT);
        assert!(timeout(TIMEOUT / 2, body.frame()).await.is_err());
        progress.answered();
        assert!(timeout(TIMEOUT * 100, body.frame()).await.is_err(), "it may be silent for as long as it likes");
        assert_eq!(progress.refusal(), None);
    }
}
