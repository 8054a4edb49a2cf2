//! The cap on connections to one backend, whichever worker has them.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::{ProxyError, ProxyErrorKind};

/// A slot is the right to use a connection: whoever has one and finds no idle connection makes another, and ends an
/// idle one of another worker if that were one too many.
pub(crate) struct Slots {
    free: Arc<Semaphore>,
    most: usize,
    /// Where there may be idle connections.
    pools: Mutex<Vec<Weak<dyn Shed>>>,
}

/// Idle connections that may be ended.
pub(crate) trait Shed: Send + Sync {
    fn idle(&self) -> usize;

    /// Ends the one that was used longest ago; whether there was one.
    fn shed(&self) -> bool;
}

impl Slots {
    pub(crate) fn new(most: usize) -> Self {
        let most = most.min(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(most)), most, pools: Mutex::default() }
    }

    pub(crate) fn register(&self, pool: Weak<dyn Shed>) {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(pool);
    }

    /// A slot, as soon as it is the caller's turn.
    pub(crate) async fn take(&self, within: Duration) -> Result<OwnedSemaphorePermit, ProxyError> {
        match timeout(within, Arc::clone(&self.free).acquire_owned()).await {
            Ok(Ok(slot)) => Ok(slot),
            Ok(Err(_)) | Err(_) => Err(ProxyError::new(ProxyErrorKind::ConnectionLimitReached)),
        }
    }

    /// Called with a slot, before a connection is made.
    pub(crate) fn make_room(&self) {
        let in_use = self.most - self.free.available_permits();
        let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let pools: Vec<_> = pools.iter().filter_map(Weak::upgrade).collect();
        if in_use + pools.iter().map(|pool| pool.idle()).sum::<usize>() > self.most {
            let _ = pools.iter().any(|pool| pool.shed());
        }
    }
}
