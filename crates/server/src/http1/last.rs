//! The last request that a connection may carry, among those that hyper has.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use pin_project_lite::pin_project;

/// Tells hyper that the connection ends with the last response; hyper tells the client, and closes.
#[derive(Clone, Debug)]
pub(super) struct LastService<S, F> {
    pub(super) inner: S,
    /// Whether the request that is about to be called is the last.
    pub(super) is_last: F,
}

impl<S, F, B> hyper::service::Service<Request<Incoming>> for LastService<S, F>
where
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>>,
    F: Fn() -> bool,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = LastFuture<S::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let is_last = (self.is_last)();
        LastFuture { inner: self.inner.call(request), is_last }
    }
}

pin_project! {
    /// Waits for the response.
    pub(super) struct LastFuture<F> {
        #[pin]
        inner: F,
        is_last: bool,
    }
}

impl<F, B, E> Future for LastFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(cx))?;
        if *this.is_last && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Poll::Ready(Ok(response))
    }
}
