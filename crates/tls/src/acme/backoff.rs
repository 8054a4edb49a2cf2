use std::{
    str,
    time::{Duration, SystemTime},
};

use super::failure::Kind;
use crate::validity::{system_time, until};

/// When to order again after failures. Refusals count against the directory's limits, so their count is kept on the
/// disk: a process that is restarted over and over waits as long as one that is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backoff {
    refusals: u32,
    misses: u32,
    next: SystemTime,
}

impl Backoff {
    pub(crate) const NONE: Self = Self { refusals: 0, misses: 0, next: SystemTime::UNIX_EPOCH };

    pub(crate) fn next(&self) -> SystemTime {
        self.next
    }

    /// Counts a failure. `random` spreads those who failed together.
    pub(crate) fn after(self, kind: Kind, now: SystemTime, random: u32) -> Self {
        let mut after = self;
        let (first, factor, longest, count) = match kind {
            Kind::Refused => (FIRST_REFUSAL, 4, LONGEST_REFUSAL, &mut after.refusals),
            Kind::Unreachable => (FIRST_MISS, 2, LONGEST_MISS, &mut after.misses),
        };
        let delay = first.saturating_mul(u32::saturating_pow(factor, *count)).min(longest);
        *count = count.saturating_add(1);
        // A quarter less to a quarter more.
        let spread = 0.75 + f64::from(random) / f64::from(u32::MAX) / 2.0;
        after.next = now + delay.mul_f64(spread);
        after
    }

    /// Someone says that the reason is gone: the next attempt is now, but should it fail, the wait is no shorter.
    pub(crate) fn now(self) -> Self {
        Self { next: SystemTime::UNIX_EPOCH, ..self }
    }

    pub(crate) fn to_text(self) -> String {
        let next = until(self.next, SystemTime::UNIX_EPOCH).as_secs();
        format!("{} {next}\n", self.refusals)
    }

    /// A file that can't be read is one that is not there. A time further off than any wait is a clock that was wrong.
    pub(crate) fn from_text(text: &[u8], now: SystemTime) -> Option<Self> {
        let (refusals, next) = str::from_utf8(text).ok()?.trim().split_once(' ')?;
        let next = system_time(next.parse().ok()?);
        Some(Self { refusals: refusals.parse().ok()?, misses: 0, next: next.min(now + LONGEST_REFUSAL.mul_f64(1.25)) })
    }
}

/// With a factor of four, five attempts fall into the first hour: as many failed validations as Let's Encrypt allows.
const FIRST_REFUSAL: Duration = Duration::from_secs(30);
/// Leaves a six-day certificate more than ten attempts between its renewal and its end.
const LONGEST_REFUSAL: Duration = Duration::from_secs(3 * 60 * 60);
const FIRST_MISS: Duration = Duration::from_secs(2);
const LONGEST_MISS: Duration = Duration::from_secs(10 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    const MIDDLE: u32 = u32::MAX / 2;

    fn waits(kind: Kind, count: usize) -> Vec<u64> {
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
    fn refusals_wait_long_and_an_unreachable_directory_is_asked_again_soon() {
        assert_eq!(waits(Kind::Refused, 8), [30, 120, 480, 1920, 7680, 10800, 10800, 10800]);
        assert_eq!(waits(Kind::Unreachable, 11), [2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]);
    }

    #[test]
    fn waits_are_spread_by_a_quarter_to_either_side() {
        let now = system_time(1_000_000);
        for (random, expected) in [(0, 22_500), (MIDDLE, 30_000), (u32::MAX, 37_500)] {
            let next = Backoff::NONE.after(Kind::Refused, now, random).next();
            let wait = until(next, now).as_secs_f64() * 1000.0;
            assert_eq!(wait.round() as u64, expected);
        }
    }

    #[test]
    fn no_number_of_failures_overflows() {
        let now = system_time(1_000_000);
        let many = Backoff { refusals: u32::MAX, misses: u32::MAX, next: now };
        for kind in [Kind::Refused, Kind::Unreachable] {
            let next = many.after(kind, now, u32::MAX).next();
            assert!(until(next, now) <= LONGEST_REFUSAL * 2);
        }
    }

    #[test]
    fn a_restart_waits_as_long_and_a_request_to_try_now_does_not() {
        let now = system_time(1_000_000);
        let backoff = Backoff::NONE.after(Kind::Refused, now, 0).after(Kind::Refused, now, 0);
        let restored = Backoff::from_text(backoff.to_text().as_bytes(), now).unwrap();
        assert_eq!(restored, backoff);
        assert!(restored.now().next() < now);
        let after = restored.now().after(Kind::Refused, now, MIDDLE);
        assert_eq!(until(after.next(), now).as_secs_f64().round(), 480.0);
    }

    #[test]
    fn a_scribbled_file_is_no_reason_to_wait_and_a_far_future_is_cut_short() {
        let now = system_time(1_000_000);
        for text in ["", "1", "a b", "-1 5", "1 5 6", "99999999999 1", "1 "] {
            assert_eq!(Backoff::from_text(text.as_bytes(), now), None, "{text:?}");
        }
        assert_eq!(Backoff::from_text(&[0xff, 0xfe], now), None);
        let far = Backoff::from_text(b"1 99999999999", now).unwrap();
        assert!(until(far.next(), now) <= LONGEST_REFUSAL * 2);
    }
}
