//! The switch that turns maintenance on and off.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A switch that turns maintenance on and off while requests are served. Clones share their state.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use rproxy_maintenance::Maintenance;
///
/// let maintenance = Maintenance::new();
/// maintenance.enable(Duration::from_secs(60));
/// assert_eq!(maintenance.retry_after(), Some(Duration::from_secs(60)));
/// maintenance.disable();
/// assert!(!maintenance.is_enabled());
/// ```
#[derive(Clone, Default)]
pub struct Maintenance {
    /// [`OFF`], or the seconds of `Retry-After`, which are at least 1.
    seconds: Arc<AtomicU64>,
}

const OFF: u64 = 0;

impl Maintenance {
    /// Creates a switch that is off.
    pub fn new() -> Self {
        Self::default()
    }

    /// Turns maintenance on. Rejected clients may retry after `retry_after`, rounded up to at least one second.
    ///
    /// If maintenance is on already, this changes only the time.
    pub fn enable(&self, retry_after: Duration) {
        let seconds = retry_after.as_millis().div_ceil(1000).max(1);
        // No other memory depends on the switch.
        self.seconds.store(u64::try_from(seconds).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Turns maintenance off.
    pub fn disable(&self) {
        self.seconds.store(OFF, Ordering::Relaxed);
    }

    /// Returns whether maintenance is on.
    pub fn is_enabled(&self) -> bool {
        self.retry_after().is_some()
    }

    /// Returns the time after which clients may retry, if maintenance is on.
    pub fn retry_after(&self) -> Option<Duration> {
        match self.seconds.load(Ordering::Relaxed) {
            OFF => None,
            seconds => Some(Duration::from_secs(seconds)),
        }
    }
}

impl fmt::Debug for Maintenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Maintenance").field("retry_after", &self.retry_after()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_rounded_up_to_whole_seconds() {
        let maintenance = Maintenance::new();
        assert_eq!(maintenance.retry_after(), None);
        for (milliseconds, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (300_000, 300)] {
            maintenance.clone().enable(Duration::from_millis(milliseconds));
            assert_eq!(maintenance.retry_after(), Some(Duration::from_secs(seconds)), "{milliseconds}");
        }
        maintenance.enable(Duration::MAX);
        assert!(maintenance.is_enabled());
        maintenance.clone().disable();
        assert!(!maintenance.is_enabled());
    }
}
