//! The script that counts, and what goes into it and comes out.

use std::sync::LazyLock;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Cmd, ErrorKind, RedisResult, Script, ServerErrorKind, cmd};
use sha2::{Digest, Sha256};

use crate::store::{Charge, Left, StoreError};

/// One request, put into the words of the script.
pub(super) struct Evaluation {
    keys: Vec<Vec<u8>>,
    /// For each key the interval in microseconds, the burst, and the cost.
    charges: Vec<(String, u32, u32)>,
}

impl Evaluation {
    pub(super) fn new(prefix: &str, charges: &[Charge]) -> Self {
        Self {
            keys: charges.iter().map(|charge| key(prefix, charge)).collect(),
            charges: charges
                .iter()
                .map(|charge| {
                    let nanos = charge.quota.interval().as_nanos();
                    let interval = format!("{}.{:03}", nanos / 1000, nanos % 1000);
                    (interval, charge.quota.burst_size().get(), charge.cost.get())
                })
                .collect(),
        }
    }

    /// One round trip; another one where the server does not know the script yet.
    pub(super) async fn run(&self, connection: &mut MultiplexedConnection) -> RedisResult<Vec<i64>> {
        match self.command("EVALSHA", SCRIPT.get_hash()).query_async(connection).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.command("EVAL", SOURCE).query_async(connection).await
            }
            answer => answer,
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

/// What the script says.
pub(super) fn left(answer: &[i64]) -> Result<Vec<Left>, StoreError> {
    let left = answer.chunks(2).map(|pair| match *pair {
        [1, remaining] => u32::try_from(remaining).ok().map(Left::Remaining),
        [0, wait] => u64::try_from(wait).ok().map(|wait| Left::Nothing { retry_after: Duration::from_micros(wait) }),
        _ => None,
    });
    left.collect::<Option<_>>().ok_or_else(|| StoreError::Failed("an answer that the script does not give".into()))
}

/// Of the key itself a hash: it may be somebody's token, and as long as a client likes.
fn key(prefix: &str, charge: &Charge) -> Vec<u8> {
    let mut key = Vec::with_capacity(prefix.len() + charge.policy.len() + HASH + 2);
    for part in [prefix, &charge.policy] {
        key.extend_from_slice(part.as_bytes());
        key.push(b':');
    }
    key.extend(Sha256::digest(&charge.key).into_iter().take(HASH));
    key
}

const SOURCE: &str = include_str!("gcra.lua");
static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(SOURCE));
// 128 bits: nobody finds another key with the same.
const HASH: usize = 16;

#[cfg(test)]
#[allow(dead_code, reason = "it is there for other tests, too")]
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
    use crate::fields::PolicyName;
    use crate::limiter::{Limiter, Plan};
    use crate::policies::check_all;
    use crate::quota::Quota;
    use crate::time::Time;

    /// A request for one of a few keys of two policies: the microseconds since the one before, the keys, the cost.
    type Request = (u32, u8, u8, u32);

    #[test]
    fn it_decides_as_this_process_does() {
        let Some(server) = server::Server::start() else { return };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let connection =
            runtime.block_on(::redis::Client::open(server.url()).unwrap().get_multiplexed_async_connection()).unwrap();
        // Whole microseconds, as the server's clock.
        let quota = (proptest::sample::select(vec![1, 5, 8, 100, 1000, 4000]), 1..10u32);
        let requests = proptest::collection::vec((0..400_000u32, 0..3u8, 0..2u8, 1..4u32), 1..60);
        let case = Cell::new(0);
        TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(100) })
            .run(&(quota.clone(), quota, requests), |(one, other, requests)| {
                case.set(case.get() + 1);
                let quotas = [one, other].map(|(rate, burst)| Quota::per_second(rate).burst(burst));
                runtime.block_on(compare(connection.clone(), &format!("case {}", case.get()), quotas, &requests))
            })
            .unwrap();
    }

    async fn compare(
        mut connection: MultiplexedConnection,
        prefix: &str,
        quotas: [Quota; 2],
        requests: &[Request],
    ) -> Result<(), TestCaseError> {
        // With a clock that the test holds.
        let timed = SOURCE.replace("redis.call('TIME')", "{ ARGV[#ARGV - 1], ARGV[#ARGV] }");
        // The server's own clock goes on, and would forget what by the test's is still to be known.
        let source = timed.replace(", 'PX', math.ceil((arrival - now) / 1000) + 1", "");
        prop_assert!(timed != SOURCE && source != timed);
        let clock = FakeRelativeClock::default();
        let limiters =
            ["one", "other"].map(|name| PolicyName::new(name).unwrap()).into_iter().zip(quotas).map(|(name, quota)| {
                let time = Time::given(clock.clone());
                Arc::new(Limiter::new(Plan { quota, name, keys: 1, time, jitter: Duration::ZERO, legacy: false }))
            });
        let limiters: Vec<_> = limiters.collect();
        let mut now = 1_700_000_000_000_000_u64;
        for (after, one, other, cost) in requests {
            clock.advance(Duration::from_micros((*after).into()));
            now += u64::from(*after);
            let cost = NonZeroU32::new(*cost).unwrap();
            let keyed = || limiters.iter().zip([*one, *other]);
            let counted = keyed().map(|(limiter, key)| (Arc::clone(limiter), limiter.fingerprint(&key)));
            let here = check_all(counted.collect(), cost).unwrap();
            let here: Vec<_> = here.each.unwrap().iter().map(|(_, decision)| *decision).collect();

            let charges: Vec<_> = keyed().map(|(limiter, key)| limiter.charge(&key, cost)).collect();
            let mut command = Evaluation::new(prefix, &charges).command("EVAL", &source);
            command.arg(now / 1_000_000).arg(now % 1_000_000);
            let answer: Vec<i64> = command.query_async(&mut connection).await.unwrap();
            let there: Vec<_> = left(&answer)
                .unwrap()
                .into_iter()
                .map(|left| match left {
                    Left::Remaining(remaining) => Decision::Allowed { remaining },
                    Left::Nothing { retry_after } => Decision::Denied { retry_after },
                })
                .collect();
            prop_assert_eq!(here, there);
        }
        Ok(())
    }

    #[test]
    fn of_a_key_there_is_a_hash_however_long_it_is() {
        let charge = |policy: &str, key: &[u8]| Charge {
            policy: policy.into(),
            key: key.into(),
            quota: Quota::per_second(1),
            cost: NonZeroU32::MIN,
        };
        let of = |bytes: &[u8]| key("rproxy", &charge("api", bytes));
        assert!(of(b"secret").starts_with(b"rproxy:api:"));
        for bytes in [&b"secret"[..], &[b'x'; 60_000]] {
            assert_eq!(of(bytes).len(), "rproxy:api:".len() + 16);
            assert!(!of(bytes).windows(6).any(|part| part == b"secret"));
        }
        assert_ne!(of(&[b'x'; 60_000]), of(&[b'x'; 60_001]));
        assert_ne!(of(b"secret"), key("rproxy", &charge("login", b"secret")));
    }
}
