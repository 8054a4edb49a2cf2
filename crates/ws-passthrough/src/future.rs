//! The answer: passed on, made into the start of a tunnel, or a refusal.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{Either, Full};
use pin_project_lite::pin_project;

use crate::handshake::By;
use crate::opening::Opening;
use crate::refusal::{Refusal, WsDecision};

pin_project! {
    /// The future of [`WsPassthroughService`](crate::WsPassthroughService).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        kind: Kind<F>,
    }
}

pin_project! {
    #[project = KindProject]
    enum Kind<F> {
        Refused { refusal: Refusal, by: By },
        Passed { #[pin] inner: F, asked: Option<Passed> },
    }
}

/// A request that asked for more than a response.
enum Passed {
    Ignored,
    Opening(Box<Opening>),
}

impl<F> ResponseFuture<F> {
    pub(crate) fn ordinary(inner: F) -> Self {
        Self { kind: Kind::Passed { inner, asked: None } }
    }

    pub(crate) fn ignored(inner: F) -> Self {
        Self { kind: Kind::Passed { inner, asked: Some(Passed::Ignored) } }
    }

    pub(crate) fn opening(inner: F, opening: Box<Opening>) -> Self {
        Self { kind: Kind::Passed { inner, asked: Some(Passed::Opening(opening)) } }
    }

    pub(crate) fn refused(refusal: Refusal, by: By) -> Self {
        Self { kind: Kind::Refused { refusal, by } }
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<Either<B, Full<Bytes>>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (inner, asked) = match self.project().kind.project() {
            KindProject::Refused { refusal, by } => return Poll::Ready(Ok(refusal.response(*by))),
            KindProject::Passed { inner, asked } => (inner, asked),
        };
        let mut response = ready!(inner.poll(cx))?;
        let ignored = match asked.take() {
            Some(Passed::Opening(opening)) => return Poll::Ready(Ok(opening.answer(response))),
            Some(Passed::Ignored) => true,
            None => false,
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            // RFC 9110 §7.8: not to a protocol that the client did not ask for.
            return Poll::Ready(Ok(Refusal::BadSwitch.response(By::Upgrade)));
        }
        if ignored {
            response.extensions_mut().insert(WsDecision::Ignored);
        }
        Poll::Ready(Ok(response.map(Either::Left)))
    }
}
