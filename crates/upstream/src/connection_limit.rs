//! The limit on the connections to one backend, shared by all workers.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::{ProxyError, ProxyErrorKind};

/// A limit on the connections to one backend.
///
/// A permit allows the use of one connection. Its holder takes an idle connection, or opens a new one. Before that, it
/// closes an idle connection of any worker if the limit would be exceeded.
pub(crate) struct ConnectionLimit {
    permits: Arc<Semaphore>,
    max: usize,
    /// The pools that contain idle connections to the backend.
    pools: Mutex<Vec<Weak<dyn IdleConnections>>>,
}

/// A connection pool whose idle connections can be closed.
pub(crate) trait IdleConnections: Send + Sync {
    /// Returns the number of idle connections in the pool.
    fn idle_count(&self) -> usize;

    /// Closes the connection that has been idle for the longest time. Returns `false` if there is none.
    fn close_oldest(&self) -> bool;
}

impl ConnectionLimit {
    pub(crate) fn new(max: usize) -> Self {
        let max = max.min(Semaphore::MAX_PERMITS);
        Self { permits: Arc::new(Semaphore::new(max)), max, pools: Mutex::default() }
    }

    /// Returns the maximum number of connections.
    pub(crate) fn max(&self) -> usize {
        self.max
    }

    /// Adds a pool of idle connections to the backend.
    pub(crate) fn register(&self, pool: Weak<dyn IdleConnections>) {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(pool);
    }

    /// Waits up to `within` for a connection permit.
    pub(crate) async fn acquire(&self, within: Duration) -> Result<OwnedSemaphorePermit, ProxyError> {
        match timeout(within, Arc::clone(&self.permits).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(ProxyError::new(ProxyErrorKind::ConnectionLimitReached)),
        }
    }

    /// Closes an idle connection if a new connection would exceed the limit. The caller holds a permit.
    pub(crate) fn close_surplus_idle(&self) {
        let in_use = self.max - self.permits.available_permits();
        let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let pools: Vec<_> = pools.iter().filter_map(Weak::upgrade).collect();
        if in_use + pools.iter().map(|pool| pool.idle_count()).sum::<usize>() > self.max {
            let _ = pools.iter().any(|pool| pool.close_oldest());
        }
    }
}
