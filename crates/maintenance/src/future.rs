//! The response future and response body of the service.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http_body_util::{Either, Full};
use pin_project_lite::pin_project;

/// The body of the inner service's response, or of the response to a rejected request.
pub type ResponseBody<B> = Either<B, Full<Bytes>>;

pin_project! {
    /// The response future of [`MaintenanceService`](crate::MaintenanceService).
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StateProject]
    enum State<F> {
        Inner { #[pin] future: F },
        // Boxed, so that the future of a request that is not rejected stays small.
        Response { response: Option<Box<Response<&'static str>>> },
    }
}

impl<F> ResponseFuture<F> {
    pub(crate) fn inner(future: F) -> Self {
        Self { state: State::Inner { future } }
    }

    pub(crate) fn response(response: Response<&'static str>) -> Self {
        Self { state: State::Response { response: Some(Box::new(response)) } }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProject::Inner { future } => Poll::Ready(Ok(ready!(future.poll(cx))?.map(Either::Left))),
            StateProject::Response { response } => match response.take() {
                Some(response) => Poll::Ready(Ok(response.map(|text| Either::Right(Full::from(text))))),
                None => Poll::Pending, // Polled again after it completed.
            },
        }
    }
}
