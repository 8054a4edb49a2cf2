//! The header fields of draft-ietf-httpapi-ratelimit-headers-11, and `Retry-After`.

use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};

use crate::decision::RateLimitDecision;
use crate::quota::Quota;

/// Says what a policy is, and how much of it is left.
#[derive(Clone, Debug)]
pub(crate) struct Fields {
    /// `"default";q=200;w=2`: the same on every response.
    policy: HeaderValue,
    /// `"default";r=`: how each service limit begins.
    limit: Box<[u8]>,
    interval: Duration,
}

impl Fields {
    pub(crate) fn new(quota: Quota, name: &PolicyName) -> Self {
        let (name, burst, interval) = (&name.0, quota.burst_size().get(), quota.interval());
        // `q` in `w` is never more than the rate. -11 §3.1.3: not zero
        let window = seconds(interval.saturating_mul(burst));
        let policy = format!("\"{name}\";q={burst};w={window}");
        Self {
            // A name has been looked at; the rest are digits.
            policy: HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("")),
            limit: format!("\"{name}\";r=").into_bytes().into(),
            interval,
        }
    }

    /// For a response to a request that was let in. Whoever spreads the `remaining` requests evenly over the
    /// effective window never sends faster than the rate. -11 §6: the ratio of the two is capped
    pub(crate) fn allowed(&self, remaining: u32, headers: &mut HeaderMap) {
        self.append(remaining, seconds(self.interval.saturating_mul(remaining.max(1))), headers);
    }

    pub(crate) fn retry_after(&self, wait: Duration, headers: &mut HeaderMap) {
        headers.insert(RETRY_AFTER, seconds(wait).into());
    }

    /// For a response to a request that was not.
    pub(crate) fn denied(&self, wait: Duration, headers: &mut HeaderMap) {
        // -11 §6: `Retry-After` is not before the end of the effective window
        let wait = seconds(wait);
        headers.insert(RETRY_AFTER, wait.into());
        self.append(0, wait, headers);
    }

    /// The same in the fields that were in use before: `X-RateLimit-Reset` is in seconds from now.
    pub(crate) fn legacy(&self, quota: Quota, decision: &RateLimitDecision, headers: &mut HeaderMap) {
        let burst = quota.burst_size().get();
        let (remaining, reset) = match *decision {
            RateLimitDecision::Allowed { remaining } => {
                (remaining, seconds(self.interval.saturating_mul(burst.saturating_sub(remaining))))
            }
            RateLimitDecision::Denied { retry_after } => (0, seconds(retry_after)),
            RateLimitDecision::Shadowed { .. }
            | RateLimitDecision::TooManyInFlight
            | RateLimitDecision::Uncounted
            | RateLimitDecision::StoreUnavailable
            | RateLimitDecision::Unkeyed(_) => return,
        };
        headers.insert(X_RATELIMIT_LIMIT, burst.into());
        headers.insert(X_RATELIMIT_REMAINING, remaining.into());
        headers.insert(X_RATELIMIT_RESET, reset.into());
    }

    fn append(&self, remaining: u32, window: u64, headers: &mut HeaderMap) {
        let mut line = Line::default();
        line.push(&self.limit);
        line.push_number(remaining.into());
        line.push(b";t=");
        line.push_number(window);
        // Both are lists (-11 §3, §4): what an application says of its own policies stays.
        headers.append(RATELIMIT_POLICY, self.policy.clone());
        if let Ok(limit) = HeaderValue::from_bytes(line.bytes()) {
            headers.append(RATELIMIT, limit);
        }
    }
}

/// What a quota is called in the header fields.
#[derive(Clone, Debug)]
pub(crate) struct PolicyName(Arc<str>);

