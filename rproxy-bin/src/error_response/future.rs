//! The response future, which catches panics of the inner future.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;
use tower::BoxError;

use super::ClientPreferences;
use super::body::ResponseBody;
use super::panic::{Panicked, catch_panic};

pin_project! {
    /// The response future of [`ErrorResponseService`](super::ErrorResponseService).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        client: ClientPreferences,
        // `None` after a panic.
        #[pin]
        inner: Option<F>,
    }
}

impl<F> ResponseFuture<F> {
    pub(super) fn new(client: ClientPreferences, called: Result<F, Panicked>) -> Self {
        Self { client, inner: called.ok() }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else {
            return Poll::Ready(Ok(this.client.panicked()));
        };
        match catch_panic(|| inner.poll(cx)) {
            Ok(polled) => polled.map_ok(|response| this.client.present(response.map(ResponseBody::inner))),
            Err(Panicked) => {
                this.inner.set(None);
                Poll::Ready(Ok(this.client.panicked()))
            }
        }
    }
}
