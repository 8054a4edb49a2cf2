//! A limiter for one quota, with state per key.

use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::num::NonZeroU32;
use std::time::Duration;

use governor::RateLimiter;
use governor::clock::Clock;
use governor::middleware::StateInformationMiddleware;
use http::HeaderMap;

use crate::decision::{DEFAULT_RETRY_AFTER, RateLimitDecision};
use crate::header_fields::{HeaderFields, PolicyName};
use crate::key_table::{Access, Fingerprint, KeyTable};
use crate::quota::Quota;
use crate::store::{Charge, ChargeOutcome, key_bytes};
use crate::time::Time;

/// A quota, and the used part of the quota per key.
pub(crate) struct Limiter {
    config: LimiterConfig,
    fields: HeaderFields,
    hasher: RandomState,
    table: KeyTable,
    gcra: RateLimiter<Access, KeyTable, Time, StateInformationMiddleware>,
}

/// The configuration of a [`Limiter`].
#[derive(Clone, Debug)]
pub(crate) struct LimiterConfig {
    pub(crate) quota: Quota,
    pub(crate) name: PolicyName,
    pub(crate) max_keys: usize,
    pub(crate) time: Time,
    /// The maximum random time to add to `Retry-After`.
    pub(crate) jitter: Duration,
    /// Whether to send the `X-RateLimit-*` fields.
    pub(crate) legacy_fields: bool,
}

impl Limiter {
    pub(crate) fn new(config: LimiterConfig) -> Self {
        let table = KeyTable::new(config.max_keys);
        let gcra = RateLimiter::new(config.quota.governor(), table.clone(), config.time.clone());
        Self { fields: HeaderFields::new(config.quota, &config.name), hasher: RandomState::new(), table, gcra, config }
    }

    pub(crate) fn burst(&self) -> u32 {
        self.config.quota.burst_size().get()
    }

    pub(crate) fn fingerprint<K: Hash>(&self, key: &K) -> Fingerprint {
        Fingerprint::new(self.hasher.hash_one(key))
    }

    /// Returns the charge to send to a [store](crate::RateLimitStore) for a request.
    pub(crate) fn charge<K: Hash>(&self, key: &K, cost: NonZeroU32) -> Charge {
        let quota = self.config.quota;
        Charge { policy: self.config.name.text(), key: key_bytes(key), quota, cost: cost.min(quota.burst_size()) }
    }

    /// Converts the outcome from a [store](crate::RateLimitStore) into a decision.
    pub(crate) fn decision(&self, key: Fingerprint, outcome: ChargeOutcome) -> RateLimitDecision {
        match outcome {
            ChargeOutcome::Allowed { remaining } => RateLimitDecision::Allowed { remaining },
            ChargeOutcome::Rejected { retry_after } => self.rejection(key, retry_after),
        }
    }

    fn rejection(&self, key: Fingerprint, wait: Duration) -> RateLimitDecision {
        RateLimitDecision::Rejected { retry_after: wait.saturating_add(self.jitter(key, wait)) }
    }

    /// Decides whether to allow a request with this cost, and charges an allowed request to its key.
    ///
    /// A cost above the burst counts as the whole burst. The request would otherwise never be allowed, although
    /// `Retry-After` asks the client to retry.
    pub(crate) fn check(&self, key: Fingerprint, cost: NonZeroU32) -> RateLimitDecision {
        let cost = cost.min(self.config.quota.burst_size());
        let access = Access { key, step: self.step(cost) };
        let outcome = match cost {
            NonZeroU32::MIN => self.gcra.check_key(&access),
            // The error cannot happen: the cost is at most the burst.
            _ => match self.gcra.check_key_n(&access, cost) {
                Ok(outcome) => outcome,
                Err(_) => return RateLimitDecision::Rejected { retry_after: self.config.quota.replenish_interval() },
            },
        };
        match outcome {
            Ok(state) => RateLimitDecision::Allowed { remaining: state.remaining_burst_capacity() },
            Err(until) => self.rejection(key, until.wait_time_from(self.gcra.clock().now())),
        }
    }

    /// Reverts a charge by [`check`](Self::check).
    pub(crate) fn refund(&self, key: Fingerprint, cost: NonZeroU32) {
        let cost = cost.min(self.config.quota.burst_size());
        self.table.refund(Access { key, step: self.step(cost) });
    }

