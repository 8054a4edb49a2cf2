//! The `RateLimit` header fields (draft-ietf-httpapi-ratelimit-headers-11) and `Retry-After`.

use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};

use crate::decision::RateLimitDecision;
use crate::quota::Quota;

/// The header fields of one policy: its quota and the remaining quota of the key.
#[derive(Clone, Debug)]
pub(crate) struct HeaderFields {
    /// The value of `RateLimit-Policy`, such as `"default";q=200;w=2`.
    policy: HeaderValue,
    /// The constant start of the `RateLimit` value, such as `"default";r=`.
    limit_prefix: Box<[u8]>,
    interval: Duration,
}

impl HeaderFields {
    pub(crate) fn new(quota: Quota, name: &PolicyName) -> Self {
        let (name, burst, interval) = (&name.0, quota.burst_size().get(), quota.replenish_interval());
        // `q` requests in `w` seconds never exceed the rate. Draft §3.1.3: `w` must not be zero.
        let window = whole_seconds(interval.saturating_mul(burst));
        let policy = format!("\"{name}\";q={burst};w={window}");
        Self {
            // Always valid: the name was validated, and the rest is ASCII.
            policy: HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("")),
            limit_prefix: format!("\"{name}\";r=").into_bytes().into(),
            interval,
        }
    }

    /// Writes the rate limit header fields for an allowed request.
    ///
    /// A client that spreads the `remaining` requests evenly over the effective window (`t`) stays below the rate, which
    /// draft §6 asks for.
    pub(crate) fn write_allowed(&self, remaining: u32, headers: &mut HeaderMap) {
        self.append(remaining, whole_seconds(self.interval.saturating_mul(remaining.max(1))), headers);
    }

    /// Writes the rate limit header fields for a rejected request.
    pub(crate) fn write_rejected(&self, wait: Duration, headers: &mut HeaderMap) {
        // Draft §6: `Retry-After` must not end before the effective window does.
        let wait = whole_seconds(wait);
        headers.insert(RETRY_AFTER, wait.into());
        self.append(0, wait, headers);
    }

    pub(crate) fn write_retry_after(&self, wait: Duration, headers: &mut HeaderMap) {
        headers.insert(RETRY_AFTER, whole_seconds(wait).into());
    }

    /// Writes the `X-RateLimit-*` fields. `X-RateLimit-Reset` is in seconds from now.
    pub(crate) fn write_legacy(&self, quota: Quota, decision: &RateLimitDecision, headers: &mut HeaderMap) {
        let burst = quota.burst_size().get();
        let (remaining, reset) = match *decision {
            RateLimitDecision::Allowed { remaining } => {
                (remaining, whole_seconds(self.interval.saturating_mul(burst.saturating_sub(remaining))))
            }
            RateLimitDecision::Rejected { retry_after } => (0, whole_seconds(retry_after)),
            RateLimitDecision::WouldReject { .. }
            | RateLimitDecision::TooManyInFlight
            | RateLimitDecision::FailedOpen
            | RateLimitDecision::FailedClosed
            | RateLimitDecision::MissingKey(_) => return,
        };
        headers.insert(X_RATELIMIT_LIMIT, burst.into());
        headers.insert(X_RATELIMIT_REMAINING, remaining.into());
        headers.insert(X_RATELIMIT_RESET, reset.into());
    }

    fn append(&self, remaining: u32, window: u64, headers: &mut HeaderMap) {
        let mut limit = ValueBuffer::default();
        limit.push(&self.limit_prefix);
        limit.push(itoa::Buffer::new().format(remaining).as_bytes());
        limit.push(b";t=");
        limit.push(itoa::Buffer::new().format(window).as_bytes());
        // Both fields are lists (draft §3, §4): the values that the inner service set for its own policies stay.
        headers.append(RATELIMIT_POLICY, self.policy.clone());
        if let Ok(limit) = HeaderValue::from_bytes(limit.bytes()) {
            headers.append(RATELIMIT, limit);
        }
    }
}

/// The policy name in the rate limit header fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PolicyName(Arc<str>);

