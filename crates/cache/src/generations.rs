//! Tells a response that was asked for before an invalidation from one that was asked for after it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

/// Proof of when the origin was asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    slot: usize,
    generation: u64,
    everything: u64,
}

/// How often the resources of a slot were invalidated. Two keys may share a slot: then a response is
/// not stored that could have been, which is harmless.
pub(crate) struct Generations {
    slots: Box<[AtomicU64]>,
    everything: AtomicU64,
}

impl Default for Generations {
    fn default() -> Self {
        const SLOTS: usize = 1024;
        Self { slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(), everything: AtomicU64::new(0) }
    }
}

impl Generations {
    fn slot(&self, key: &str) -> usize {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        (hasher.finish() % self.slots.len() as u64) as usize
    }

    pub(crate) fn ticket(&self, key: &str) -> Ticket {
        let slot = self.slot(key);
        let generation = self.slots[slot].load(Ordering::SeqCst);
        Ticket { slot, generation, everything: self.everything.load(Ordering::SeqCst) }
    }

    pub(crate) fn advance(&self, key: &str) {
        self.slots[self.slot(key)].fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn advance_all(&self) {
        self.everything.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn still_holds(&self, ticket: Ticket) -> bool {
        self.slots[ticket.slot].load(Ordering::SeqCst) == ticket.generation
            && self.everything.load(Ordering::SeqCst) == ticket.everything
    }
}
