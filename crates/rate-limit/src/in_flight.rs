//! How many requests of each key are in progress.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::table::Fingerprint;

/// Counts the requests of each key that are in progress, up to a number of them.
///
/// A key is in the map only while it has a request in progress, so that the map has no more entries than there are
/// requests.
pub(crate) struct InFlight {
    most: u32,
    shards: [Mutex<Counts>; SHARDS],
}

type Counts = HashMap<Fingerprint, u32, BuildHasherDefault<AsItIs>>;

/// One request in progress; it ends when this is dropped.
pub(crate) struct Permit {
    in_flight: Arc<InFlight>,
    key: Fingerprint,
}

impl InFlight {
    /// At most so many requests of each key at once.
    pub(crate) fn new(most: u32) -> Self {
        Self { most, shards: Default::default() }
    }

    /// Counts one more request of the key, if it may have one.
    pub(crate) fn enter(self: &Arc<Self>, key: Fingerprint) -> Option<Permit> {
        if self.most == 0 {
            return None;
        }
        let mut shard = self.shard(key);
        let count = shard.entry(key).or_insert(0);
        if *count >= self.most {
            return None;
        }
        *count += 1;
        drop(shard);
        Some(Permit { in_flight: Arc::clone(self), key })
    }

    fn leave(&self, key: Fingerprint) {
        let mut shard = self.shard(key);
        if let Entry::Occupied(mut entry) = shard.entry(key) {
            match entry.get().saturating_sub(1) {
                0 => drop(entry.remove()),
                left => *entry.get_mut() = left,
            }
        }
        // What a flood has made of it is given back.
        if shard.is_empty() && shard.capacity() > ROOM {
            shard.shrink_to(ROOM);
        }
    }

    fn shard(&self, key: Fingerprint) -> MutexGuard<'_, Counts> {
        // The map itself looks at the lowest and the highest bits.
        let shard = &self.shards[(key.bits() >> 32) as usize % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.in_flight.leave(self.key);
    }
}

impl fmt::Debug for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlight").field("most", &self.most).finish_non_exhaustive()
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}

/// A fingerprint is a hash already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
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
const ROOM: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn in_flight(most: u32) -> Arc<InFlight> {
        Arc::new(InFlight::new(most))
    }

    fn keys(in_flight: &InFlight) -> usize {
        in_flight.shards.iter().map(|shard| shard.lock().unwrap().len()).sum()
    }

    #[test]
    fn so_many_at_once_and_another_when_one_has_ended() {
        let in_flight = in_flight(2);
        let (key, other) = (Fingerprint::new(7), Fingerprint::new(8));
        let first = in_flight.enter(key);
        let second = in_flight.enter(key);
        assert!(first.is_some() && second.is_some() && in_flight.enter(key).is_none());
        assert!(in_flight.enter(other).is_some(), "keys have numbers of their own");
        drop(first);
        let third = in_flight.enter(key);
        assert!(third.is_some() && in_flight.enter(key).is_none());
        assert!(self::in_flight(0).enter(key).is_none());
    }

    #[test]
    fn nothing_is_kept_of_keys_without_requests() {
        let in_flight = in_flight(3);
        let permits: Vec<_> =
            (0..30_000).map(|n| in_flight.enter(Fingerprint::new((n % 10_000) << 30)).unwrap()).collect();
        assert_eq!(keys(&in_flight), 10_000);
        drop(permits);
        assert_eq!(keys(&in_flight), 0);
        assert!(in_flight.shards.iter().all(|shard| shard.lock().unwrap().capacity() <= 2 * ROOM));
    }
}
