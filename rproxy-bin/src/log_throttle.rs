//! A limit of one log message per second.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Allows one message per second and counts the suppressed ones.
#[derive(Debug)]
pub(crate) struct LogThrottle {
    since: Instant,
    /// The second of the last message, counted from `since` and plus one; 0 before the first.
    last: AtomicU64,
    suppressed: AtomicU64,
}

impl LogThrottle {
    /// Returns the number of suppressed messages if a message is due at `now`, or `None` if it must be suppressed.
    pub(crate) fn permit_at(&self, now: Instant) -> Option<u64> {
        let second = now.saturating_duration_since(self.since).as_secs() + 1;
        if self.last.swap(second, Ordering::Relaxed) == second {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.suppressed.swap(0, Ordering::Relaxed))
    }
}

impl Default for LogThrottle {
    fn default() -> Self {
        Self { since: Instant::now(), last: AtomicU64::new(0), suppressed: AtomicU64::new(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn allows_one_message_per_second_and_counts_the_others() {
        let throttle = LogThrottle::default();
        let at = |milliseconds| throttle.since + Duration::from_millis(milliseconds);
        for (milliseconds, due) in
            [(0, Some(0)), (10, None), (999, None), (1000, Some(2)), (1001, None), (3500, Some(1)), (9000, Some(0))]
        {
            assert_eq!(throttle.permit_at(at(milliseconds)), due, "{milliseconds}");
        }
    }
}
