//! The state of a backend that is shared by all workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};

use crate::backend::Backend;
use crate::connection_limit::ConnectionLimit;
use crate::hash::HashKey;
use crate::health::Health;

/// A backend, with the state that is shared by all workers.
pub(crate) struct BackendState {
    pub(crate) config: Backend,
    pub(crate) name: Arc<str>,
    pub(crate) health: Health,
    /// The number of in-flight requests, counted only if the load balancing policy needs it.
    pub(crate) in_flight: AtomicUsize,
    /// The limit on connections to the backend, if configured.
    pub(crate) connection_limit: Option<Arc<ConnectionLimit>>,
    /// The current weight, which a replacement of the backends can change.
    weight: AtomicU16,
    /// The number of workers that have connection pools for the backend.
    pools: AtomicUsize,
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
            weight: AtomicU16::new(config.weight),
            pools: AtomicUsize::new(0),
            hash_key,
            seed: hash_key.hash(&name),
            name,
            config,
            health,
            in_flight: AtomicUsize::new(0),
            connection_limit,
        }
    }

    /// Creates the state of another backend with the settings of this one. It continues the health of `former`, an earlier
    /// state of the same backend.
    pub(crate) fn with_same_settings(&self, config: Backend, former: Option<&Self>, has_checks: bool) -> Self {
        let health = former.unwrap_or(self).health.continued_by(former.is_some(), has_checks);
        let limit = match former {
            Some(former) => former.connection_limit.clone(),
            None => self.connection_limit.as_ref().map(|limit| Arc::new(ConnectionLimit::new(limit.max()))),
        };
        Self::new(config, health, limit, self.hash_key)
    }

    /// Returns the current weight.
    pub(crate) fn weight(&self) -> u16 {
        self.weight.load(Relaxed)
    }

    /// Sets the weight, which upstreams use when they get the backend the next time.
    pub(crate) fn set_weight(&self, weight: u16) {
        self.weight.store(weight, Relaxed);
    }

    /// Waits until no worker has connection pools for the backend, which is the case after its last request if it was
    /// removed. Cancel safe.
    pub(crate) async fn drained(&self) {
        loop {
            // Created before the count is read, so that it gets every later notification.
            let changed = self.health.changed();
            if self.pools.load(SeqCst) == 0 {
                return;
            }
            changed.await;
        }
    }

    /// Returns the rank of the backend for a key, for consistent hashing.
    pub(crate) fn hash_with(&self, key: u64) -> u64 {
        self.hash_key.hash((key, self.seed))
    }
}

/// The count of one worker's connection pools for a backend.
pub(crate) struct CountedPools(Arc<BackendState>);

impl CountedPools {
    pub(crate) fn new(backend: &Arc<BackendState>) -> Self {
        backend.pools.fetch_add(1, SeqCst);
        Self(Arc::clone(backend))
    }
}

impl Drop for CountedPools {
    fn drop(&mut self) {
        if self.0.pools.fetch_sub(1, SeqCst) == 1 {
            self.0.health.notify();
        }
    }
}
