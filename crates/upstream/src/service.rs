//! The tower service of an upstream.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::Body;
use tokio::time::{Instant, timeout_at};
use tower_service::Service;

use crate::body::UpstreamBody;
use crate::error::{BoxError, ProxyError, ProxyErrorKind};
use crate::exchange::exchange;
use crate::pools::UpstreamState;
use crate::request_body::RequestBody;
use crate::settings::Settings;

/// A tower service that forwards requests to backends, see the [crate documentation](crate).
///
/// Clones are cheap and share connections. [`Upstream::builder`] creates one.
pub struct Upstream<B: Body + 'static> {
    pub(crate) state: Arc<UpstreamState<B>>,
}

impl<B> Upstream<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    pub(crate) fn new(settings: Arc<Settings>) -> Self {
        Self { state: UpstreamState::new(settings) }
    }
}

impl<B: Body + 'static> Clone for Upstream<B> {
    fn clone(&self) -> Self {
        Self { state: Arc::clone(&self.state) }
    }
}

impl<B: Body + 'static> fmt::Debug for Upstream<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let current = self.state.current();
        let backends: Vec<_> = current.backends.iter().map(|pools| &pools.backend.name).collect();
        f.debug_struct("Upstream").field("backends", &backends).finish()
    }
}

impl<B> Service<Request<B>> for Upstream<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    type Response = Response<UpstreamBody<B>>;
    type Error = Infallible;
    type Future = ResponseFuture<B>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let state = Arc::clone(&self.state);
        // Boxed, because the future of an exchange is large and would be moved within the future of each layer. The
        // request is not moved any more, because each move is a copy.
        let mut request = request.map(RequestBody::new);
        let exchange: Pin<Box<dyn Future<Output = _> + Send>> = match state.settings.request_timeout {
            None => Box::pin(async move { exchange(&state, &mut request, None).await }),
            Some(within) => Box::pin(async move {
                let until = Instant::now() + within;
                let exchange = exchange(&state, &mut request, Some(until));
                timeout_at(until, exchange).await.unwrap_or_else(|_| timed_out().into_response(UpstreamBody::full))
            }),
        };
        ResponseFuture { exchange }
    }
}

/// Creates the error for an expired request timeout.
fn timed_out() -> ProxyError {
    ProxyError::new(ProxyErrorKind::HttpResponseTimeout)
}

/// The response future of an [`Upstream`].
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<B: Body + 'static> {
    exchange: Pin<Box<dyn Future<Output = Response<UpstreamBody<B>>> + Send>>,
}

impl<B: Body + 'static> fmt::Debug for ResponseFuture<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

impl<B: Body + 'static> Future for ResponseFuture<B> {
    type Output = Result<Response<UpstreamBody<B>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.exchange.as_mut().poll(cx).map(Ok)
    }
}
