//! A quota: a sustained rate and a burst.

use std::num::NonZeroU32;
use std::time::Duration;

/// A rate limit: the sustained rate, and the number of requests that may arrive at once (burst).
///
/// The quota of a key works as a bucket of [`burst`](Self::burst) requests that refills evenly: `per_second(100)` adds one
/// request every 10 ms rather than 100 at the start of each second.
///
/// # Examples
///
/// ```
/// use rproxy_rate_limit::Quota;
///
/// const API: Quota = Quota::per_second(100).burst(200);
/// # assert_eq!(API.burst_size().get(), 200);
/// ```
///
/// # Panics
///
/// The constructors for literals panic if the number is zero; in a constant, that is a compile error. Use [`Quota::new`]
/// and [`Quota::try_burst`] for numbers from configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Quota {
    inner: governor::Quota,
}

impl Quota {
    /// Creates a quota of `requests` per second, with a burst of the same number.
    ///
    /// # Panics
    ///
    /// Panics if `requests` is zero.
    pub const fn per_second(requests: u32) -> Self {
        Self { inner: governor::Quota::per_second(non_zero(requests)) }
    }

    /// Creates a quota of `requests` per minute, with a burst of the same number.
    ///
    /// # Panics
    ///
    /// Panics if `requests` is zero.
    pub const fn per_minute(requests: u32) -> Self {
        Self { inner: governor::Quota::per_minute(non_zero(requests)) }
    }

    /// Creates a quota of `requests` per hour, with a burst of the same number.
    ///
    /// # Panics
    ///
    /// Panics if `requests` is zero.
    pub const fn per_hour(requests: u32) -> Self {
        Self { inner: governor::Quota::per_hour(non_zero(requests)) }
    }

    /// Creates a quota of `requests` per `period`, with a burst of the same number.
    ///
    /// # Errors
    ///
    /// Returns an error if `requests` or `period` is zero, or if `period` is longer than a century.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use rproxy_rate_limit::{Quota, QuotaError};
    ///
    /// let quota = Quota::new(30, Duration::from_secs(10))?;
    /// assert_eq!(quota.burst_size().get(), 30);
    /// assert_eq!(Quota::new(0, Duration::from_secs(10)), Err(QuotaError::ZeroRequests));
    /// # Ok::<(), QuotaError>(())
    /// ```
    pub fn new(requests: u32, period: Duration) -> Result<Self, QuotaError> {
        let burst = NonZeroU32::new(requests).ok_or(QuotaError::ZeroRequests)?;
        // The limiter counts whole nanoseconds, so a faster rate becomes one request per nanosecond.
        let interval = (period / requests).max(Duration::from_nanos(u64::from(!period.is_zero())));
        let inner = governor::Quota::with_period(interval).ok_or(QuotaError::ZeroPeriod)?;
        Self { inner }.with_burst(burst)
    }

    /// Sets the burst: the number of requests that may arrive at once. The rate does not change.
    ///
    /// # Panics
    ///
    /// Panics if `requests` is zero, or if the burst takes longer than a century to replenish. The latter cannot happen at
    /// one request per second or more; at one per hour it happens above 876,000 requests.
    pub const fn burst(self, requests: u32) -> Self {
        match self.with_burst(non_zero(requests)) {
            Ok(quota) => quota,
            Err(_) => panic!("the burst of a quota takes longer than a century to replenish"),
        }
    }

    /// Sets the burst, or returns an error if `requests` is invalid.
    ///
    /// Use it for numbers from configuration, which may be invalid.
    ///
    /// # Errors
    ///
    /// Returns an error if `requests` is zero, or if the burst takes longer than a century to replenish.
    pub fn try_burst(self, requests: u32) -> Result<Self, QuotaError> {
        self.with_burst(NonZeroU32::new(requests).ok_or(QuotaError::ZeroRequests)?)
    }

    const fn with_burst(self, requests: NonZeroU32) -> Result<Self, QuotaError> {
        let inner = self.inner.allow_burst(requests);
        // The limiter counts nanoseconds in 64 bits.
        if inner.replenish_interval().as_nanos().saturating_mul(requests.get() as u128) > MAX_REPLENISH_TIME.as_nanos()
        {
            return Err(QuotaError::TooSlow);
        }
        Ok(Self { inner })
    }

    /// Returns the burst: the number of requests that may arrive at once.
    pub const fn burst_size(&self) -> NonZeroU32 {
        self.inner.burst_size()
    }

    /// Returns the time in which the quota is replenished by one request.
    pub fn replenish_interval(&self) -> Duration {
        self.inner.replenish_interval().max(Duration::from_nanos(1))
    }

    pub(crate) fn governor(self) -> governor::Quota {
        self.inner
    }
}

/// The error for an invalid [`Quota`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuotaError {
    /// The quota allows no requests.
    #[error("a quota must allow at least one request")]
    ZeroRequests,
    /// The period of the quota is zero.
    #[error("the period of a quota must not be zero")]
    ZeroPeriod,
    /// The burst takes longer than a century to replenish.
    #[error("the burst of a quota takes longer than a century to replenish")]
    TooSlow,
}

// Enough for the largest burst at one request per second: 136 years.
const MAX_REPLENISH_TIME: Duration = Duration::from_secs(1 << 32);

const fn non_zero(requests: u32) -> NonZeroU32 {
    match NonZeroU32::new(requests) {
        Some(requests) => requests,
        None => panic!("a quota must allow at least one request"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_defaults_to_the_number_of_requests() {
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
            assert_eq!((quota.burst_size().get(), quota.replenish_interval()), (burst, interval), "{quota:?}");
        }
    }

    #[test]
    fn rejects_zero_requests_zero_period_and_bursts_over_a_century() {
        let second = Duration::from_secs(1);
        for (quota, error) in [
            (Quota::new(0, second), QuotaError::ZeroRequests),
            (Quota::new(1, Duration::ZERO), QuotaError::ZeroPeriod),
            (Quota::new(1, Duration::MAX), QuotaError::TooSlow),
            (Quota::per_second(1).try_burst(0), QuotaError::ZeroRequests),
            (Quota::per_hour(1).try_burst(u32::MAX), QuotaError::TooSlow),
        ] {
            assert_eq!(quota, Err(error));
        }
    }

    #[test]
    #[should_panic(expected = "a quota must allow at least one request")]
    fn quota_constructor_panics_on_zero_requests() {
        let _ = Quota::per_second(0);
    }
}
