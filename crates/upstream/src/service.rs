//! The service, and who its members are.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use crate::backend::Backend;
use crate::body::UpstreamBody;
use crate::builder::{Builder, Settings};
use crate::error::BoxError;
use crate::exchange::exchange;
use crate::health::Health;
use crate::http2::Http2;
use crate::pool::Pool;

/// Sends requests to backends. Cheap to clone; see the [crate](crate) page.
pub struct Upstream<B: Body + 'static> {
    pub(crate) worker: Arc<Worker<B>>,
}

/// What one worker keeps for itself, and the settings it shares.
pub(crate) struct Worker<B: Body + 'static> {
    pub(crate) settings: Arc<Settings>,
    pub(crate) links: Vec<Link<B>>,
    /// Whose turn it is.
    pub(crate) next: AtomicUsize,
}

/// The connections to one backend.
pub(crate) struct Link<B: Body + 'static> {
    pub(crate) member: Arc<Member>,
    pub(crate) http1: Arc<Pool<B>>,
    pub(crate) http2: Http2<B>,
}

/// A backend, and what all workers know of it.
pub(crate) struct Member {
    pub(crate) backend: Backend,
    pub(crate) name: Arc<str>,
    pub(crate) health: Health,
}

impl Member {
    pub(crate) fn new(backend: Backend) -> Self {
        Self { name: backend.to_string().into(), backend, health: Health::new() }
    }
}

impl Upstream<http_body_util::Empty<bytes::Bytes>> {
    /// Starts to build one.
    pub fn builder() -> Builder {
        Builder::default()
    }
}

impl<B> Upstream<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    pub(crate) fn new(settings: Arc<Settings>) -> Self {
        let link = |member: &Arc<Member>| Link {
            member: Arc::clone(member),
            http1: Pool::new(settings.idle_timeout, settings.max_idle),
            http2: Http2::new(),
        };
        let links = settings.members.iter().map(link).collect();
        Self { worker: Arc::new(Worker { settings, links, next: AtomicUsize::new(0) }) }
    }
}

impl<B: Body + 'static> Worker<B> {
    /// The backends to try, the one whose turn it is first.
    pub(crate) fn turn(&self) -> impl Iterator<Item = &Link<B>> {
        let count = self.links.len();
        let first = if count == 1 { 0 } else { self.next.fetch_add(1, Relaxed) % count };
        self.links[first..].iter().chain(&self.links[..first])
    }
}

impl<B: Body + 'static> Clone for Upstream<B> {
    fn clone(&self) -> Self {
        Self { worker: Arc::clone(&self.worker) }
    }
}

impl<B: Body + 'static> fmt::Debug for Upstream<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let backends = self.worker.links.iter().map(|link| &link.member.name);
        f.debug_struct("Upstream").field("backends", &backends.collect::<Vec<_>>()).finish()
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
        let worker = Arc::clone(&self.worker);
        // Boxed: the exchange is large, so that one allocation is cheaper than carrying it inside of every layer's
        // future.
        ResponseFuture { exchange: Box::pin(async move { exchange(&worker, request).await }) }
    }
}

/// The future of [`Upstream`].
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<B: Body + 'static> {
    exchange: Pin<Box<dyn Future<Output = Response<UpstreamBody<B>>> + Send>>,
}

impl<B: Body + 'static> Future for ResponseFuture<B> {
    type Output = Result<Response<UpstreamBody<B>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.exchange.as_mut().poll(cx).map(Ok)
    }
}