impl PolicyName {
    /// Validates a policy name: 1 to 64 printable ASCII characters except quotes and backslashes.
    pub(crate) fn new(name: &str) -> Option<Self> {
        // RFC 9651 §3.3.3: a string has no other characters, and quotes and backslashes would need escapes.
        let is_plain = |byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
        let is_valid = (1..=MAX_NAME_LEN).contains(&name.len()) && name.bytes().all(is_plain);
        is_valid.then(|| Self(name.into()))
    }

    pub(crate) fn of_ipv6_tier(prefix: u8) -> Self {
        Self(format!("ipv6/{prefix}").into())
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

/// Rounds a waiting time up to whole seconds, at least one, so that clients do not retry too early.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_add((duration.subsec_nanos() > 0).into()).max(1)
}

/// A buffer in which a field value is built without an allocation.
struct ValueBuffer {
    bytes: [u8; CAPACITY],
    len: usize,
}

impl ValueBuffer {
    fn push(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        self.bytes[self.len..end].copy_from_slice(bytes);
        self.len = end;
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Default for ValueBuffer {
    fn default() -> Self {
        Self { bytes: [0; CAPACITY], len: 0 }
    }
}

const X_RATELIMIT_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_RATELIMIT_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RATELIMIT_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const MAX_NAME_LEN: usize = 64;
const MAX_DIGITS: usize = 20;
// `"` name `";r=` number `;t=` number
const CAPACITY: usize = 1 + MAX_NAME_LEN + 4 + MAX_DIGITS + 3 + MAX_DIGITS;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(quota: Quota) -> HeaderFields {
        HeaderFields::new(quota, &PolicyName::default())
    }

    fn values(write: impl FnOnce(&mut HeaderMap)) -> [Option<String>; 3] {
        let mut headers = HeaderMap::new();
        write(&mut headers);
        ["ratelimit-policy", "ratelimit", "retry-after"]
            .map(|name| headers.get(name).map(|value| value.to_str().unwrap().to_owned()))
    }

    #[test]
    fn ratelimit_policy_field_contains_the_burst_and_the_replenish_time() {
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
    fn ratelimit_field_contains_remaining_requests_and_effective_window() {
        let fields = fields(Quota::per_minute(60).burst(90));
        for (remaining, limit) in [(89, "r=89;t=89"), (1, "r=1;t=1"), (0, "r=0;t=1")] {
            let [policy, actual, retry_after] = values(|headers| fields.write_allowed(remaining, headers));
            assert_eq!(policy.unwrap(), "\"default\";q=90;w=90");
            assert_eq!(actual.unwrap(), format!("\"default\";{limit}"));
            assert_eq!(retry_after, None);
        }
    }

    #[test]
    fn rounds_retry_after_up_to_whole_seconds_and_at_least_one() {
        let fields = fields(Quota::per_second(1));
        for (wait, seconds) in [
            (Duration::ZERO, "1"),
            (Duration::from_nanos(1), "1"),
            (Duration::from_secs(1), "1"),
            (Duration::from_millis(1001), "2"),
            (Duration::from_secs(3600), "3600"),
        ] {
            let [_, limit, retry_after] = values(|headers| fields.write_rejected(wait, headers));
            assert_eq!(limit.unwrap(), format!("\"default\";r=0;t={seconds}"));
            assert_eq!(retry_after.unwrap(), seconds);
        }
    }

    #[test]
    fn rejects_policy_names_that_need_escapes() {
        for name in ["default", "per client", &"x".repeat(64)] {
            assert!(PolicyName::new(name).is_some(), "{name}");
        }
        for name in ["", "a\"b", "a\\b", "a\r\nb", "é", "\u{7f}", &"x".repeat(65)] {
            assert!(PolicyName::new(name).is_none(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn buffer_fits_the_longest_ratelimit_field(remaining: u32, interval: u64) {
            let name = PolicyName::new(&"x".repeat(MAX_NAME_LEN)).unwrap();
            let quota = Quota::per_second(1).burst(u32::MAX);
            let fields = HeaderFields { interval: Duration::from_secs(interval), ..HeaderFields::new(quota, &name) };
            prop_assert!(values(|headers| fields.write_allowed(remaining, headers))[1].is_some());
        }
    }
}
