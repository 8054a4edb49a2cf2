//! How many requests in how much time.

use std::num::NonZeroU32;
use std::time::Duration;

/// A rate, and how many requests may come at once.
///
/// The bucket holds [`burst`](Self::burst) requests and fills evenly: `per_second(100)` gives one back
/// every 10 ms, not a hundred at the turn of the second.
///
/// ```
/// use rproxy_rate_limit::Quota;
///
/// const API: Quota = Quota::per_second(100).burst(200);
/// # assert_eq!(API.burst_size().get(), 200);
/// ```
///
/// The constructors that take plain numbers panic on zero, in a constant when it is compiled. Numbers
/// that come from outside go through [`Quota::new`] and [`Quota::try_burst`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Quota {
    inner: governor::Quota,
}

impl Quota {
    /// So many requests per second, and as many at once.
    ///
    /// # Panics
    ///
    /// If `requests` is zero.
    pub const fn per_second(requests: u32) -> Self {
        Self { inner: governor::Quota::per_second(not_zero(requests)) }
    }

    /// So many requests per minute, and as many at once.
    ///
    /// # Panics
    ///
    /// If `requests` is zero.
    pub const fn per_minute(requests: u32) -> Self {
        Self { inner: governor::Quota::per_minute(not_zero(requests)) }
    }

    /// So many requests per hour, and as many at once.
    ///
    /// # Panics
    ///
    /// If `requests` is zero.
    pub const fn per_hour(requests: u32) -> Self {
        Self { inner: governor::Quota::per_hour(not_zero(requests)) }
    }

    /// So many requests per `period`, and as many at once.
    ///
    /// # Errors
    ///
    /// If either is zero, or `period` is longer than a century.
    pub fn new(requests: u32, period: Duration) -> Result<Self, QuotaError> {
        let burst = NonZeroU32::new(requests).ok_or(QuotaError::NoRequests)?;
        // A nanosecond is the finest step that there is.
        let interval = (period / requests).max(Duration::from_nanos(u64::from(!period.is_zero())));
        let inner = governor::Quota::with_period(interval).ok_or(QuotaError::NoPeriod)?;
        Self { inner }.with_burst(burst)
    }

    /// So many requests at once; the rate stays.
    ///
    /// # Panics
    ///
    /// If `requests` is zero, or so large that they would be given back in more than a century: more
    /// than 876,000 at one per hour. At one per second and above, any number is fine.
    pub const fn burst(self, requests: u32) -> Self {
        match self.with_burst(not_zero(requests)) {
            Ok(quota) => quota,
            Err(_) => panic!("the burst of a quota is given back in more than a century"),
        }
    }

    /// So many requests at once; the rate stays.
    ///
    /// # Errors
    ///
    /// Where [`burst`](Self::burst) panics.
    pub fn try_burst(self, requests: u32) -> Result<Self, QuotaError> {
        self.with_burst(NonZeroU32::new(requests).ok_or(QuotaError::NoRequests)?)
    }

    const fn with_burst(self, requests: NonZeroU32) -> Result<Self, QuotaError> {
        let inner = self.inner.allow_burst(requests);
        // The limiter counts nanoseconds in 64 bits.
        if inner.replenish_interval().as_nanos().saturating_mul(requests.get() as u128) > LONGEST.as_nanos() {
            return Err(QuotaError::TooLong);
        }
        Ok(Self { inner })
    }

    /// How many requests may come at once.
    pub const fn burst_size(&self) -> NonZeroU32 {
        self.inner.burst_size()
    }

    /// The time in which one request is given back.
    pub fn interval(&self) -> Duration {
        self.inner.replenish_interval().max(Duration::from_nanos(1))
    }

    pub(crate) fn governor(self) -> governor::Quota {
        self.inner
    }
}

/// A quota that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuotaError {
    /// No request at all would pass.
    #[error("a quota of no requests")]
    NoRequests,
    /// A rate in no time is no rate.
    #[error("a quota in no time")]
    NoPeriod,
    /// The whole burst is given back in more than a century.
    #[error("a quota that is given back in more than a century")]
    TooLong,
}

// Room for the largest burst at one per second: 136 years.
const LONGEST: Duration = Duration::from_secs(1 << 32);

const fn not_zero(requests: u32) -> NonZeroU32 {
    match NonZeroU32::new(requests) {
        Some(requests) => requests,
        None => panic!("a quota of no requests"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_also_its_burst_until_told_otherwise() {
        for (quota, burst, interval) in [
            (Quota::per_second(100), 100, Duration::from_millis(10)),
            (Quota::per_second(100).burst(200), 200, Duration::from_millis(10)),
            (Quota::per_minute(6), 6, Duration::from_secs(10)),
            (Quota::per_hour(1).burst(5), 5, Duration::from_secs(3600)),
            (Quota::new(3, Duration::from_secs(30)).unwrap(), 3, Duration::from_secs(10)),
            (Quota::new(5, Duration::from_nanos(1)).unwrap(), 5, Duration::from_nanos(1)),
            (Quota::per_second(u32::MAX), u32::MAX, Duration::from_nanos(1)),
            (Quota::per_second(1).burst(u32::MAX), u32::MAX, Duration::from_secs(1)),
        ] {
            assert_eq!((quota.burst_size().get(), quota.interval()), (burst, interval), "{quota:?}");
        }
    }

    #[test]
    fn numbers_that_make_no_quota_are_refused() {
        let second = Duration::from_secs(1);
        for (quota, error) in [
            (Quota::new(0, second), QuotaError::NoRequests),
            (Quota::new(1, Duration::ZERO), QuotaError::NoPeriod),
            (Quota::new(1, Duration::MAX), QuotaError::TooLong),
            (Quota::per_second(1).try_burst(0), QuotaError::NoRequests),
            (Quota::per_hour(1).try_burst(u32::MAX), QuotaError::TooLong),
        ] {
            assert_eq!(quota, Err(error));
        }
    }

    #[test]
    #[should_panic(expected = "a quota of no requests")]
    fn zero_in_the_source_is_a_mistake_in_the_source() {
        let _ = Quota::per_second(0);
    }
}
