//! The tower service of an upstream, and the state of its backends.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use tokio::time::{Instant, timeout_at};
use tower_service::Service;

use crate::ClientConnection;
use crate::backend::Backend;
use crate::balance::{Candidate, RoundRobin, select};
use crate::body::{RequestBody, UpstreamBody};
use crate::builder::{Builder, Settings};
use crate::connection_auth;
use crate::connection_limit::ConnectionLimit;
use crate::error::{BoxError, ProxyError, ProxyErrorKind};
use crate::exchange::{AttemptState, exchange};
use crate::hash::HashKey;
use crate::health::Health;
use crate::http1_pool::Pool;
use crate::http2;

/// A tower service that forwards requests to backends, see the [crate documentation](crate).
///
/// Clones are cheap and share connections. [`Upstream::builder`] creates one.
pub struct Upstream<B: Body + 'static> {
    pub(crate) state: Arc<UpstreamState<B>>,
}

/// The state of one upstream: its own connections, and the settings shared with other upstreams.
pub(crate) struct UpstreamState<B: Body + 'static> {
    pub(crate) settings: Arc<Settings>,
    pub(crate) backends: Vec<BackendPools<B>>,
    round_robin: RoundRobin,
}

/// The connection pools for one backend.
pub(crate) struct BackendPools<B: Body + 'static> {
    pub(crate) index: usize,
    pub(crate) backend: Arc<BackendState>,
    pub(crate) http1: Arc<Pool<B>>,
    pub(crate) http2: Arc<http2::Pool>,
}

/// A backend, with the state that is shared by all workers.
pub(crate) struct BackendState {
    pub(crate) config: Backend,
    pub(crate) name: Arc<str>,
    pub(crate) health: Health,
    /// The number of in-flight requests, counted only if the load balancing policy needs it.
    pub(crate) in_flight: AtomicUsize,
    /// The limit on connections to the backend, if configured.
    pub(crate) connection_limit: Option<Arc<ConnectionLimit>>,
    hash_key: HashKey,
    /// The hash of the backend's name, for consistent hashing.
    seed: u64,
}

impl BackendState {
    pub(crate) fn new(
        config: Backend,
        health: Health,
        connection_limit: Option<Arc<ConnectionLimit>>,
        hash_key: HashKey,
    ) -> Self {
        let name: Arc<str> = config.origin().into();
        Self {
            hash_key,
            seed: hash_key.hash(&name),
            name,
            config,
            health,
            in_flight: AtomicUsize::new(0),
            connection_limit,
        }
    }
}

impl<B: Body + 'static> Candidate for BackendPools<B> {
    fn weight(&self) -> u16 {
        self.backend.config.weight
    }

    fn in_flight(&self) -> usize {
        self.backend.in_flight.load(Relaxed)
    }

    fn hash_with(&self, key: u64) -> u64 {
        self.backend.hash_key.hash((key, self.backend.seed))
    }
}

impl Upstream<http_body_util::Empty<bytes::Bytes>> {
    /// Returns a builder with the default settings.
    pub fn builder() -> Builder {
        Builder::default()
    }
}

impl<B> Upstream<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    pub(crate) fn new(settings: Arc<Settings>) -> Self {
        let pools = |(index, backend): (usize, &Arc<BackendState>)| {
            let http1 = Pool::new(settings.idle_timeout, settings.max_idle);
            if let Some(connection_limit) = &backend.connection_limit {
                let pool: Weak<Pool<B>> = Arc::downgrade(&http1);
                connection_limit.register(pool);
            }
            let http2 = http2::Pool::new(Arc::clone(&settings), Arc::clone(backend));
            BackendPools { index, backend: Arc::clone(backend), http1, http2 }
        };
        let backends: Vec<_> = settings.backends.iter().enumerate().map(pools).collect();
        let weights: Vec<_> = backends.iter().map(Candidate::weight).collect();
        Self { state: Arc::new(UpstreamState { round_robin: RoundRobin::new(&weights), settings, backends }) }
    }
}

impl<B> UpstreamState<B>
where
    B: Body<Data: Send> + Send + 'static,
{
    /// Returns the backend that has an authenticated connection for this client, if any.
    pub(crate) fn authenticated_backend(
        &self,
        request: &Request<RequestBody<B>>,
        attempts: &AttemptState,
    ) -> Option<&BackendPools<B>> {
        if self.backends.len() == 1 || !attempts.failed_backends.is_empty() {
            return None;
        }
        let client = request.extensions().get::<ClientConnection>()?;
        self.backends.iter().find(|pools| connection_auth::has_connection::<B>(client, &pools.backend))
    }
}

impl<B: Body + 'static> UpstreamState<B> {
    /// Returns the backend for the next attempt, if one is available.
    pub(crate) fn select_backend(&self, attempts: &AttemptState) -> Option<&BackendPools<B>> {
        if let [alone] = &*self.backends {
            let may_ask = attempts.failed_backends.is_empty()
                // A single backend is tried even if it is ejected, unless requests wait for it.
                && (alone.backend.health.allow_attempt() || self.settings.hold.is_zero() && alone.backend.health.is_passing_checks());
            return may_ask.then_some(alone);
        }
        loop {
            let is_eligible = |index| {
                !attempts.failed_backends.contains(&index)
                    && self.backends[index].backend.health.unavailable_for().is_none()
            };
            let pools = &self.backends
                [select(&self.settings.balance, &self.round_robin, attempts.key, &self.backends, is_eligible)?];
            // If another request started the probe first, the backend is unavailable to this one.
            if pools.backend.health.allow_attempt() {
                return Some(pools);
            }
        }
    }

    /// Returns the time until any backend may be available again.
    pub(crate) fn retry_after(&self) -> Duration {
        let down = self.backends.iter().map(|pools| pools.backend.health.unavailable_for().unwrap_or_default());
        down.min().unwrap_or_default()
    }
}

impl<B: Body + 'static> Clone for Upstream<B> {
    fn clone(&self) -> Self {
        Self { state: Arc::clone(&self.state) }
    }
}

impl<B: Body + 'static> fmt::Debug for Upstream<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let backends = self.state.backends.iter().map(|pools| &pools.backend.name);
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
        let state = Arc::clone(&self.state);
        // Boxed, because the future of an exchange is large and would be moved within the future of each layer. The
        // request is not moved any more, because each move is a copy.
        let mut request = request.map(RequestBody::new);
        let exchange: Pin<Box<dyn Future<Output = _> + Send>> = match state.settings.request_timeout {
            None => Box::pin(async move { exchange(&state, &mut request, None).await }),
            Some(within) => Box::pin(async move {
                let until = Instant::now() + within;
                let exchange = exchange(&state, &mut request, Some(until));
                timeout_at(until, exchange).await.unwrap_or_else(|_| timed_out().into_response())
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
