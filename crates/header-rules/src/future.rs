//! The response future of [`HeaderRulesService`](crate::HeaderRulesService).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Response;
use pin_project_lite::pin_project;

use crate::rule::{Direction, Rules};

pin_project! {
    /// The response future of [`HeaderRulesService`](crate::HeaderRulesService).
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        rules: Option<Arc<Rules>>,
    }
}

impl<F> ResponseFuture<F> {
    pub(crate) fn new(inner: F, rules: Option<Arc<Rules>>) -> Self {
        Self { inner, rules }
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
        if let (Poll::Ready(Ok(response)), Some(rules)) = (&mut polled, this.rules)
            && !response.status().is_informational()
        {
            rules.response.iter().for_each(|rule| rule.apply(response.headers_mut(), Direction::Response));
        }
        polled
    }
}
