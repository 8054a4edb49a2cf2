//! May this key have one more request?

use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};

use governor::RateLimiter;
use governor::clock::Clock;
use governor::middleware::StateInformationMiddleware;
use http::HeaderMap;

use crate::decision::RateLimitDecision;
use crate::fields::{Fields, PolicyName};
use crate::quota::Quota;
use crate::table::{Fingerprint, Table};
use crate::time::Time;

/// One quota, and what is left of it for each key.
pub(crate) struct Limiter {
    quota: Quota,
    name: PolicyName,
    keys: usize,
    fields: Fields,
    hasher: RandomState,
    gcra: RateLimiter<Fingerprint, Table, Time, StateInformationMiddleware>,
}

impl Limiter {
    pub(crate) fn new(quota: Quota, name: PolicyName, keys: usize, time: Time) -> Self {
        let gcra = RateLimiter::new(quota.governor(), Table::new(keys, quota.interval()), time);
        Self { quota, fields: Fields::new(quota, &name), name, keys, hasher: RandomState::new(), gcra }
    }

    pub(crate) fn named(&self, name: PolicyName) -> Self {
        Self::new(self.quota, name, self.keys, self.gcra.clock().clone())
    }

    pub(crate) fn sized(&self, keys: usize) -> Self {
        Self::new(self.quota, self.name.clone(), keys, self.gcra.clock().clone())
    }

    pub(crate) fn timed(&self, time: Time) -> Self {
        Self::new(self.quota, self.name.clone(), self.keys, time)
    }

    /// Counts one request, unless it is denied.
    pub(crate) fn check<K: Hash>(&self, key: &K) -> RateLimitDecision {
        match self.gcra.check_key(&Fingerprint::new(self.hasher.hash_one(key))) {
            Ok(state) => RateLimitDecision::Allowed { remaining: state.remaining_burst_capacity() },
            Err(until) => RateLimitDecision::Denied { retry_after: until.wait_time_from(self.gcra.clock().now()) },
        }
    }

    /// Tells the client.
    pub(crate) fn tell(&self, decision: &RateLimitDecision, headers: &mut HeaderMap) {
        match *decision {
            RateLimitDecision::Allowed { remaining } => self.fields.allowed(remaining, headers),
            RateLimitDecision::Denied { retry_after } => self.fields.denied(retry_after, headers),
            RateLimitDecision::Shadowed { .. } | RateLimitDecision::Unkeyed(_) => {}
        }
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the seed of the hash.
        f.debug_struct("Limiter")
            .field("quota", &self.quota)
            .field("name", &self.name)
            .field("keys", &self.keys)
            .field("time", self.gcra.clock())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use governor::clock::FakeRelativeClock;
    use governor::state::keyed::HashMapStateStore;
    use proptest::prelude::*;

    use super::RateLimitDecision as Decision;
    use super::*;

    fn limiter(quota: Quota, keys: usize) -> (Limiter, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (Limiter::new(quota, PolicyName::default(), keys, Time::given(clock.clone())), clock)
    }

    fn is_allowed(limiter: &Limiter, key: u128) -> bool {
        matches!(limiter.check(&key), Decision::Allowed { .. })
    }

    #[test]
    fn a_burst_then_the_rate() {
        let (limiter, clock) = limiter(Quota::per_second(10).burst(3), 1);
        let allowed = |remaining| Decision::Allowed { remaining };
        let denied = |millis| Decision::Denied { retry_after: Duration::from_millis(millis) };
        for (advance, verdict) in [
            (0, allowed(2)),
            (0, allowed(1)),
            (0, allowed(0)),
            (0, denied(100)),
            (99, denied(1)),
            (1, allowed(0)),
            (0, denied(100)),
            (250, allowed(1)),
            (0, allowed(0)),
            (0, denied(50)),
            (1_000_000, allowed(2)),
        ] {
            clock.advance(Duration::from_millis(advance));
            assert_eq!(limiter.check(&1), verdict);
            assert_eq!(limiter.check(&2), verdict, "keys have quotas of their own");
        }
    }

    #[test]
    fn the_largest_quotas_overflow_nothing() {
        for quota in [Quota::per_second(1).burst(u32::MAX), Quota::per_second(u32::MAX), Quota::per_hour(1)] {
            let (limiter, clock) = limiter(quota, 1);
            clock.advance(Duration::from_secs(100 * 366 * 24 * 3600));
            assert_eq!(limiter.check(&1), Decision::Allowed { remaining: quota.burst_size().get() - 1 });
            limiter.check(&1);
        }
    }

    #[test]
    fn a_flood_of_keys_takes_no_memory_and_no_quota_from_anyone() {
        let (limiter, clock) = limiter(Quota::per_second(10).burst(20), 4096);
        let (honest, greedy) = (u128::MAX, u128::MAX - 1);
        let mut passed = 0;
        // 300,000 sources at 100,000 requests per second: each is seen once, and is idle 100 ms later.
        for source in 0..300_000 {
            clock.advance(Duration::from_micros(10));
            assert!(is_allowed(&limiter, source), "a new one among the many");
            // 10 requests per second
            assert!(source % 10_000 != 0 || is_allowed(&limiter, honest));
            // 1,000 requests per second
            passed += u32::from(source % 100 == 0 && is_allowed(&limiter, greedy));
        }
        // Its burst, and three seconds. The flood is more than the table holds: nothing is forgotten that matters.
        assert!((20..=50).contains(&passed), "{passed}");
    }

    proptest! {
        #[test]
        fn it_counts_as_governors_own_store_does(
            requests in proptest::collection::vec((0..40u128, 0..300u64), 1..400),
            rate in 1..50u32,
            burst in 1..10u32,
        ) {
            let quota = Quota::per_second(rate).burst(burst);
            let (ours, clock) = limiter(quota, 1 << 16);
            let store = HashMapStateStore::new(HashMap::new());
            let theirs = RateLimiter::<_, _, _, StateInformationMiddleware>::new(quota.governor(), store, clock.clone());
            for (key, advance) in requests {
                clock.advance(Duration::from_millis(advance));
                let expected = match theirs.check_key(&key) {
                    Ok(state) => Decision::Allowed { remaining: state.remaining_burst_capacity() },
                    Err(until) => Decision::Denied { retry_after: until.wait_time_from(clock.now()) },
                };
                prop_assert_eq!(ours.check(&key), expected);
            }
        }
    }
}
