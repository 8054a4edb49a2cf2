//! The response future and response body of [`TargetRulesService`](crate::TargetRulesService).

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use pin_project_lite::pin_project;
use rproxy_core::ResponseBody;

pin_project! {
    /// The response future of [`TargetRulesService`](crate::TargetRulesService).
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        kind: Kind<F>,
    }
}

pin_project! {
    #[project = KindProjection]
    #[derive(Debug)]
    enum Kind<F> {
        Forwarded { #[pin] future: F },
        // Boxed: nearly all requests are forwarded.
        Answered { response: Option<Box<Response<Bytes>>> },
    }
}

impl<F> ResponseFuture<F> {
    pub(crate) fn forwarded(future: F) -> Self {
        Self { kind: Kind::Forwarded { future } }
    }

    pub(crate) fn answered(response: Response<Bytes>) -> Self {
        Self { kind: Kind::Answered { response: Some(Box::new(response)) } }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProjection::Forwarded { future } => Poll::Ready(Ok(ready!(future.poll(cx))?.map(ResponseBody::inner))),
            KindProjection::Answered { response } => match response.take() {
                Some(response) => Poll::Ready(Ok(response.map(ResponseBody::full))),
                None => Poll::Pending,
            },
        }
    }
}
