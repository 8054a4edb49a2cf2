//! Tells a response that was asked for before an invalidation from one that was asked for after it.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::tags::Tags;

/// Proof of when the origin was asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    slot: usize,
    generation: u64,
    everything: u64,
    /// The last invalidation of a tag before that.
    tagged: u64,
}

impl Ticket {
    /// Whether the resource was not invalidated between the two. Tags do not count: it is not known yet which there are.
    pub(crate) fn is_as_good_as(&self, other: &Ticket) -> bool {
        (self.slot, self.generation, self.everything) == (other.slot, other.generation, other.everything)
    }

    pub(crate) fn tagged(&self) -> u64 {
        self.tagged
    }
}

/// How often the resources of a slot were invalidated. Two keys may share a slot, as those do that differ in the query
/// alone, which may mean the same: then a response is not stored that could have been, which is harmless.
pub(crate) struct Generations {
    slots: Box<[AtomicU64]>,
    /// With it nobody can tell which keys share a slot.
    hasher: RandomState,
    everything: AtomicU64,
    /// How often tags were invalidated, and when those of a slot were for the last time. If two tags share a slot, a
    /// response is dropped that need not have been.
    tagged: AtomicU64,
    tags: Box<[AtomicU64]>,
}

impl Default for Generations {
    fn default() -> Self {
        const SLOTS: usize = 8192;
        const TAGS: usize = 4096;
        let zeros = |slots: usize| (0..slots).map(|_| AtomicU64::new(0)).collect();
        let (everything, tagged) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { slots: zeros(SLOTS), hasher: RandomState::new(), everything, tagged, tags: zeros(TAGS) }
    }
}

impl Generations {
    fn slot(&self, key: &str) -> usize {
        (self.hasher.hash_one(key.split('?').next()) % self.slots.len() as u64) as usize
    }

    pub(crate) fn ticket(&self, key: &str) -> Ticket {
        let slot = self.slot(key);
        let generation = self.slots[slot].load(Ordering::SeqCst);
        let (everything, tagged) = (self.everything.load(Ordering::SeqCst), self.tagged.load(Ordering::SeqCst));
        Ticket { slot, generation, everything, tagged }
    }

    pub(crate) fn advance(&self, key: &str) {
        self.slots[self.slot(key)].fetch_add(1, Ordering::SeqCst);
    }

    /// All that has the tag and was asked for before is out of date.
    pub(crate) fn advance_tag(&self, tag: u64) {
        let number = self.tagged.fetch_add(1, Ordering::SeqCst) + 1;
        self.tag(tag).fetch_max(number, Ordering::SeqCst);
    }

    pub(crate) fn are_current(&self, tags: &Tags) -> bool {
        tags.hashes().iter().all(|&tag| self.tag(tag).load(Ordering::Acquire) <= tags.asked())
    }

    fn tag(&self, tag: u64) -> &AtomicU64 {
        &self.tags[(tag % self.tags.len() as u64) as usize]
    }

    pub(crate) fn advance_all(&self) {
        self.everything.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn still_holds(&self, ticket: Ticket) -> bool {
        self.slots[ticket.slot].load(Ordering::SeqCst) == ticket.generation
            && self.everything.load(Ordering::SeqCst) == ticket.everything
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_can_tell_which_keys_share_a_slot() {
        let (one, other) = (Generations::default(), Generations::default());
        let keys: Vec<String> = (0..100).map(|number| format!("http://a.example/{number}")).collect();
        let slots = |generations: &Generations| keys.iter().map(|key| generations.slot(key)).collect::<Vec<_>>();
        assert_eq!(slots(&one), slots(&one));
        assert_ne!(slots(&one), slots(&other));
    }
}
