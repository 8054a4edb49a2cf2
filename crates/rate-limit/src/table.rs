//! The state of all the keys, in bounded memory.
//!
//! A GCRA keeps one number per key: its theoretical arrival time (TAT), the time at which the key will have its
//! whole quota again. A key whose TAT has passed is the same as one that was never seen. So what has the earliest
//! TAT is what can best be forgotten: an empty place, else a key that is idle, else the key that owes the least.
//!
//! That makes a set-associative table: the hash of a key names a bucket of eight places; a new key takes the one
//! with the earliest TAT. No list to keep, nothing to sweep, and it is small, which is what makes it fast: an access
//! is two neighbouring cache lines. Rather than forget a key that still owes something, a shard of the table doubles,
//! up to the bound; the largest step moves 64 KiB, while the other 63 shards go on.
//!
//! Nobody is refused for want of room. At the bound, when all eight keys of a bucket owe something, the one that owes
//! the least starts afresh, and those that have used up their quota stay. Buckets can't be aimed at, as the hash has
//! a secret seed: to be forgotten before its time, a sender needs about as many others as the table has places,
//! each of which owes more than it does.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use governor::nanos::Nanos;
use governor::state::StateStore;

/// Where the TATs are kept. Clones share them.
#[derive(Clone)]
pub(crate) struct Table {
    shards: Arc<[Shard]>,
    /// The most buckets that a shard may have.
    most: usize,
}

/// A request of a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Access {
    pub(crate) key: Fingerprint,
    /// How far the request puts off the key's TAT, and how far the TAT of a new key is from now.
    pub(crate) step: u64,
}

/// A keyed hash of a key. Never zero: that is an empty place.
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

impl Table {
    /// For up to so many keys, rounded up to a power of two, at 16 bytes each.
    pub(crate) fn new(keys: usize) -> Self {
        let most = keys.clamp(SHARDS * WAYS, MOST_KEYS).next_power_of_two() / SHARDS / WAYS;
        Self { shards: (0..SHARDS).map(|_| Shard::new(most.min(FEWEST_BUCKETS))).collect(), most }
    }

    /// Takes back a request that was let in.
    pub(crate) fn give_back(&self, access: Access) {
        let mut buckets = self.shard(access.key).buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = find(&mut buckets, access.key);
        if let Some(way) = bucket.keys.iter().position(|&other| other == access.key.0) {
            bucket.arrivals[way] = bucket.arrivals[way].saturating_sub(access.step);
        }
    }

    fn shard(&self, key: Fingerprint) -> &Shard {
        // The shard by the upper bits, the bucket by the lower.
        &self.shards[(key.0 >> (u64::BITS - SHARDS.ilog2())) as usize]
    }

    /// How many keys there is room for at the bound.
    pub(crate) fn most_keys(&self) -> usize {
        self.most * WAYS * SHARDS
    }
}

impl StateStore for Table {
    type Key = Access;

    fn measure_and_replace<T, F, E>(&self, access: &Access, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let Access { key, step } = *access;
        let shard = self.shard(key);
        // Poisoned or not: no panic can come between the two words that are written.
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
        while find(&mut buckets, key).earliest().1 > now && buckets.len() < self.most {
            double(&mut buckets);
        }
        let bucket = find(&mut buckets, key);
        let (way, _) = bucket.earliest();
        bucket.keys[way] = key.0;
        bucket.arrivals[way] = arrival;
        Ok(outcome)
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("most_keys", &self.most_keys()).finish_non_exhaustive()
    }
}

// On cache lines of its own, so that two cores meet only in the same shard.
#[repr(align(128))]
struct Shard {
    /// A power of two of them.
    buckets: Mutex<Vec<Bucket>>,
}