    /// Returns the time that a request with this cost adds to the theoretical arrival time of its key.
    fn step(&self, cost: NonZeroU32) -> u64 {
        let interval = u64::try_from(self.config.quota.replenish_interval().as_nanos()).unwrap_or(u64::MAX);
        interval.saturating_mul(cost.get().into())
    }

    /// Returns the random time to add to a `Retry-After`. The hash is random to clients because its seed is secret.
    fn jitter(&self, key: Fingerprint, wait: Duration) -> Duration {
        match u64::try_from(self.config.jitter.as_nanos()).unwrap_or(u64::MAX) {
            0 => Duration::ZERO,
            max => Duration::from_nanos(self.hasher.hash_one((key, wait)) % max),
        }
    }

    /// Writes the rate limit header fields that inform the client of the decision.
    pub(crate) fn write_fields(&self, decision: &RateLimitDecision, headers: &mut HeaderMap) {
        match *decision {
            RateLimitDecision::Allowed { remaining } => self.fields.write_allowed(remaining, headers),
            RateLimitDecision::Rejected { retry_after } => self.fields.write_rejected(retry_after, headers),
            RateLimitDecision::TooManyInFlight | RateLimitDecision::FailedClosed => {
                self.fields.write_retry_after(DEFAULT_RETRY_AFTER, headers);
            }
            RateLimitDecision::WouldReject { .. }
            | RateLimitDecision::FailedOpen
            | RateLimitDecision::MissingKey(_) => {}
        }
    }

    /// Writes `Retry-After` if the request exceeded its quota.
    pub(crate) fn write_retry_after(&self, decision: &RateLimitDecision, headers: &mut HeaderMap) {
        if let RateLimitDecision::Rejected { retry_after } = *decision {
            self.fields.write_retry_after(retry_after, headers);
        }
    }

