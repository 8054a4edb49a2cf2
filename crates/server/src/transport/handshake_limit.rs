//! A limit on TLS handshakes in progress: at the limit, a new handshake evicts the oldest.
//!
//! A completed handshake takes two round trips. So if there are too many, the oldest one most likely belongs to a client
//! that does not want to complete it. Clients that open connections without completing the handshake thus evict each
//! other rather than genuine clients.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The TLS handshakes in progress on one worker, and their maximum number.
#[derive(Debug)]
pub(crate) struct HandshakeLimit {
    max: AtomicUsize,
    pending: Mutex<Pending>,
}

#[derive(Debug, Default)]
struct Pending {
    /// A sender for each handshake in progress, in the order in which the handshakes began. Dropping a sender evicts
    /// its handshake.
    handshakes: BTreeMap<u64, oneshot::Sender<Infallible>>,
    next: u64,
}

impl HandshakeLimit {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max: AtomicUsize::new(max.max(1)), pending: Mutex::default() })
    }

    /// Changes the maximum, which applies when the next handshake begins.
    pub(crate) fn set_max(&self, max: usize) {
        self.max.store(max.max(1), Ordering::Relaxed);
    }

    /// Registers a handshake, and evicts the oldest one if the limit is reached.
    pub(crate) fn begin(self: &Arc<Self>) -> HandshakeGuard {
        let (sender, evicted) = oneshot::channel();
        let mut pending = self.pending();
        while pending.handshakes.len() >= self.max.load(Ordering::Relaxed) {
            pending.handshakes.pop_first();
        }
        let number = pending.next;
        pending.next += 1;
        pending.handshakes.insert(number, sender);
        HandshakeGuard { number, evicted, limit: Arc::clone(self) }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A guard that counts a TLS handshake as in progress until it is dropped.
#[derive(Debug)]
pub(crate) struct HandshakeGuard {
    number: u64,
    evicted: oneshot::Receiver<Infallible>,
    limit: Arc<HandshakeLimit>,
}

impl HandshakeGuard {
    /// Waits until the handshake is evicted by a newer handshake.
    pub(crate) async fn evicted(&mut self) {
        let _ = (&mut self.evicted).await;
    }
}

impl Drop for HandshakeGuard {
    fn drop(&mut self) {
        self.limit.pending().handshakes.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Waker};

    fn is_evicted(handshake: &mut HandshakeGuard) -> bool {
        pin!(handshake.evicted()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn new_handshake_at_the_limit_evicts_the_oldest() {
        let limit = HandshakeLimit::new(2);
        let [mut first, second] = [limit.begin(), limit.begin()];
        assert!(!is_evicted(&mut first));
        drop(second);
        let mut third = limit.begin();
        assert!(!is_evicted(&mut first), "the second has completed");
        let mut fourth = limit.begin();
        assert!(is_evicted(&mut first) && !is_evicted(&mut third) && !is_evicted(&mut fourth));
        drop((first, third, fourth));
        assert!(limit.pending().handshakes.is_empty());
    }
}
