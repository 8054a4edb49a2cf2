//! The current backends of an upstream, which can be replaced while requests are in flight.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::backend::Backend;
use crate::backend_state::BackendState;

/// The current backends of an upstream, and the workers that use them.
pub(crate) struct BackendList {
    current: Mutex<Current>,
}

struct Current {
    backends: Arc<[Arc<BackendState>]>,
    /// The removed backends that may still have requests in flight. They continue their health if they are added again.
    removed: Vec<Weak<BackendState>>,
    workers: Vec<Weak<dyn Worker>>,
}

/// The connection pools of one worker.
pub(crate) trait Worker: Send + Sync {
    /// Uses these backends for new requests, with the pools of those that the worker already has.
    fn use_backends(&self, backends: &[Arc<BackendState>]);

    /// Returns the pools for a backend, if the worker has any.
    fn pools(&self, backend: &Arc<BackendState>) -> Option<PoolsInUse>;
}

/// A reference to the pools of one worker for one backend. Its strong count is the number of requests in flight, plus one
/// while the worker can select the backend.
pub(crate) type PoolsInUse = Weak<dyn Send + Sync>;

impl BackendList {
    pub(crate) fn new(backends: Vec<Arc<BackendState>>) -> Self {
        let current = Current { backends: backends.into(), removed: Vec::new(), workers: Vec::new() };
        Self { current: Mutex::new(current) }
    }

    /// Returns the current backends.
    pub(crate) fn current(&self) -> Arc<[Arc<BackendState>]> {
        Arc::clone(&self.lock().backends)
    }

    /// Adds a worker, which uses the current backends from now on.
    pub(crate) fn register(&self, worker: Weak<dyn Worker>) {
        let mut current = self.lock();
        current.workers.retain(|worker| worker.strong_count() > 0);
        if let Some(worker) = worker.upgrade() {
            worker.use_backends(&current.backends);
        }
        // Most upstreams have few workers, and there can be thousands of upstreams.
        current.workers.reserve_exact(1);
        current.workers.push(worker);
    }

    /// Returns the number of requests in flight to a backend, from the head of the request to the end of the response.
    pub(crate) fn in_flight(&self, backend: &Arc<BackendState>) -> usize {
        let pools = self.lock().pools(backend);
        // The worker itself has one reference.
        pools.iter().map(|pools| pools.strong_count().saturating_sub(1)).sum()
    }

    /// Replaces the backends, and returns those that were removed, each with its pools.
    ///
    /// A backend with the same origin as a current one stays, with its state and with the new weight.
    pub(crate) fn replace(
        &self,
        backends: Vec<Backend>,
        has_checks: bool,
    ) -> Vec<(Arc<BackendState>, Vec<PoolsInUse>)> {
        let mut current = self.lock();
        let mut left = current.backends.to_vec();
        let replaced = backends.into_iter().map(|config| {
            let origin = config.origin();
            match left.iter().position(|state| *state.name == *origin) {
                Some(at) => {
                    let state = left.remove(at);
                    state.set_weight(config.weight);
                    state
                }
                None => {
                    let former = current.removed.iter().filter_map(Weak::upgrade).find(|state| *state.name == *origin);
                    // There is always a backend, and all have the same settings.
                    let settings = &current.backends[0];
                    Arc::new(settings.with_same_settings(config, former.as_deref(), has_checks))
                }
            }
        });
        let replaced: Arc<[_]> = replaced.collect();
        let removed: Vec<_> = left
            .into_iter()
            .map(|state| {
                let pools = current.pools(&state);
                (state, pools)
            })
            .collect();
        current.backends = Arc::clone(&replaced);
        current.removed.retain(|state| state.strong_count() > 0);
        current.removed.extend(removed.iter().map(|(state, _)| Arc::downgrade(state)));
        // With the lock, so that workers get concurrent replacements in the same order.
        for worker in current.workers.iter().filter_map(Weak::upgrade) {
            worker.use_backends(&replaced);
        }
        removed
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        // A panic in another thread leaves a valid list.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Current {
    fn pools(&self, backend: &Arc<BackendState>) -> Vec<PoolsInUse> {
        self.workers.iter().filter_map(|worker| worker.upgrade()?.pools(backend)).collect()
    }
}