    /// Writes the `X-RateLimit-*` fields of one policy.
    pub(crate) fn write_legacy_fields(&self, decision: &RateLimitDecision, headers: &mut HeaderMap) {
        if self.config.legacy_fields {
            self.fields.write_legacy(self.config.quota, decision, headers);
        }
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The seed of the hash stays secret.
        f.debug_struct("Limiter").field("config", &self.config).finish_non_exhaustive()
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

    fn limiter(quota: Quota, max_keys: usize) -> (Limiter, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (Limiter::new(config(quota, max_keys, &clock)), clock)
    }

    fn config(quota: Quota, max_keys: usize, clock: &FakeRelativeClock) -> LimiterConfig {
        LimiterConfig {
            quota,
            name: PolicyName::default(),
            max_keys,
            time: Time::custom(clock.clone()),
            jitter: Duration::ZERO,
            legacy_fields: false,
        }
    }

    fn check(limiter: &Limiter, key: u128) -> Decision {
        limiter.check(limiter.fingerprint(&key), NonZeroU32::MIN)
    }

    fn is_allowed(limiter: &Limiter, key: u128) -> bool {
        matches!(check(limiter, key), Decision::Allowed { .. })
    }

    #[test]
    fn allows_a_burst_and_then_the_sustained_rate() {
        let (limiter, clock) = limiter(Quota::per_second(10).burst(3), 1);
        let allowed = |remaining| Decision::Allowed { remaining };
        let rejected = |millis| Decision::Rejected { retry_after: Duration::from_millis(millis) };
        for (advance, decision) in [
            (0, allowed(2)),
            (0, allowed(1)),
            (0, allowed(0)),
            (0, rejected(100)),
            (99, rejected(1)),
            (1, allowed(0)),
            (0, rejected(100)),
            (250, allowed(1)),
            (0, allowed(0)),
            (0, rejected(50)),
            (1_000_000, allowed(2)),
        ] {
            clock.advance(Duration::from_millis(advance));
            assert_eq!(check(&limiter, 1), decision);
            assert_eq!(check(&limiter, 2), decision, "another key has its own quota");
        }
    }

    #[test]
    fn refund_restores_the_quota_of_the_key() {
        let (limiter, clock) = limiter(Quota::per_second(10).burst(5), 1);
        let key = limiter.fingerprint(&1);
        let cost = |cost| NonZeroU32::new(cost).unwrap();
        let allowed = |remaining| Decision::Allowed { remaining };
        assert_eq!(limiter.check(key, cost(3)), allowed(2));
        assert_eq!(limiter.check(key, cost(3)), Decision::Rejected { retry_after: Duration::from_millis(100) });
        limiter.refund(key, cost(3));
        assert_eq!(limiter.check(key, cost(4)), allowed(1));
        clock.advance(Duration::from_secs(1));
        assert_eq!(limiter.check(key, cost(99)), allowed(0), "a cost above the burst is the burst");
        limiter.refund(key, cost(99));
        assert_eq!(limiter.check(key, cost(5)), allowed(0));
    }

    #[test]
    fn jitter_adds_a_random_time_to_each_wait() {
        let config = config(Quota::per_second(1), 1 << 10, &FakeRelativeClock::default());
        let limiter = Limiter::new(LimiterConfig { jitter: Duration::from_secs(10), ..config });
        let mut waits = Vec::new();
        for key in 0..100 {
            check(&limiter, key);
            let Decision::Rejected { retry_after } = check(&limiter, key) else { panic!("the quota is used up") };
            waits.push(retry_after.as_secs());
        }
        assert!(waits.iter().all(|seconds| (1..=11).contains(seconds)), "{waits:?}");
        assert!(waits.iter().max() > waits.iter().min());
    }

    #[test]
    fn extreme_quotas_do_not_overflow() {
        for quota in [Quota::per_second(1).burst(u32::MAX), Quota::per_second(u32::MAX), Quota::per_hour(1)] {
            let (limiter, clock) = limiter(quota, 1);
            clock.advance(Duration::from_secs(100 * 366 * 24 * 3600));
            assert_eq!(check(&limiter, 1), Decision::Allowed { remaining: quota.burst_size().get() - 1 });
            check(&limiter, 1);
        }
    }

    #[test]
    fn flood_of_keys_does_not_affect_other_clients() {
        let (limiter, clock) = limiter(Quota::per_second(10).burst(20), 4096);
        let (honest, greedy) = (u128::MAX, u128::MAX - 1);
        let mut allowed = 0;
        // 300,000 sources at 100,000 requests per second. Each sends one request, and has its whole quota 100 ms later.
        for source in 0..300_000 {
            clock.advance(Duration::from_micros(10));
            assert!(is_allowed(&limiter, source), "a new source is allowed");
            // 10 requests per second
            assert!(source % 10_000 != 0 || is_allowed(&limiter, honest));
            // 1,000 requests per second
            allowed += u32::from(source % 100 == 0 && is_allowed(&limiter, greedy));
        }
        // The burst, plus the rate for three seconds: the greedy client is not forgotten, although the flood has more
        // keys than the table holds.
        assert!((20..=50).contains(&allowed), "{allowed}");
    }

    proptest! {
        #[test]
        fn late_refunds_never_grant_more_than_the_burst(
            steps in proptest::collection::vec((0..2u128, any::<bool>(), 0..300u64), 1..200),
            rate in 1..50u32,
            burst in 1..10u32,
        ) {
            let (limiter, clock) = limiter(Quota::per_second(rate).burst(burst), 1);
            let mut charged = [0; 2];
            for (key, is_refund, advance) in steps {
                clock.advance(Duration::from_millis(advance));
                let in_flight = &mut charged[key as usize];
                if is_refund && *in_flight > 0 {
                    *in_flight -= 1;
                    limiter.refund(limiter.fingerprint(&key), NonZeroU32::MIN);
                } else if is_allowed(&limiter, key) {
                    *in_flight += 1;
                }
            }
            for key in 0..3 {
                let at_once = (0..=burst).filter(|_| is_allowed(&limiter, key)).count();
                prop_assert!(at_once <= burst as usize, "{at_once}");
                prop_assert!(key < 2 || at_once == burst as usize, "another key is unaffected");
            }
        }

        #[test]
        fn makes_the_same_decisions_as_governor(
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
                    Err(until) => Decision::Rejected { retry_after: until.wait_time_from(clock.now()) },
                };
                prop_assert_eq!(check(&ours, key), expected);
            }
        }
    }
}
