//! The answer: from the store at once, from the inner service when it comes, or from what comes for another request.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;

use crate::body::ResponseBody;
use crate::exchange::{Exchange, Fetch};
use crate::follower::{Outcome, Waiting};
use crate::leading::Leading;

pin_project! {
    /// The future of [`CacheService`](crate::CacheService).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, B> {
        #[pin]
        kind: Kind<F, B>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<F, B> {
        Ready { response: Option<Response<ResponseBody<B>>> },
        Forward { #[pin] inner: F, exchange: Option<Exchange> },
        Lead { leading: Leading<F> },
        Wait { waiting: Box<Waiting<F>> },
    }
}

impl<F, B> ResponseFuture<F, B> {
    pub(crate) fn ready(response: Response<ResponseBody<B>>) -> Self {
        Self { kind: Kind::Ready { response: Some(response) } }
    }

    pub(crate) fn forward(inner: F, exchange: Exchange) -> Self {
        Self { kind: Kind::Forward { inner, exchange: Some(exchange) } }
    }

    pub(crate) fn lead<E>(inner: F, fetch: Box<Fetch>) -> Self
    where
        F: Future<Output = Result<Response<B>, E>> + Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Send,
        E: Send + 'static,
    {
        Self { kind: Kind::Lead { leading: Leading::new(inner, fetch) } }
    }

    pub(crate) fn wait(waiting: Box<Waiting<F>>) -> Self {
        Self { kind: Kind::Wait { waiting } }
    }
}

impl<F, B> fmt::Debug for ResponseFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

impl<F, B, E> Future for ResponseFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Send,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match self.as_mut().project().kind.project() {
                // Polled again after its end, it waits for ever, as a future may.
                KindProjection::Ready { response } => {
                    return response.take().map_or(Poll::Pending, |response| Poll::Ready(Ok(response)));
                }
                KindProjection::Forward { inner, exchange } => {
                    let outcome = ready!(inner.poll(cx));
                    return Poll::Ready(exchange.take().unwrap_or(Exchange::Untouched).finish(outcome));
                }
                KindProjection::Lead { leading } => return leading.poll(cx),
                KindProjection::Wait { waiting } => match ready!(waiting.poll(cx)) {
                    Outcome::Answered(response) => return Poll::Ready(Ok(*response)),
                    Outcome::Alone(inner, fetch) => {
                        self.set(Self::forward(inner, Exchange::Fetch(fetch)));
                    }
                },
            }
        }
    }
}
