//! The connections of one upstream to its backends, and the selection of a backend.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use http::Request;
use http_body::Body;

use crate::backend_list::{PoolsInUse, Worker};
use crate::backend_state::{BackendState, CountedPools};
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
    /// The pools for the current backends. Each attempt reads it without a lock.
    current: ArcSwap<Pools<B>>,
}

/// The connection pools of one upstream for all of its current backends.
pub(crate) struct Pools<B: Body + 'static> {
    pub(crate) backends: Box<[Arc<BackendPools<B>>]>,
    round_robin: RoundRobin,
}

/// The connection pools for one backend. Each request in flight has a reference, until the end of its response.
pub(crate) struct BackendPools<B: Body + 'static> {
    pub(crate) backend: Arc<BackendState>,
    pub(crate) http1: Arc<Pool<B>>,
    http2: OnceLock<Arc<http2::Pool>>,
    /// Declared last, so that the pools are closed before the backend has drained.
    _counted: CountedPools,
}

impl<B> UpstreamState<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    pub(crate) fn new(settings: Arc<Settings>) -> Arc<Self> {
        let empty = Pools { backends: Box::default(), round_robin: RoundRobin::new(&[]) };
        let state = Arc::new(Self { settings, current: ArcSwap::from_pointee(empty) });
        let worker: Weak<Self> = Arc::downgrade(&state);
        state.settings.backends.register(worker);
        state
    }
}

impl<B: Body + 'static> UpstreamState<B> {
    /// Returns the pools for the current backends.
    pub(crate) fn current(&self) -> Guard<Arc<Pools<B>>> {
        self.current.load()
    }
}

impl<B> Worker for UpstreamState<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    fn use_backends(&self, backends: &[Arc<BackendState>]) {
        let current = self.current();
        let pools = |backend: &Arc<BackendState>| match current.of(backend) {
            Some(pools) => Arc::clone(pools),
            None => Arc::new(BackendPools::new(&self.settings, backend)),
        };
        let backends: Box<[_]> = backends.iter().map(pools).collect();
        let weights: Vec<_> = backends.iter().map(Candidate::weight).collect();
        self.current.store(Arc::new(Pools { backends, round_robin: RoundRobin::new(&weights) }));
    }

    fn pools(&self, backend: &Arc<BackendState>) -> Option<PoolsInUse> {
        let current = self.current();
        let pools: Weak<BackendPools<B>> = Arc::downgrade(current.of(backend)?);
        Some(pools)
    }
}

impl<B> BackendPools<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    fn new(settings: &Settings, backend: &Arc<BackendState>) -> Self {
        let http1 = Pool::new(settings.idle_timeout, settings.max_idle);
        if let Some(connection_limit) = &backend.connection_limit {
            let pool: Weak<Pool<B>> = Arc::downgrade(&http1);
            connection_limit.register(pool);
        }
        let _counted = CountedPools::new(backend);
        Self { backend: Arc::clone(backend), http1, http2: OnceLock::new(), _counted }
    }
}

impl<B: Body + 'static> BackendPools<B> {
    /// Returns the HTTP/2 connections. The first request over HTTP/2 creates their pool, which most backends never need.
    pub(crate) fn http2(&self, settings: &Arc<Settings>) -> &Arc<http2::Pool> {
        self.http2.get_or_init(|| http2::Pool::new(Arc::clone(settings), Arc::clone(&self.backend)))
    }
}

impl<B> Pools<B>
where
    B: Body<Data: Send> + Send + 'static,
{
    /// Returns the backend that has an authenticated connection for this client, if any.
    pub(crate) fn authenticated_backend(
        &self,
        request: &Request<RequestBody<B>>,
        failed_backends: &[Arc<BackendState>],
    ) -> Option<&Arc<BackendPools<B>>> {
        if self.backends.len() == 1 || !failed_backends.is_empty() {
            return None;
        }
        let client = request.extensions().get::<ClientConnection>()?;
        self.backends.iter().find(|pools| connection_auth::has_connection::<B>(client, &pools.backend))
    }
}

impl<B: Body + 'static> Pools<B> {
    /// Returns the pools for a backend.
    fn of(&self, backend: &Arc<BackendState>) -> Option<&Arc<BackendPools<B>>> {
        self.backends.iter().find(|pools| Arc::ptr_eq(&pools.backend, backend))
    }

    /// Returns the backend for the next attempt, if one is available.
    ///
    /// `key` is the load balancing key of the request, and `failed_backends` has the backends at which an attempt failed.
    pub(crate) fn select_backend(
        &self,
        settings: &Settings,
        key: Option<u64>,
        failed_backends: &[Arc<BackendState>],
    ) -> Option<&Arc<BackendPools<B>>> {
        let has_failed =
            |pools: &BackendPools<B>| failed_backends.iter().any(|failed| Arc::ptr_eq(failed, &pools.backend));
        if let [alone] = &*self.backends {
            let health = &alone.backend.health;
            let may_ask = !has_failed(alone)
                // A single backend is tried even if it is ejected, unless requests wait for it.
                && (health.allow_attempt() || settings.hold.is_zero() && health.is_passing_checks());
            return may_ask.then_some(alone);
        }
        loop {
            let is_eligible = |index| {
                let pools: &Arc<BackendPools<B>> = &self.backends[index];
                !has_failed(pools) && pools.backend.health.unavailable_for().is_none()
            };
            let pools = &self.backends[select(&settings.balance, &self.round_robin, key, &self.backends, is_eligible)?];
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

impl<B: Body + 'static> Candidate for Arc<BackendPools<B>> {
    fn weight(&self) -> u16 {
        self.backend.weight()
    }

    fn in_flight(&self) -> usize {
        self.backend.in_flight.load(Relaxed)
    }

    fn hash_with(&self, key: u64) -> u64 {
        self.backend.hash_with(key)
    }
}
