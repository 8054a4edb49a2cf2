//! The response future, which catches panics of the inner future.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;

use crate::body::ResponseBody;
use crate::hooks::ProblemHooks;
use crate::panic::{Panicked, catch_panic};
use crate::presentation::Client;

pin_project! {
    /// The response future of [`ProblemService`](crate::ProblemService).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, H = ()>
    where
        H: ProblemHooks,
    {
        client: Client<H>,
        // `None` after a panic.
        #[pin]
        inner: Option<F>,
    }
}

impl<F, H: ProblemHooks> ResponseFuture<F, H> {
    /// Creates the future of a response to `client`, and calls the inner service by `call`.
    pub(crate) fn new(client: Client<H>, call: impl FnOnce() -> F) -> Self {
        let mut inner = None;
        // Set within the closure, because a large result would be copied several times. After a panic, `inner` is `None`.
        let _ = catch_panic(H::panicked, || inner = Some(call()));
        Self { client, inner }
    }
}

impl<F, H: ProblemHooks> fmt::Debug for ResponseFuture<F, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

impl<F, H, B, E> Future for ResponseFuture<F, H>
where
    F: Future<Output = Result<Response<B>, E>>,
    H: ProblemHooks,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>,
{
    type Output = Result<Response<ResponseBody<B, H>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else {
            return Poll::Ready(Ok(this.client.panicked()));
        };
        let mut polled = Poll::Pending;
        if let Err(Panicked) = catch_panic(H::panicked, || polled = inner.poll(cx)) {
            this.inner.set(None);
            return Poll::Ready(Ok(this.client.panicked()));
        }
        polled.map_ok(|response| this.client.present(response.map(ResponseBody::inner), cx))
    }
}
