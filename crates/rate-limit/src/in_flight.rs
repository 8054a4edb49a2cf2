//! The number of in-flight requests per key.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::key_table::Fingerprint;

/// A counter of in-flight requests per key, with a maximum.
///
/// A key is in the map only while it has a request in flight. The map never has more entries than there are requests.
pub(crate) struct InFlight {
    max: u32,
    shards: [Mutex<Counts>; SHARDS],
}

type Counts = HashMap<Fingerprint, u32, BuildHasherDefault<IdentityHasher>>;

/// A permit for one request; the request counts as in flight until the permit is dropped.
pub(crate) struct Permit {
    in_flight: Arc<InFlight>,
    key: Fingerprint,
}

impl InFlight {
    pub(crate) fn new(max: u32) -> Self {
        Self { max, shards: Default::default() }
    }

    /// Acquires a permit for a request, or returns `None` if the key has reached its maximum.
    pub(crate) fn acquire(self: &Arc<Self>, key: Fingerprint) -> Option<Permit> {
        if self.max == 0 {
            return None;
        }
        let mut shard = self.shard(key);
        let count = shard.entry(key).or_insert(0);
        if *count >= self.max {
            return None;
        }
        *count += 1;
        drop(shard);
        Some(Permit { in_flight: Arc::clone(self), key })
    }

    fn release(&self, key: Fingerprint) {
        let mut shard = self.shard(key);
        if let Entry::Occupied(mut entry) = shard.entry(key) {
            match entry.get().saturating_sub(1) {
                0 => drop(entry.remove()),
                count => *entry.get_mut() = count,
            }
        }
        // Return the memory that a flood of keys took.
        if shard.is_empty() && shard.capacity() > IDLE_CAPACITY {
            shard.shrink_to(IDLE_CAPACITY);
        }
    }

    fn shard(&self, key: Fingerprint) -> MutexGuard<'_, Counts> {
        // The map uses the lowest and the highest bits of the hash, so the shard is chosen by bits between them.
        let shard = &self.shards[(key.bits() >> 32) as usize % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.in_flight.release(self.key);
    }
}

impl fmt::Debug for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlight").field("max", &self.max).finish_non_exhaustive()
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}

/// A hasher that returns a fingerprint unchanged, because fingerprints are already hashes.
#[derive(Default)]
struct IdentityHasher(u64);

impl Hasher for IdentityHasher {
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

const SHARDS: usize = 16;
const IDLE_CAPACITY: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn in_flight(max: u32) -> Arc<InFlight> {
        Arc::new(InFlight::new(max))
    }

    fn keys(in_flight: &InFlight) -> usize {
        in_flight.shards.iter().map(|shard| shard.lock().unwrap().len()).sum()
    }

    #[test]
    fn limits_in_flight_requests_per_key() {
        let in_flight = in_flight(2);
        let (key, other) = (Fingerprint::new(7), Fingerprint::new(8));
        let first = in_flight.acquire(key);
        let second = in_flight.acquire(key);
        assert!(first.is_some() && second.is_some() && in_flight.acquire(key).is_none());
        assert!(in_flight.acquire(other).is_some(), "another key has its own count");
        drop(first);
        let third = in_flight.acquire(key);
        assert!(third.is_some() && in_flight.acquire(key).is_none());
        assert!(self::in_flight(0).acquire(key).is_none());
    }

    #[test]
    fn frees_memory_of_keys_without_in_flight_requests() {
        let in_flight = in_flight(3);
        let permits: Vec<_> =
            (0..30_000).map(|n| in_flight.acquire(Fingerprint::new((n % 10_000) << 30)).unwrap()).collect();
        assert_eq!(keys(&in_flight), 10_000);
        drop(permits);
        assert_eq!(keys(&in_flight), 0);
        assert!(in_flight.shards.iter().all(|shard| shard.lock().unwrap().capacity() <= 2 * IDLE_CAPACITY));
    }
}
