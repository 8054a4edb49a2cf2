//! The response future that records the response head for metrics and the access log.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;

use super::body::ResponseBody;
use super::record::RequestRecord;

pin_project! {
    /// The response future of [`ObserveService`](super::ObserveService).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        // `None` once the body has taken it.
        record: Option<RequestRecord>,
    }
}

impl<F> ResponseFuture<F> {
    pub(super) fn new(inner: F, record: RequestRecord) -> Self {
        Self { inner, record: Some(record) }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(cx))?;
        let mut record = this.record.take();
        if let Some(record) = &mut record {
            record.set_response(&response);
        }
        Poll::Ready(Ok(response.map(|body| ResponseBody::new(body, record))))
    }
}
