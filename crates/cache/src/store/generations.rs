//! Generation counters, which distinguish responses from before and after an invalidation.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::policy::tags::Tags;

/// The values of the generation counters at the start of a fetch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FetchTicket {
    slot: usize,
    generation: u64,
    purge_generation: u64,
    tag_generation: u64,
}

impl FetchTicket {
    /// Whether the resource was not invalidated between the starts of two fetches. Ignores cache tags, which are not
    /// known yet.
    pub(crate) fn is_equivalent_to(&self, other: &FetchTicket) -> bool {
        let generations = |ticket: &FetchTicket| (ticket.slot, ticket.generation, ticket.purge_generation);
        generations(self) == generations(other)
    }

    /// Returns the number of cache-tag invalidations before the fetch.
    pub(crate) fn tag_generation(&self) -> u64 {
        self.tag_generation
    }
}

/// Counters of invalidations, in slots that are selected by the hash of a key or cache tag.
///
/// All queries of a path have the same slot, because they may be equivalent. Different keys can have the same slot: then a response
/// is not stored although it could be, which is harmless. Likewise, two tags with the same slot are invalidated together.
pub(crate) struct Generations {
    keys: Box<[AtomicU64]>,
    /// A hasher with a random secret, so that no client can predict which keys share a slot.
    hasher: RandomState,
    /// The number of purges that apply to several cache keys.
    purges: AtomicU64,
    /// The number of cache-tag invalidations.
    tag_invalidations: AtomicU64,
    /// The sequence number of the last invalidation, for each slot of cache tags.
    tags: Box<[AtomicU64]>,
}

impl Default for Generations {
    fn default() -> Self {
        const KEY_SLOTS: usize = 8192;
        const TAG_SLOTS: usize = 4096;
        let zeros = |slots: usize| (0..slots).map(|_| AtomicU64::new(0)).collect();
        Self {
            keys: zeros(KEY_SLOTS),
            hasher: RandomState::new(),
            purges: AtomicU64::new(0),
            tag_invalidations: AtomicU64::new(0),
            tags: zeros(TAG_SLOTS),
        }
    }
}

impl Generations {
    fn slot(&self, key: &str) -> usize {
        (self.hasher.hash_one(key.split('?').next()) % self.keys.len() as u64) as usize
    }

    /// Returns a fetch ticket with the current values of the generation counters.
    pub(crate) fn ticket(&self, key: &str) -> FetchTicket {
        let slot = self.slot(key);
        FetchTicket {
            slot,
            generation: self.keys[slot].load(Ordering::SeqCst),
            purge_generation: self.purges.load(Ordering::SeqCst),
            tag_generation: self.tag_invalidations.load(Ordering::SeqCst),
        }
    }

    /// Invalidates the resource under the cache key `key`.
    pub(crate) fn advance(&self, key: &str) {
        self.keys[self.slot(key)].fetch_add(1, Ordering::SeqCst);
    }

    /// Invalidates all responses with a cache tag.
    pub(crate) fn advance_tag(&self, tag: u64) {
        let number = self.tag_invalidations.fetch_add(1, Ordering::SeqCst) + 1;
        self.tag(tag).fetch_max(number, Ordering::SeqCst);
    }

    /// Whether none of a response's cache tags has been invalidated since the response was fetched.
    pub(crate) fn are_current(&self, tags: &Tags) -> bool {
        tags.hashes().iter().all(|&tag| self.tag(tag).load(Ordering::Acquire) <= tags.generation())
    }

    fn tag(&self, tag: u64) -> &AtomicU64 {
        &self.tags[(tag % self.tags.len() as u64) as usize]
    }

    /// Invalidates all stored resources.
    pub(crate) fn advance_all(&self) {
        self.purges.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether the resource has not been invalidated since the fetch started.
    pub(crate) fn is_valid(&self, ticket: FetchTicket) -> bool {
        self.keys[ticket.slot].load(Ordering::SeqCst) == ticket.generation
            && self.purges.load(Ordering::SeqCst) == ticket.purge_generation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalidation_slots_depend_on_a_random_hash_key() {
        let (one, other) = (Generations::default(), Generations::default());
        let keys: Vec<String> = (0..100).map(|number| format!("http://a.example/{number}")).collect();
        let slots = |generations: &Generations| keys.iter().map(|key| generations.slot(key)).collect::<Vec<_>>();
        assert_eq!(slots(&one), slots(&one));
        assert_ne!(slots(&one), slots(&other));
    }
}
