//! A throttle that limits a log message to one per interval.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A log throttle that allows one message per interval and counts suppressed messages.
#[derive(Debug)]
pub(crate) struct LogThrottle {
    interval: Duration,
    since: Instant,
    /// The time of the last message in milliseconds since `since`, plus one; 0 before the first message.
    last: AtomicU64,
    suppressed: AtomicU64,
}

impl LogThrottle {
    /// Creates a log throttle that allows one message per `interval`.
    pub(crate) fn every(interval: Duration) -> Self {
        Self { interval, since: Instant::now(), last: AtomicU64::new(0), suppressed: AtomicU64::new(0) }
    }

    /// Returns the number of suppressed messages if a message may be logged at `now`, or `None` if not.
    pub(crate) fn permit_at(&self, now: Instant) -> Option<u64> {
        let milliseconds = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX - 1);
        let time = milliseconds(now.saturating_duration_since(self.since)) + 1;
        let last = self.last.load(Ordering::Relaxed);
        let is_due = last == 0 || time.saturating_sub(last) >= milliseconds(self.interval);
        // Of several threads, the one that changes the time logs the message.
        if !is_due || self.last.compare_exchange(last, time, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.suppressed.swap(0, Ordering::Relaxed))
    }
}

/// The default log throttle allows one message per second.
impl Default for LogThrottle {
    fn default() -> Self {
        Self::every(Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allows_one_log_message_per_interval_and_counts_suppressed_ones() {
        let default =
            [(0, Some(0)), (10, None), (999, None), (1000, Some(2)), (1001, None), (3500, Some(1)), (9000, Some(0))];
        let hourly = [(3_599_000, Some(0)), (3_601_000, None), (7_198_999, None), (7_199_000, Some(2)), (1000, None)];
        for (throttle, messages) in
            [(LogThrottle::default(), &default[..]), (LogThrottle::every(Duration::from_secs(3600)), &hourly)]
        {
            for (milliseconds, due) in messages {
                let now = throttle.since + Duration::from_millis(*milliseconds);
                assert_eq!(throttle.permit_at(now), *due, "{milliseconds}");
            }
        }
    }
}
