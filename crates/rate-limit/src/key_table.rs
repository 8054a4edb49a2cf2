//! A table of the rate limit state of all keys, with bounded memory.
//!
//! GCRA stores one number per key: its theoretical arrival time (TAT), at which the key has its whole quota again. A key
//! whose TAT has passed is idle: it behaves as if it had never been seen. The entry with the earliest TAT is therefore
//! the best one to evict: an empty slot, else an idle key, else the key that has used the least of its quota.
//!
//! The table is set-associative. The hash of a key selects a bucket of eight slots, and a new key replaces the slot with
//! the earliest TAT. There is no eviction list and no sweep, and an access touches two adjacent cache lines. If the slot
//! with the earliest TAT is not idle, the shard doubles, up to its maximum. The largest step moves 64 KiB under the lock
//! of one shard of 64.
//!
//! A table without requests takes no memory. The first request allocates 16 KiB: one bucket in each shard.
//!
//! No request is rejected because the table is full. At the maximum, if all eight keys of a bucket are in use, the one
//! that has used the least is evicted and starts with a whole quota. A client cannot choose the bucket, because the hash
//! has a secret seed. To have its own key evicted, it needs about as many other keys as the table has slots, each of
//! which has used more of its quota.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use governor::nanos::Nanos;
use governor::state::StateStore;

/// A table of the theoretical arrival time (TAT) of each key. Clones share it.
#[derive(Clone)]
pub(crate) struct KeyTable {
    /// The shards of the table, allocated at the first access because many tables are never used.
    shards: Arc<OnceLock<Box<[Shard]>>>,
    /// The maximum number of buckets in a shard.
    max_buckets: usize,
}

/// A request in the form that the key table stores: its key and its cost.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Access {
    pub(crate) key: Fingerprint,
    /// The time that the cost of the request adds to the theoretical arrival time (TAT) of its key.
    ///
    /// The TAT of a new key is this far from now.
    pub(crate) step: u64,
}

/// A seeded hash of a rate limit key. It is never zero, which marks an empty slot.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint(u64);

impl Fingerprint {
    pub(crate) fn new(hash: u64) -> Self {
        Self(hash.max(1))
    }

    pub(crate) fn bits(self) -> u64 {
        self.0
    }
}

impl KeyTable {
    /// Creates a table for up to `max_keys` keys, rounded up to a power of two. A key takes 16 bytes.
    pub(crate) fn new(max_keys: usize) -> Self {
        let max_buckets = max_keys.clamp(SHARDS * WAYS, MAX_KEYS).next_power_of_two() / SHARDS / WAYS;
        Self { shards: Arc::default(), max_buckets }
    }

    /// Reverts the charge of an allowed request.
    pub(crate) fn refund(&self, access: Access) {
        let mut buckets = self.shard(access.key).buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = find(&mut buckets, access.key);
        if let Some(way) = bucket.keys.iter().position(|&other| other == access.key.0) {
            bucket.arrivals[way] = bucket.arrivals[way].saturating_sub(access.step);
        }
    }

    fn shard(&self, key: Fingerprint) -> &Shard {
        // The upper bits select the shard, the lower bits the bucket.
        &self.shards()[(key.0 >> (u64::BITS - SHARDS.ilog2())) as usize]
    }

    fn shards(&self) -> &[Shard] {
        self.shards.get_or_init(|| (0..SHARDS).map(|_| Shard::new()).collect())
    }

    /// Returns the maximum number of slots of the table.
    pub(crate) fn max_keys(&self) -> usize {
        self.max_buckets * WAYS * SHARDS
    }
}

impl StateStore for KeyTable {
    type Key = Access;

    fn measure_and_replace<T, F, E>(&self, access: &Access, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let Access { key, step } = *access;
        let shard = self.shard(key);
        // A poisoned lock is fine: no panic can happen between the two writes to a slot.
        let mut buckets = shard.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = find(&mut buckets, key);
        if let Some(way) = bucket.keys.iter().position(|&other| other == key.0) {
            let (outcome, arrival) = measure(Some(bucket.arrivals[way].into()))?;
            bucket.arrivals[way] = arrival.into();
            return Ok(outcome);
        }

        let (outcome, arrival) = measure(None)?;
        let arrival = arrival.as_u64();
        let now = arrival.saturating_sub(step);
        while find(&mut buckets, key).earliest().1 > now && buckets.len() < self.max_buckets {
            double(&mut buckets);
        }
        let bucket = find(&mut buckets, key);
        let (way, _) = bucket.earliest();
        bucket.keys[way] = key.0;
        bucket.arrivals[way] = arrival;
        Ok(outcome)
    }
}

impl fmt::Debug for KeyTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyTable").field("max_keys", &self.max_keys()).finish_non_exhaustive()
    }
}

// Aligned so that no two shards share a cache line.
#[repr(align(128))]
struct Shard {
    /// The buckets of the shard; their number is a power of two.
    buckets: Mutex<Vec<Bucket>>,
}

impl Shard {
    fn new() -> Self {
        Self { buckets: Mutex::new(vec![Bucket::EMPTY]) }
    }
}

#[derive(Clone, Copy)]
#[repr(align(128))]
struct Bucket {
    keys: [u64; WAYS],
    arrivals: [u64; WAYS],
}

impl Bucket {
    const EMPTY: Self = Self { keys: [0; WAYS], arrivals: [0; WAYS] };

    /// Returns the slot with the earliest theoretical arrival time (TAT), and the TAT.
    fn earliest(&self) -> (usize, u64) {
        let mut earliest = (0, self.arrivals[0]);
        for (way, &arrival) in self.arrivals.iter().enumerate() {
            if arrival < earliest.1 {
                earliest = (way, arrival);
            }
        }
        earliest
    }
}

