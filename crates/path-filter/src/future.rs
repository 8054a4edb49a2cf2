//! The response future and response body of [`PathFilterService`](crate::PathFilterService).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{Either, Full};
use pin_project_lite::pin_project;

use crate::decision::PathFilterDecision;

/// The body of the inner service's response, or of the response to a rejected request.
pub type ResponseBody<B> = Either<B, Full<Bytes>>;

pin_project! {
    /// The response future of [`PathFilterService`](crate::PathFilterService).
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        // `None`: the request is rejected.
        #[pin]
        inner: Option<F>,
        decision: Option<PathFilterDecision>,
        status: StatusCode,
    }
}

impl<F> ResponseFuture<F> {
    pub(crate) fn inner(inner: F, decision: Option<PathFilterDecision>) -> Self {
        Self { inner: Some(inner), decision, status: StatusCode::NOT_FOUND }
    }

    pub(crate) fn blocked(rule: Arc<str>, status: StatusCode) -> Self {
        Self { inner: None, decision: Some(PathFilterDecision::Blocked { rule }), status }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = match this.inner.as_pin_mut() {
            Some(inner) => ready!(inner.poll(cx))?.map(Either::Left),
            None => rejection(*this.status),
        };
        if let Some(decision) = this.decision.take() {
            response.extensions_mut().insert(decision);
        }
        Poll::Ready(Ok(response))
    }
}

fn rejection<B>(status: StatusCode) -> Response<ResponseBody<B>> {
    let text = match status {
        StatusCode::NOT_FOUND => Bytes::from_static(b"Not Found\n"),
        _ => Bytes::from(format!("{}\n", status.canonical_reason().unwrap_or("Blocked"))),
    };
    let mut response = Response::new(Either::Right(Full::new(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
