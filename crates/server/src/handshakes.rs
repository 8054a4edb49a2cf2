//! TLS handshakes in progress: no more than so many, and it is the newest that are kept.
//!
//! A handshake that is meant takes two round trips. So among too many, the one that has waited longest for its client
//! is the one whose client does least to finish it: those who open connections and leave them half done push each
//! other out, and not the others.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The handshakes of one worker.
#[derive(Debug)]
pub(crate) struct Handshakes {
    most: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// In the order in which they began. To give one up is to drop its sender.
    handshakes: BTreeMap<u64, oneshot::Sender<Infallible>>,
    next: u64,
}

impl Handshakes {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most: most.max(1), waiting: Mutex::default() })
    }

    /// Begins one; if there are too many, the oldest is given up.
    pub(crate) fn begin(self: &Arc<Self>) -> Handshake {
        let (sender, given_up) = oneshot::channel();
        let mut waiting = self.waiting();
        while waiting.handshakes.len() >= self.most {
            waiting.handshakes.pop_first();
        }
        let number = waiting.next;
        waiting.next += 1;
        waiting.handshakes.insert(number, sender);
        Handshake { number, given_up, all: Arc::clone(self) }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Handshake {
    number: u64,
    given_up: oneshot::Receiver<Infallible>,
    all: Arc<Handshakes>,
}

impl Handshake {
    /// Resolves when this one is to make room for others.
    pub(crate) async fn given_up(&mut self) {
        let _ = (&mut self.given_up).await;
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.all.waiting().handshakes.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Waker};

    fn is_given_up(handshake: &mut Handshake) -> bool {
        pin!(handshake.given_up()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn the_oldest_makes_room() {
        let all = Handshakes::new(2);
        let [mut first, second] = [all.begin(), all.begin()];
        assert!(!is_given_up(&mut first));
        drop(second);
        let mut third = all.begin();
        assert!(!is_given_up(&mut first), "the second has made room by itself");
        let mut fourth = all.begin();
        assert!(is_given_up(&mut first) && !is_given_up(&mut third) && !is_given_up(&mut fourth));
        drop((first, third, fourth));
        assert!(all.waiting().handshakes.is_empty());
    }
}