impl Shard {
    fn new(buckets: usize) -> Self {
        Self { buckets: Mutex::new(vec![Bucket::EMPTY; buckets]) }
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

    /// The place with the earliest TAT, and that.
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

/// Splits each bucket in two, by the next bit of the keys.
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
// 256 KiB in all.
const FEWEST_BUCKETS: usize = 32;
// 16 GiB: beyond any use, below any overflow.
const MOST_KEYS: usize = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: u64 = 10;

    fn table(keys: usize) -> Table {
        Table::new(keys)
    }

    /// Keys of the first bucket, however many there are.
    fn key(number: u64) -> Fingerprint {
        Fingerprint::new(number << 32)
    }

    /// Puts `arrival` down for a key; what was there before.
    fn put(table: &Table, key: Fingerprint, arrival: u64) -> Option<u64> {
        let before =
            table.measure_and_replace(&Access { key, step: INTERVAL }, |before| Ok::<_, ()>((before, arrival.into())));
        before.unwrap().map(Nanos::as_u64)
    }

    fn places(table: &Table) -> usize {
        table.shards.iter().map(|shard| shard.buckets.lock().unwrap().len() * WAYS).sum()
    }

    /// A permutation that looks random: the finaliser of SplitMix64.
    fn hash(number: u64) -> Fingerprint {
        let mut hash = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Fingerprint::new(hash ^ (hash >> 31))
    }

    #[test]
    fn the_earliest_arrival_is_forgotten_for_a_new_key() {
        let table = table(1 << 16);
        for number in 1..=8 {
            assert_eq!(put(&table, key(number), 100 - number), None);
        }
        for number in 1..=8 {
            assert_eq!(put(&table, key(number), 200 - number), Some(100 - number), "there was room for all");
        }
        assert_eq!(put(&table, key(9), 150), None);
        assert_eq!(put(&table, key(10), 300), None, "in the place of 9, which had the earliest arrival");
        for number in 1..=7 {
            assert_eq!(put(&table, key(number), 200), Some(200 - number));
        }
        assert_eq!(put(&table, key(8), 200), None, "in whose place 9 was");
    }

    #[test]
    fn a_request_that_is_refused_leaves_no_trace() {
        let table = table(1);
        let refuse = |key| table.measure_and_replace(&Access { key, step: INTERVAL }, |_| Err::<((), Nanos), _>("no"));
        for number in 1..=8 {
            put(&table, key(number), 100);
            assert_eq!(refuse(key(number)), Err("no"));
        }
        assert_eq!(refuse(key(9)), Err("no"));
        for number in 1..=8 {
            assert_eq!(put(&table, key(number), 100), Some(100));
        }
    }

    #[test]
    fn idle_keys_make_way_and_the_table_stays_small() {
        let table = table(1 << 19);
        let small = places(&table);
        for number in 1..100_000 {
            // The one before is idle by now.
            put(&table, hash(number), number * INTERVAL);
        }
        assert_eq!(places(&table), small);
    }

    #[test]
    fn no_key_that_owes_is_forgotten_while_the_table_may_grow() {
        let table = table(1 << 19);
        for number in 1..=50_000 {
            assert_eq!(put(&table, hash(number), INTERVAL), None);
        }
        for number in 1..=50_000 {
            assert_eq!(put(&table, hash(number), INTERVAL), Some(INTERVAL));
        }
        assert!((50_000..1 << 19).contains(&places(&table)), "{}", places(&table));
    }

    #[test]
    fn at_the_bound_it_grows_no_more_and_is_used_to_the_last_place() {
        for (keys, bound) in [(0, 512), (512, 512), (513, 1024), (30_000, 1 << 15)] {
            let table = table(keys);
            for number in 0..bound as u64 * 20 {
                put(&table, hash(number), INTERVAL);
            }
            assert_eq!((places(&table), table.most_keys()), (bound, bound));
            for shard in table.shards.iter() {
                assert!(shard.buckets.lock().unwrap().iter().all(|bucket| !bucket.keys.contains(&0)));
            }
        }
    }
}
