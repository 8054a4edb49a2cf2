//! The answer: the inner one, or 404.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{Either, Full};
use pin_project_lite::pin_project;

use crate::service::PathFilterDecision;

pin_project! {
    /// The future of [`PathFilterService`](crate::PathFilterService).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: Option<F>,
        decision: Option<PathFilterDecision>,
    }
}

impl<F> ResponseFuture<F> {
    pub(crate) fn inner(inner: F, decision: Option<PathFilterDecision>) -> Self {
        Self { inner: Some(inner), decision }
    }

    pub(crate) fn blocked(rule: Arc<str>) -> Self {
        Self { inner: None, decision: Some(PathFilterDecision::Blocked { rule }) }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<Either<B, Full<Bytes>>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = match this.inner.as_pin_mut() {
            Some(inner) => ready!(inner.poll(cx))?.map(Either::Left),
            None => not_found(),
        };
        if let Some(decision) = this.decision.take() {
            response.extensions_mut().insert(decision);
        }
        Poll::Ready(Ok(response))
    }
}

fn not_found<B>() -> Response<Either<B, Full<Bytes>>> {
    let mut response = Response::new(Either::Right(Full::new(Bytes::from_static(b"Not Found\n"))));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
