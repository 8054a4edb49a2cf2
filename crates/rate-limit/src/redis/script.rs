//! Redis scripts that charge and refund quotas, with their arguments and replies.

use std::sync::LazyLock;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Cmd, ErrorKind, RedisResult, Script, ServerErrorKind, cmd};
use sha2::{Digest, Sha256};

use crate::store::{Charge, ChargeOutcome, StoreError};

/// A call of a Redis script for one request.
pub(super) struct ScriptCall {
    script: &'static LazyLock<Script>,
    source: &'static str,
    keys: Vec<Vec<u8>>,
    /// The interval in microseconds, the burst and the cost for each key of the request.
    charges: Vec<(String, u32, u32)>,
}

impl ScriptCall {
    /// Returns the script call that charges the request.
    pub(super) fn charge(prefix: &str, charges: &[Charge]) -> Self {
        Self::new(&CHARGE, CHARGE_SOURCE, prefix, charges)
    }

    /// Returns the script call that reverts the charges of the request. Its reply is empty.
    pub(super) fn refund(prefix: &str, charges: &[Charge]) -> Self {
        Self::new(&REFUND, REFUND_SOURCE, prefix, charges)
    }

    fn new(script: &'static LazyLock<Script>, source: &'static str, prefix: &str, charges: &[Charge]) -> Self {
        Self {
            script,
            source,
            keys: charges.iter().map(|charge| redis_key(prefix, charge)).collect(),
            charges: charges
                .iter()
                .map(|charge| {
                    let nanos = charge.quota.replenish_interval().as_nanos();
                    let interval = format!("{}.{:03}", nanos / 1000, nanos % 1000);
                    (interval, charge.quota.burst_size().get(), charge.cost.get())
                })
                .collect(),
        }
    }

    /// Runs the script in one round trip, or in two if the server has not cached the script.
    pub(super) async fn run(&self, connection: &mut MultiplexedConnection) -> RedisResult<Vec<i64>> {
        match self.command("EVALSHA", self.script.get_hash()).query_async(connection).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.command("EVAL", self.source).query_async(connection).await
            }
            result => result,
        }
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let mut command = cmd(name);
        command.arg(script).arg(self.keys.len());
        for key in &self.keys {
            command.arg(key);
        }
        for (interval, burst, cost) in &self.charges {
            command.arg(interval).arg(burst).arg(cost);
        }
        command
    }
}

/// Parses the reply of the script into one outcome per key.
pub(super) fn outcomes(reply: &[i64]) -> Result<Vec<ChargeOutcome>, StoreError> {
    let outcomes = reply.chunks(2).map(|pair| match *pair {
        [1, remaining] => Some(ChargeOutcome::Allowed { remaining: u32::try_from(remaining).ok()? }),
        [0, wait] => Some(ChargeOutcome::Rejected { retry_after: Duration::from_micros(u64::try_from(wait).ok()?) }),
        _ => None,
    });
    outcomes
        .collect::<Option<_>>()
        .ok_or_else(|| StoreError::Failed("unexpected reply from the rate limit script".into()))
}

/// Returns the Redis key for the state of a rate limit key.
///
/// It contains a hash of the charge's key, which may be a token of any length.
fn redis_key(prefix: &str, charge: &Charge) -> Vec<u8> {
    let mut key = Vec::with_capacity(prefix.len() + charge.policy.len() + HASH_LEN + 2);
    for part in [prefix, &charge.policy] {
        key.extend_from_slice(part.as_bytes());
        key.push(b':');
    }
    key.extend(Sha256::digest(&charge.key).into_iter().take(HASH_LEN));
    key
}

const CHARGE_SOURCE: &str = include_str!("gcra.lua");
const REFUND_SOURCE: &str = include_str!("refund.lua");
static CHARGE: LazyLock<Script> = LazyLock::new(|| Script::new(CHARGE_SOURCE));
static REFUND: LazyLock<Script> = LazyLock::new(|| Script::new(REFUND_SOURCE));
// 128 bits make collisions infeasible to find.
const HASH_LEN: usize = 16;

