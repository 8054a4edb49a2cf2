//! Waits for the head of the response.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;

use super::body::ObserveBody;
use super::exchange::Exchange;

pin_project! {
    /// The future of [`ObserveService`](super::ObserveService).
    #[must_use = "futures do nothing unless polled"]
    pub struct ObserveFuture<F> {
        #[pin]
        inner: F,
        // Until there is a body to take it along.
        exchange: Option<Exchange>,
    }
}

impl<F> ObserveFuture<F> {
    pub(super) fn new(inner: F, exchange: Exchange) -> Self {
        Self { inner, exchange: Some(exchange) }
    }
}

impl<F, B, E> Future for ObserveFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<ObserveBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(cx))?;
        let mut exchange = this.exchange.take();
        if let Some(exchange) = &mut exchange {
            exchange.answered(&response);
        }
        Poll::Ready(Ok(response.map(|body| ObserveBody::new(body, exchange))))
    }
}
