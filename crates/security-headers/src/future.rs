//! The response future of [`SecurityHeadersService`](crate::SecurityHeadersService).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Response;
use pin_project_lite::pin_project;

use crate::rules::{RequestContext, Rules};

pin_project! {
    /// The response future of [`SecurityHeadersService`](crate::SecurityHeadersService).
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        rules: Arc<Rules>,
        context: RequestContext,
    }
}

impl<F> ResponseFuture<F> {
    pub(crate) fn new(inner: F, rules: Arc<Rules>, context: RequestContext) -> Self {
        Self { inner, rules, context }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut polled = this.inner.poll(cx);
        if let Poll::Ready(Ok(response)) = &mut polled {
            this.rules.apply(response, this.context);
        }
        polled
    }
}
