//! The response future and response body of [`PathFilterService`](crate::PathFilterService).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Response, StatusCode};
use pin_project_lite::pin_project;
use rproxy_core::{ProxyErrorType, Rejection, RejectionDetail, ResponseBody};

use crate::decision::PathFilterDecision;

pin_project! {
    /// The response future of [`PathFilterService`](crate::PathFilterService).
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        // `None`: the request is rejected.
        #[pin]
        inner: Option<F>,
        // The rule that blocks the path.
        rule: Option<Arc<str>>,
        status: StatusCode,
    }
}

impl<F> ResponseFuture<F> {
    pub(crate) fn allowed(inner: F) -> Self {
        Self { inner: Some(inner), rule: None, status: StatusCode::NOT_FOUND }
    }

    pub(crate) fn would_block(inner: F, rule: Arc<str>) -> Self {
        Self { inner: Some(inner), rule: Some(rule), status: StatusCode::NOT_FOUND }
    }

    pub(crate) fn blocked(rule: Arc<str>, status: StatusCode) -> Self {
        Self { inner: None, rule: Some(rule), status }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(inner) = this.inner.as_pin_mut() else {
            return Poll::Ready(Ok(rejection(this.rule.take(), *this.status)));
        };
        let mut response = ready!(inner.poll(cx))?.map(ResponseBody::inner);
        if let Some(rule) = this.rule.take() {
            response.extensions_mut().insert(PathFilterDecision::WouldBlock { rule });
        }
        Poll::Ready(Ok(response))
    }
}

fn rejection<B>(rule: Option<Arc<str>>, status: StatusCode) -> Response<ResponseBody<B>> {
    let text = match status {
        StatusCode::NOT_FOUND => Bytes::from_static(b"Not Found\n"),
        _ => Bytes::from(format!("{}\n", status.canonical_reason().unwrap_or("Blocked"))),
    };
    let rejection =
        Rejection::new("path_filter", "blocked_path", status).with_error_type(ProxyErrorType::HttpRequestDenied);
    let rejection = match rule {
        Some(rule) => rejection.with_detail(RejectionDetail::Rule(rule)),
        None => rejection,
    };
    rejection.into_response(ResponseBody::full(text))
}
