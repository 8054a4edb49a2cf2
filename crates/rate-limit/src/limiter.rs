//! May this key have one more request?

use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::num::NonZeroU32;
use std::time::Duration;

use governor::RateLimiter;
use governor::clock::Clock;
use governor::middleware::StateInformationMiddleware;
use http::HeaderMap;

use crate::decision::{RateLimitDecision, SOON};
use crate::fields::{Fields, PolicyName};
use crate::quota::Quota;
use crate::store::{Charge, Left, bytes_of};
use crate::table::{Access, Fingerprint, Table};
use crate::time::Time;

/// One quota, and what is left of it for each key.
pub(crate) struct Limiter {
    plan: Plan,
    fields: Fields,
    hasher: RandomState,
    table: Table,
    gcra: RateLimiter<Access, Table, Time, StateInformationMiddleware>,
}

/// What a limiter is made of.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) quota: Quota,
    pub(crate) name: PolicyName,
    pub(crate) keys: usize,
    pub(crate) time: Time,
    /// The most that is added to how long a client is to wait.
    pub(crate) jitter: Duration,
    /// Whether to send `X-RateLimit-*`, too.
    pub(crate) legacy: bool,
}

impl Limiter {
    pub(crate) fn new(plan: Plan) -> Self {
        let table = Table::new(plan.keys);
        let gcra = RateLimiter::new(plan.quota.governor(), table.clone(), plan.time.clone());
        Self { fields: Fields::new(plan.quota, &plan.name), hasher: RandomState::new(), table, gcra, plan }
    }

    /// Another one that is a little different, and counts from zero.
    pub(crate) fn changed(&self, change: impl FnOnce(&mut Plan)) -> Self {
        let mut plan = self.plan.clone();
        change(&mut plan);
        Self::new(plan)
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    pub(crate) fn burst(&self) -> u32 {
        self.plan.quota.burst_size().get()
    }

    pub(crate) fn fingerprint<K: Hash>(&self, key: &K) -> Fingerprint {
        Fingerprint::new(self.hasher.hash_one(key))
    }

    /// What a [store](crate::RateLimitStore) is to count.
    pub(crate) fn charge<K: Hash>(&self, key: &K, cost: NonZeroU32) -> Charge {
        let quota = self.plan.quota;
        Charge { policy: self.plan.name.text(), key: bytes_of(key), quota, cost: cost.min(quota.burst_size()) }
    }

    /// What a [store](crate::RateLimitStore) says of a key.
    pub(crate) fn decision(&self, key: Fingerprint, left: Left) -> RateLimitDecision {
        match left {
            Left::Remaining(remaining) => RateLimitDecision::Allowed { remaining },
            Left::Nothing { retry_after } => self.denied(key, retry_after),
        }
    }

    fn denied(&self, key: Fingerprint, wait: Duration) -> RateLimitDecision {
        RateLimitDecision::Denied { retry_after: wait.saturating_add(self.jitter(key, wait)) }
    }

    /// Counts a request of this cost, unless it is denied. What costs more than the burst costs all of it: a request
    /// that could never pass would be told to come again for ever.
    pub(crate) fn check(&self, key: Fingerprint, cost: NonZeroU32) -> RateLimitDecision {
        let cost = cost.min(self.plan.quota.burst_size());
        let access = Access { key, step: self.step(cost) };
        let outcome = match cost {
            NonZeroU32::MIN => self.gcra.check_key(&access),
            // Within the burst there is always capacity.
            _ => match self.gcra.check_key_n(&access, cost) {
                Ok(outcome) => outcome,
                Err(_) => return RateLimitDecision::Denied { retry_after: self.plan.quota.interval() },
            },
        };
        match outcome {
            Ok(state) => RateLimitDecision::Allowed { remaining: state.remaining_burst_capacity() },
            Err(until) => self.denied(key, until.wait_time_from(self.gcra.clock().now())),
        }
    }

    /// Takes back what [`check`](Self::check) counted.
    pub(crate) fn give_back(&self, key: Fingerprint, cost: NonZeroU32) {
        let cost = cost.min(self.plan.quota.burst_size());
        self.table.give_back(Access { key, step: self.step(cost) });
    }

    /// How far a request of this cost puts off the time at which a key has its whole quota again.
    fn step(&self, cost: NonZeroU32) -> u64 {
        let interval = u64::try_from(self.plan.quota.interval().as_nanos()).unwrap_or(u64::MAX);
        interval.saturating_mul(cost.get().into())
    }

    /// So that clients that were refused together do not come back together. The secret seed makes it random.
    fn jitter(&self, key: Fingerprint, wait: Duration) -> Duration {
        match u64::try_from(self.plan.jitter.as_nanos()).unwrap_or(u64::MAX) {
            0 => Duration::ZERO,
            most => Duration::from_nanos(self.hasher.hash_one((key, wait)) % most),
        }
    }

    /// Tells the client in the fields of before there was a draft: where there are several policies, only of the one
    /// that decided.
    pub(crate) fn tell_legacy(&self, decision: &RateLimitDecision, headers: &mut HeaderMap) {
        if self.plan.legacy {
            self.fields.legacy(self.plan.quota, decision, headers);
        }
    }

    /// Tells the client when to come again, if it has to.
    pub(crate) fn tell_retry_after(&self, decision: &RateLimitDecision, headers: &mut HeaderMap) {
        if let RateLimitDecision::Denied { retry_after } = *decision {
            self.fields.retry_after(retry_after, headers);
        }
    }

    /// Tells the client.
    pub(crate) fn tell(&self, decision: &RateLimitDecision, headers: &mut HeaderMap) {
        match *decision {
            RateLimitDecision::Allowed { remaining } => self.fields.allowed(remaining, headers),
            RateLimitDecision::Denied { retry_after } => self.fields.denied(retry_after, headers),
            RateLimitDecision::TooManyInFlight | RateLimitDecision::StoreUnavailable => {
                self.fields.retry_after(SOON, headers);
            }
            RateLimitDecision::Shadowed { .. } | RateLimitDecision::Uncounted | RateLimitDecision::Unkeyed(_) => {}
        }
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the seed of the hash.
        f.debug_struct("Limiter").field("plan", &self.plan).finish_non_exhaustive()
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
        let plan = Plan {
            quota,
            name: PolicyName::default(),
            keys,
            time: Time::given(clock.clone()),
            jitter: Duration::ZERO,
            legacy: false,
        };
        (Limiter::new(plan), clock)
    }

    fn check(limiter: &Limiter, key: u128) -> Decision {
        limiter.check(limiter.fingerprint(&key), NonZeroU32::MIN)
    }

    fn is_allowed(limiter: &Limiter, key: u128) -> bool {
        matches!(check(limiter, key), Decision::Allowed { .. })
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
            assert_eq!(check(&limiter, 1), verdict);
            assert_eq!(check(&limiter, 2), verdict, "keys have quotas of their own");
        }
    }

