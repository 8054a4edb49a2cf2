//! The state of a backend that is shared by all workers.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

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

    /// Returns the rank of the backend for a key, for consistent hashing.
    pub(crate) fn hash_with(&self, key: u64) -> u64 {
        self.hash_key.hash((key, self.seed))
    }
}