impl PolicyName {
    pub(crate) fn new(name: &str) -> Result<Self, PolicyNameError> {
        // RFC 9651 §3.3.3: the rest would need escapes, or can't be said.
        let is_plain = |byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
        if (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(is_plain) {
            Ok(Self(name.into()))
        } else {
            Err(PolicyNameError { name: name.to_owned() })
        }
    }

    /// The name of a tier of IPv6 networks.
    pub(crate) fn of_tier(bits: u8) -> Self {
        Self(format!("ipv6/{bits}").into())
    }

    pub(crate) fn text(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl Default for PolicyName {
    fn default() -> Self {
        Self("default".into())
    }
}

/// A name that a policy can't have in the header fields.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad policy name {name:?}: not 1 to 64 printable ASCII characters other than quotes and backslashes")]
pub struct PolicyNameError {
    name: String,
}

/// Whole seconds, rounded up: who waits for so long never comes too early. At least one, as zero would say: now.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_add((duration.subsec_nanos() > 0).into()).max(1)
}

/// A field value in the making.
struct Line {
    bytes: [u8; CAPACITY],
    len: usize,
}

impl Line {
    fn push(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        self.bytes[self.len..end].copy_from_slice(bytes);
        self.len = end;
    }

    fn push_number(&mut self, mut number: u64) {
        let mut digits = [b'0'; MOST_DIGITS];
        let mut at = MOST_DIGITS - 1;
        while number > 9 {
            digits[at] += (number % 10) as u8;
            number /= 10;
            at -= 1;
        }
        digits[at] += number as u8;
        self.push(&digits[at..]);
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Default for Line {
    fn default() -> Self {
        Self { bytes: [0; CAPACITY], len: 0 }
    }
}

const X_RATELIMIT_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_RATELIMIT_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RATELIMIT_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const LONGEST_NAME: usize = 64;
const MOST_DIGITS: usize = 20;
// `"` name `";r=` number `;t=` number
const CAPACITY: usize = 1 + LONGEST_NAME + 4 + MOST_DIGITS + 3 + MOST_DIGITS;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(quota: Quota) -> Fields {
        Fields::new(quota, &PolicyName::default())
    }

    fn written(write: impl FnOnce(&mut HeaderMap)) -> [Option<String>; 3] {
        let mut headers = HeaderMap::new();
        write(&mut headers);
        ["ratelimit-policy", "ratelimit", "retry-after"]
            .map(|name| headers.get(name).map(|value| value.to_str().unwrap().to_owned()))
    }

    #[test]
    fn a_policy_is_the_burst_and_the_time_in_which_it_is_given_back() {
        for (quota, policy) in [
            (Quota::per_second(100).burst(200), "\"default\";q=200;w=2"),
            (Quota::per_second(100).burst(50), "\"default\";q=50;w=1"),
            (Quota::per_second(2).burst(5), "\"default\";q=5;w=3"),
            (Quota::per_minute(60), "\"default\";q=60;w=60"),
            (Quota::per_second(1).burst(u32::MAX), "\"default\";q=4294967295;w=4294967295"),
        ] {
            assert_eq!(fields(quota).policy, policy);
        }
    }

    #[test]
    fn a_limit_is_what_is_left_and_how_long_it_is_to_last() {
        let fields = fields(Quota::per_minute(60).burst(90));
        for (remaining, limit) in [(89, "r=89;t=89"), (1, "r=1;t=1"), (0, "r=0;t=1")] {
            let [policy, said, retry_after] = written(|headers| fields.allowed(remaining, headers));
            assert_eq!(policy.unwrap(), "\"default\";q=90;w=90");
            assert_eq!(said.unwrap(), format!("\"default\";{limit}"));
            assert_eq!(retry_after, None);
        }
    }

    #[test]
    fn retry_after_is_rounded_up_and_never_zero() {
        let fields = fields(Quota::per_second(1));
        for (wait, seconds) in [
            (Duration::ZERO, "1"),
            (Duration::from_nanos(1), "1"),
            (Duration::from_secs(1), "1"),
            (Duration::from_millis(1001), "2"),
            (Duration::from_secs(3600), "3600"),
        ] {
            let [_, limit, retry_after] = written(|headers| fields.denied(wait, headers));
            assert_eq!(limit.unwrap(), format!("\"default\";r=0;t={seconds}"));
            assert_eq!(retry_after.unwrap(), seconds);
        }
    }

    #[test]
    fn a_name_is_text_that_needs_no_escapes() {
        for name in ["default", "per client", &"x".repeat(64)] {
            assert!(PolicyName::new(name).is_ok(), "{name}");
        }
        for name in ["", "a\"b", "a\\b", "a\r\nb", "é", "\u{7f}", &"x".repeat(65)] {
            assert!(PolicyName::new(name).is_err(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn numbers_are_written_as_they_are(number: u64) {
            let mut line = Line::default();
            line.push_number(number);
            prop_assert_eq!(String::from_utf8_lossy(line.bytes()), number.to_string());
        }

        #[test]
        fn the_longest_name_and_numbers_fit(remaining: u32, interval: u64) {
            let name = PolicyName::new(&"x".repeat(LONGEST_NAME)).unwrap();
            let quota = Quota::per_second(1).burst(u32::MAX);
            let fields = Fields { interval: Duration::from_secs(interval), ..Fields::new(quota, &name) };
            prop_assert!(written(|headers| fields.allowed(remaining, headers))[1].is_some());
        }
    }
}