#[cfg(test)]
#[allow(dead_code, reason = "each test binary uses only some of the helpers")]
#[path = "../../tests/support/redis.rs"]
mod server;

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::num::NonZeroU32;
    use std::sync::Arc;

    use governor::clock::FakeRelativeClock;
    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};

    use super::*;
    use crate::decision::RateLimitDecision as Decision;
    use crate::header_fields::PolicyName;
    use crate::limiter::{Limiter, LimiterConfig};
    use crate::policies::check_all;
    use crate::quota::Quota;
    use crate::time::Time;

    /// A request under two policies: the time since the previous request, two keys, the cost, and whether to refund.
    type Request = (u32, u8, u8, u32, bool);

    #[test]
    fn redis_script_makes_the_same_decisions_as_the_in_memory_limiter() {
        let Some(server) = server::Server::start() else { return };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let connection =
            runtime.block_on(::redis::Client::open(server.url()).unwrap().get_multiplexed_async_connection()).unwrap();
        // Rates whose interval is a whole number of microseconds, the resolution of the server's clock.
        let quota = (proptest::sample::select(vec![1, 5, 8, 100, 1000, 4000]), 1..10u32);
        let requests = proptest::collection::vec((0..400_000u32, 0..3u8, 0..2u8, 1..4u32, any::<bool>()), 1..60);
        let case = Cell::new(0);
        TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(100) })
            .run(&(quota.clone(), quota, requests), |(one, other, requests)| {
                case.set(case.get() + 1);
                let quotas = [one, other].map(|(rate, burst)| Quota::per_second(rate).burst(burst));
                runtime.block_on(compare(connection.clone(), &format!("case {}", case.get()), quotas, &requests))
            })
            .unwrap();
    }

    /// Returns the script with a clock that the test controls.
    fn with_test_clock(source: &str) -> String {
        let timed = source.replace("redis.call('TIME')", "{ ARGV[#ARGV - 1], ARGV[#ARGV] }");
        // Keys must not expire, because expiry follows the server's own clock.
        let controlled = timed.replace(", 'PX', math.ceil((arrival - now) / 1000) + 1", "");
        assert!(timed != source && controlled != timed);
        controlled
    }

    async fn compare(
        mut connection: MultiplexedConnection,
        prefix: &str,
        quotas: [Quota; 2],
        requests: &[Request],
    ) -> Result<(), TestCaseError> {
        let [charge, refund] = [CHARGE_SOURCE, REFUND_SOURCE].map(with_test_clock);
        let clock = FakeRelativeClock::default();
        let limiters =
            ["one", "other"].map(|name| PolicyName::new(name).unwrap()).into_iter().zip(quotas).map(|(name, quota)| {
                let time = Time::custom(clock.clone());
                let jitter = Duration::ZERO;
                Arc::new(Limiter::new(LimiterConfig { quota, name, max_keys: 1, time, jitter, legacy_fields: false }))
            });
        let limiters: Vec<_> = limiters.collect();
        let mut now = 1_700_000_000_000_000_u64;
        for (elapsed, one, other, cost, is_refunded) in requests {
            clock.advance(Duration::from_micros((*elapsed).into()));
            now += u64::from(*elapsed);
            let cost = NonZeroU32::new(*cost).unwrap();
            let keys = || limiters.iter().zip([*one, *other]);
            let fingerprints = keys().map(|(limiter, key)| (Arc::clone(limiter), limiter.fingerprint(&key)));
            let in_memory = check_all(fingerprints.collect(), cost, None).unwrap();
            let in_memory: Vec<_> = in_memory.each_policy.unwrap().iter().map(|(_, decision)| *decision).collect();

            let charges: Vec<_> = keys().map(|(limiter, key)| limiter.charge(&key, cost)).collect();
            let mut command = ScriptCall::charge(prefix, &charges).command("EVAL", &charge);
            command.arg(now / 1_000_000).arg(now % 1_000_000);
            let reply: Vec<i64> = command.query_async(&mut connection).await.unwrap();
            let in_redis: Vec<_> = outcomes(&reply)
                .unwrap()
                .into_iter()
                .map(|outcome| match outcome {
                    ChargeOutcome::Allowed { remaining } => Decision::Allowed { remaining },
                    ChargeOutcome::Rejected { retry_after } => Decision::Rejected { retry_after },
                })
                .collect();
            prop_assert_eq!(&in_memory, &in_redis);

            if *is_refunded && !in_memory.iter().any(Decision::is_rejection) {
                keys().for_each(|(limiter, key)| limiter.refund(limiter.fingerprint(&key), cost));
                let mut command = ScriptCall::refund(prefix, &charges).command("EVAL", &refund);
                command.arg(now / 1_000_000).arg(now % 1_000_000);
                let reply: Vec<i64> = command.query_async(&mut connection).await.unwrap();
                prop_assert!(reply.is_empty());
            }
        }
        Ok(())
    }

    #[test]
    fn redis_key_is_a_hash_of_fixed_length() {
        let charge = |policy: &str, key: &[u8]| Charge {
            policy: policy.into(),
            key: key.into(),
            quota: Quota::per_second(1),
            cost: NonZeroU32::MIN,
        };
        let redis_key_of = |bytes: &[u8]| redis_key("rproxy", &charge("api", bytes));
        assert!(redis_key_of(b"secret").starts_with(b"rproxy:api:"));
        for bytes in [&b"secret"[..], &[b'x'; 60_000]] {
            assert_eq!(redis_key_of(bytes).len(), "rproxy:api:".len() + 16);
            assert!(!redis_key_of(bytes).windows(6).any(|part| part == b"secret"));
        }
        assert_ne!(redis_key_of(&[b'x'; 60_000]), redis_key_of(&[b'x'; 60_001]));
        assert_ne!(redis_key_of(b"secret"), redis_key("rproxy", &charge("login", b"secret")));
    }
}
