//! Waits for the answer, or for the panic.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;
use tower::BoxError;

use super::Client;
use super::body::ProblemBody;
use super::panic::{Panicked, caught};

pin_project! {
    /// The future of [`ProblemService`](super::ProblemService).
    #[must_use = "futures do nothing unless polled"]
    pub struct ProblemFuture<F> {
        client: Client,
        // `None`: it panicked, and is gone.
        #[pin]
        inner: Option<F>,
    }
}

impl<F> ProblemFuture<F> {
    pub(super) fn new(client: Client, called: Result<F, Panicked>) -> Self {
        Self { client, inner: called.ok() }
    }
}

impl<F, B, E> Future for ProblemFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    type Output = Result<Response<ProblemBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else {
            return Poll::Ready(Ok(this.client.panicked()));
        };
        match caught(|| inner.poll(cx)) {
            Ok(polled) => polled.map_ok(|response| this.client.present(response.map(ProblemBody::inner))),
            Err(Panicked) => {
                this.inner.set(None);
                Poll::Ready(Ok(this.client.panicked()))
            }
        }
    }
}
