//! Backends that were removed from an upstream, and their requests in flight.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::backend_list::PoolsInUse;
use crate::backend_state::BackendState;

/// The backends that [`Backends::replace`](crate::Backends::replace) removed.
///
/// They get no new requests. Their requests in flight continue, whether or not this value exists. The connections to a
/// backend are closed when the last of these requests ends.
pub struct RemovedBackends {
    backends: Vec<(Arc<BackendState>, Vec<PoolsInUse>)>,
}

impl RemovedBackends {
    pub(crate) fn new(backends: Vec<(Arc<BackendState>, Vec<PoolsInUse>)>) -> Self {
        Self { backends }
    }

    /// Returns whether no backend was removed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.backends.is_empty()
    }

    /// Returns the origins of the removed backends.
    pub fn origins(&self) -> impl Iterator<Item = &str> {
        self.backends.iter().map(|(backend, _)| &*backend.name)
    }

    /// Returns the number of requests in flight to these backends, until the end of their responses.
    ///
    /// WebSockets and other tunnels are not counted: they are no longer requests once the backend has accepted them.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.backends.iter().flat_map(|(_, pools)| pools).map(|pools| pools.strong_count()).sum()
    }

    /// Waits until these backends have no requests in flight, and their connection pools are closed.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe: if its future is dropped, the requests continue, and another call waits for them.
    pub async fn drained(&self) {
        for (backend, _) in &self.backends {
            backend.drained().await;
        }
    }

    /// Waits as [`drained`](Self::drained), but at most for this time. Cancel safe as well.
    ///
    /// # Errors
    ///
    /// Returns an error with the number of requests that are still in flight. They continue.
    pub async fn drained_within(&self, time: Duration) -> Result<(), DrainTimeout> {
        match timeout(time, self.drained()).await {
            Ok(()) => Ok(()),
            Err(_) => Err(DrainTimeout { in_flight: self.in_flight() }),
        }
    }
}

impl fmt::Debug for RemovedBackends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origins: Vec<_> = self.origins().collect();
        f.debug_struct("RemovedBackends").field("origins", &origins).field("in_flight", &self.in_flight()).finish()
    }
}

/// The error for requests that are still in flight to removed backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{in_flight} requests to removed backends are still in flight")]
#[non_exhaustive]
pub struct DrainTimeout {
    /// The number of requests in flight.
    pub in_flight: usize,
}
