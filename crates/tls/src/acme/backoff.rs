use std::{
    str,
    time::{Duration, SystemTime},
};

use super::failure::FailureKind;
use crate::validity::{system_time, until};

/// The exponential back-off after failed certificate orders.
///
/// Rejected orders count against the rate limits of the ACME server. Their count is therefore stored, so that frequent
/// restarts do not shorten the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backoff {
    rejections: u32,
    transient_failures: u32,
    next: SystemTime,
}

impl Backoff {
    pub(crate) const NONE: Self = Self { rejections: 0, transient_failures: 0, next: SystemTime::UNIX_EPOCH };

    /// Returns the time at which the next order may be placed.
    pub(crate) fn next(&self) -> SystemTime {
        self.next
    }

    /// Returns the back-off after another failed order, with jitter from `random`.
    pub(crate) fn after(self, kind: FailureKind, now: SystemTime, random: u32) -> Self {
        let mut after = self;
        let (min, factor, max, count) = match kind {
            FailureKind::Rejected => (MIN_REJECTED, 4, MAX_REJECTED, &mut after.rejections),
            FailureKind::Transient => (MIN_TRANSIENT, 2, MAX_TRANSIENT, &mut after.transient_failures),
        };
        let delay = min.saturating_mul(u32::saturating_pow(factor, *count)).min(max);
        *count = count.saturating_add(1);
        // From 0.75 to 1.25.
        let jitter = 0.75 + f64::from(random) / f64::from(u32::MAX) / 2.0;
        after.next = now + delay.mul_f64(jitter);
        after
    }

    /// Allows the next order immediately, but keeps the failure counts that determine later delays.
    pub(crate) fn retry_now(self) -> Self {
        Self { next: SystemTime::UNIX_EPOCH, ..self }
    }

    pub(crate) fn to_text(self) -> String {
        let next = until(self.next, SystemTime::UNIX_EPOCH).as_secs();
        format!("{} {next}\n", self.rejections)
    }

    /// Parses a stored back-off, or returns `None` if the text is invalid.
    ///
    /// A time beyond the maximum delay stems from a wrong clock, and is limited to the maximum.
    pub(crate) fn from_text(text: &[u8], now: SystemTime) -> Option<Self> {
        let (rejections, next) = str::from_utf8(text).ok()?.trim().split_once(' ')?;
        let next = system_time(next.parse().ok()?).min(now + MAX_REJECTED.mul_f64(1.25));
        Some(Self { rejections: rejections.parse().ok()?, transient_failures: 0, next })
    }
}

/// The first delay after a rejected order.
///
/// With a factor of four, it allows five attempts in the first hour, the limit of Let's Encrypt for failed validations.
const MIN_REJECTED: Duration = Duration::from_secs(30);
/// The maximum delay after a rejected order.
///
/// It allows more than ten attempts between the renewal time and the expiry of a six-day certificate.
const MAX_REJECTED: Duration = Duration::from_secs(3 * 60 * 60);
const MIN_TRANSIENT: Duration = Duration::from_secs(2);
const MAX_TRANSIENT: Duration = Duration::from_secs(10 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    const MIDDLE: u32 = u32::MAX / 2;

    fn waits(kind: FailureKind, count: usize) -> Vec<u64> {
        let now = system_time(1_000_000);
        let mut backoff = Backoff::NONE;
        (0..count)
            .map(|_| {
                backoff = backoff.after(kind, now, MIDDLE);
                until(backoff.next(), now).as_secs_f64().round() as u64
            })
            .collect()
    }

    #[test]
    fn acme_back_off_is_longer_after_rejections_than_after_transient_failures() {
        assert_eq!(waits(FailureKind::Rejected, 8), [30, 120, 480, 1920, 7680, 10800, 10800, 10800]);
        assert_eq!(waits(FailureKind::Transient, 11), [2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]);
    }

    #[test]
    fn jitter_is_at_most_a_quarter_of_the_back_off_delay() {
        let now = system_time(1_000_000);
        for (random, expected) in [(0, 22_500), (MIDDLE, 30_000), (u32::MAX, 37_500)] {
            let next = Backoff::NONE.after(FailureKind::Rejected, now, random).next();
            let wait = until(next, now).as_secs_f64() * 1000.0;
            assert_eq!(wait.round() as u64, expected);
        }
    }

    #[test]
    fn maximum_failure_counts_do_not_overflow_the_back_off_delay() {
        let now = system_time(1_000_000);
        let many = Backoff { rejections: u32::MAX, transient_failures: u32::MAX, next: now };
        for kind in [FailureKind::Rejected, FailureKind::Transient] {
            let next = many.after(kind, now, u32::MAX).next();
            assert!(until(next, now) <= MAX_REJECTED * 2);
        }
    }

    #[test]
    fn immediate_retry_skips_the_delay_but_keeps_the_stored_failure_count() {
        let now = system_time(1_000_000);
        let backoff = Backoff::NONE.after(FailureKind::Rejected, now, 0).after(FailureKind::Rejected, now, 0);
        let restored = Backoff::from_text(backoff.to_text().as_bytes(), now).unwrap();
        assert_eq!(restored, backoff);
        assert!(restored.retry_now().next() < now);
        let after = restored.retry_now().after(FailureKind::Rejected, now, MIDDLE);
        assert_eq!(until(after.next(), now).as_secs_f64().round(), 480.0);
    }

    #[test]
    fn stored_back_off_rejects_invalid_text_and_limits_far_future_times() {
        let now = system_time(1_000_000);
        for text in ["", "1", "a b", "-1 5", "1 5 6", "99999999999 1", "1 "] {
            assert_eq!(Backoff::from_text(text.as_bytes(), now), None, "{text:?}");
        }
        assert_eq!(Backoff::from_text(&[0xff, 0xfe], now), None);
        let far = Backoff::from_text(b"1 99999999999", now).unwrap();
        assert!(until(far.next(), now) <= MAX_REJECTED * 2);
    }
}