    #[test]
    fn what_is_given_back_is_as_if_never_taken() {
        let (limiter, clock) = limiter(Quota::per_second(10).burst(5), 1);
        let key = limiter.fingerprint(&1);
        let cost = |cost| NonZeroU32::new(cost).unwrap();
        let allowed = |remaining| Decision::Allowed { remaining };
        assert_eq!(limiter.check(key, cost(3)), allowed(2));
        assert_eq!(limiter.check(key, cost(3)), Decision::Denied { retry_after: Duration::from_millis(100) });
        limiter.give_back(key, cost(3));
        assert_eq!(limiter.check(key, cost(4)), allowed(1));
        clock.advance(Duration::from_secs(1));
        assert_eq!(limiter.check(key, cost(99)), allowed(0), "more than the burst is the burst");
        limiter.give_back(key, cost(99));
        assert_eq!(limiter.check(key, cost(5)), allowed(0));
    }

    #[test]
    fn a_jitter_makes_no_wait_shorter() {
        let (limiter, _) = limiter(Quota::per_second(1), 1 << 10);
        let limiter = limiter.changed(|plan| plan.jitter = Duration::from_secs(10));
        let mut waits = Vec::new();
        for key in 0..100 {
            check(&limiter, key);
            let Decision::Denied { retry_after } = check(&limiter, key) else { panic!("it has had its one") };
            waits.push(retry_after.as_secs());
        }
        assert!(waits.iter().all(|seconds| (1..=11).contains(seconds)), "{waits:?}");
        assert!(waits.iter().max() > waits.iter().min());
    }

    #[test]
    fn the_largest_quotas_overflow_nothing() {
        for quota in [Quota::per_second(1).burst(u32::MAX), Quota::per_second(u32::MAX), Quota::per_hour(1)] {
            let (limiter, clock) = limiter(quota, 1);
            clock.advance(Duration::from_secs(100 * 366 * 24 * 3600));
            assert_eq!(check(&limiter, 1), Decision::Allowed { remaining: quota.burst_size().get() - 1 });
            check(&limiter, 1);
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
                prop_assert_eq!(check(&ours, key), expected);
            }
        }
    }
}