fn find(buckets: &mut [Bucket], key: Fingerprint) -> &mut Bucket {
    let mask = buckets.len() - 1;
    &mut buckets[key.0 as usize & mask]
}

/// Doubles the number of buckets of a shard. The next bit of its hash decides whether a key moves.
fn double(buckets: &mut Vec<Bucket>) {
    let half = buckets.len();
    buckets.resize(2 * half, Bucket::EMPTY);
    let (lower, upper) = buckets.split_at_mut(half);
    for (lower, upper) in lower.iter_mut().zip(upper) {
        for way in 0..WAYS {
            if lower.keys[way] as usize & half != 0 {
                upper.keys[way] = std::mem::take(&mut lower.keys[way]);
                upper.arrivals[way] = std::mem::take(&mut lower.arrivals[way]);
            }
        }
    }
}

const SHARDS: usize = 64;
const WAYS: usize = 8;
// 16 GiB: more than is useful, and too little to overflow.
const MAX_KEYS: usize = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: u64 = 10;

    /// Returns a key that is in the first bucket at every table size.
    fn key(number: u64) -> Fingerprint {
        Fingerprint::new(number << 32)
    }

    /// Sets the theoretical arrival time (TAT) of a key, and returns the previous TAT.
    fn put(table: &KeyTable, key: Fingerprint, arrival: u64) -> Option<u64> {
        let before =
            table.measure_and_replace(&Access { key, step: INTERVAL }, |before| Ok::<_, ()>((before, arrival.into())));
        before.unwrap().map(Nanos::as_u64)
    }

    fn slots(table: &KeyTable) -> usize {
        table.shards().iter().map(|shard| shard.buckets.lock().unwrap().len() * WAYS).sum()
    }

    /// A pseudo-random permutation of integers (SplitMix64 finalizer).
    fn hash(number: u64) -> Fingerprint {
        let mut hash = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Fingerprint::new(hash ^ (hash >> 31))
    }

    #[test]
    fn key_table_allocates_no_memory_before_the_first_access() {
        let table = KeyTable::new(1 << 19);
        assert!(table.shards.get().is_none());
        put(&table, key(1), 100);
        assert_eq!(slots(&table), SHARDS * WAYS);
    }

    #[test]
    fn evicts_the_key_with_the_earliest_arrival_time() {
        let table = KeyTable::new(1 << 16);
        for number in 1..=8 {
            assert_eq!(put(&table, key(number), 100 - number), None);
        }
        for number in 1..=8 {
            assert_eq!(put(&table, key(number), 200 - number), Some(100 - number), "eight keys fit");
        }
        assert_eq!(put(&table, key(9), 150), None);
        assert_eq!(put(&table, key(10), 300), None, "10 evicts 9, which had the earliest arrival time");
        for number in 1..=7 {
            assert_eq!(put(&table, key(number), 200), Some(200 - number));
        }
        assert_eq!(put(&table, key(8), 200), None, "9 evicted 8");
    }

    #[test]
    fn rejected_request_does_not_change_the_key_table() {
        let table = KeyTable::new(1);
        let reject = |key| table.measure_and_replace(&Access { key, step: INTERVAL }, |_| Err::<((), Nanos), _>("no"));
        for number in 1..=8 {
            put(&table, key(number), 100);
            assert_eq!(reject(key(number)), Err("no"));
        }
        assert_eq!(reject(key(9)), Err("no"));
        for number in 1..=8 {
            assert_eq!(put(&table, key(number), 100), Some(100));
        }
    }

    #[test]
    fn refund_of_an_evicted_key_does_not_change_the_key_table() {
        let table = KeyTable::new(1);
        for number in 1..=8 {
            put(&table, key(number), 100 + number);
        }
        put(&table, key(9), 200);
        table.refund(Access { key: key(1), step: INTERVAL });
        for number in 2..=8 {
            assert_eq!(put(&table, key(number), 300), Some(100 + number));
        }
        assert_eq!(put(&table, key(9), 300), Some(200));
        assert_eq!(put(&table, key(1), 300), None, "9 evicted 1");
    }

    #[test]
    fn key_table_does_not_grow_for_idle_keys() {
        let table = KeyTable::new(1 << 19);
        let small = slots(&table);
        for number in 1..100_000 {
            // The previous key is idle by now.
            put(&table, hash(number), number * INTERVAL);
        }
        assert_eq!(slots(&table), small);
    }

    #[test]
    fn key_table_grows_instead_of_evicting_keys_in_use() {
        let table = KeyTable::new(1 << 19);
        for number in 1..=50_000 {
            assert_eq!(put(&table, hash(number), INTERVAL), None);
        }
        for number in 1..=50_000 {
            assert_eq!(put(&table, hash(number), INTERVAL), Some(INTERVAL));
        }
        assert!((50_000..1 << 19).contains(&slots(&table)), "{}", slots(&table));
    }

    #[test]
    fn key_table_uses_every_slot_at_its_maximum_size() {
        for (max_keys, slot_count) in [(0, 512), (512, 512), (513, 1024), (30_000, 1 << 15)] {
            let table = KeyTable::new(max_keys);
            for number in 0..slot_count as u64 * 20 {
                put(&table, hash(number), INTERVAL);
            }
            assert_eq!((slots(&table), table.max_keys()), (slot_count, slot_count));
            for shard in table.shards().iter() {
                assert!(shard.buckets.lock().unwrap().iter().all(|bucket| !bucket.keys.contains(&0)));
            }
        }
    }
}
