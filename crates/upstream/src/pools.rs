//! The connections of one upstream to its backends, and the selection of a backend.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use http::Request;
use http_body::Body;

use crate::backend_state::BackendState;
use crate::balance::{Candidate, RoundRobin, select};
use crate::connection_auth;
use crate::error::BoxError;
use crate::extensions::ClientConnection;
use crate::http1_pool::Pool;
use crate::http2;
use crate::request_body::RequestBody;
use crate::settings::Settings;

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
    http2: OnceLock<Arc<http2::Pool>>,
}

impl<B> UpstreamState<B>
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
            BackendPools { index, backend: Arc::clone(backend), http1, http2: OnceLock::new() }
        };
        let backends: Vec<_> = settings.backends.iter().enumerate().map(pools).collect();
        let weights: Vec<_> = backends.iter().map(Candidate::weight).collect();
        Self { round_robin: RoundRobin::new(&weights), settings, backends }
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
        failed_backends: &[usize],
    ) -> Option<&BackendPools<B>> {
        if self.backends.len() == 1 || !failed_backends.is_empty() {
            return None;
        }
        let client = request.extensions().get::<ClientConnection>()?;
        self.backends.iter().find(|pools| connection_auth::has_connection::<B>(client, &pools.backend))
    }
}

impl<B: Body + 'static> BackendPools<B> {
    /// Returns the HTTP/2 connections. The first request over HTTP/2 creates their pool, which most backends never need.
    pub(crate) fn http2(&self, settings: &Arc<Settings>) -> &Arc<http2::Pool> {
        self.http2.get_or_init(|| http2::Pool::new(Arc::clone(settings), Arc::clone(&self.backend)))
    }
}

impl<B: Body + 'static> UpstreamState<B> {
    /// Returns the backend for the next attempt, if one is available.
    ///
    /// `key` is the load balancing key of the request, and `failed_backends` has the indices of the backends at which an
    /// attempt failed.
    pub(crate) fn select_backend(&self, key: Option<u64>, failed_backends: &[usize]) -> Option<&BackendPools<B>> {
        if let [alone] = &*self.backends {
            let may_ask = failed_backends.is_empty()
                // A single backend is tried even if it is ejected, unless requests wait for it.
                && (alone.backend.health.allow_attempt() || self.settings.hold.is_zero() && alone.backend.health.is_passing_checks());
            return may_ask.then_some(alone);
        }
        loop {
            let is_eligible = |index| {
                !failed_backends.contains(&index) && self.backends[index].backend.health.unavailable_for().is_none()
            };
            let pools =
                &self.backends[select(&self.settings.balance, &self.round_robin, key, &self.backends, is_eligible)?];
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

impl<B: Body + 'static> Candidate for BackendPools<B> {
    fn weight(&self) -> u16 {
        self.backend.config.weight
    }

    fn in_flight(&self) -> usize {
        self.backend.in_flight.load(Relaxed)
    }

    fn hash_with(&self, key: u64) -> u64 {
        self.backend.hash_with(key)
    }
}
