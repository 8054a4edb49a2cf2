//! The answer: from the store at once, or from the inner service when it comes.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;

use crate::body::ResponseBody;
use crate::exchange::Exchange;

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
    }
}

impl<F, B> ResponseFuture<F, B> {
    pub(crate) fn ready(response: Response<ResponseBody<B>>) -> Self {
        Self { kind: Kind::Ready { response: Some(response) } }
    }

    pub(crate) fn forward(inner: F, exchange: Exchange) -> Self {
        Self { kind: Kind::Forward { inner, exchange: Some(exchange) } }
    }
}

impl<F, B, E> Future for ResponseFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body<Data = Bytes>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            // Polled again after its end, it waits for ever, as a future may.
            KindProjection::Ready { response } => {
                response.take().map_or(Poll::Pending, |response| Poll::Ready(Ok(response)))
            }
            KindProjection::Forward { inner, exchange } => {
                let outcome = ready!(inner.poll(cx));
                Poll::Ready(exchange.take().unwrap_or(Exchange::Untouched).finish(outcome))
            }
        }
    }
}
