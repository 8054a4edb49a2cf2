//! What is said at most once a second.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Counts what it keeps from being said.
#[derive(Debug)]
pub(crate) struct Seldom {
    since: Instant,
    /// In whole seconds from `since`, plus one; 0 is never.
    last: AtomicU64,
    unsaid: AtomicU64,
}

impl Seldom {
    /// Whether to say it now, and of how many more than this one.
    pub(crate) fn due(&self) -> Option<u64> {
        self.due_at(Instant::now())
    }

    pub(crate) fn due_at(&self, now: Instant) -> Option<u64> {
        let second = now.saturating_duration_since(self.since).as_secs() + 1;
        if self.last.swap(second, Ordering::Relaxed) == second {
            self.unsaid.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.unsaid.swap(0, Ordering::Relaxed))
    }
}

impl Default for Seldom {
    fn default() -> Self {
        Self { since: Instant::now(), last: AtomicU64::new(0), unsaid: AtomicU64::new(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn once_a_second_the_others_are_counted() {
        let seldom = Seldom::default();
        let at = |milliseconds| seldom.since + Duration::from_millis(milliseconds);
        for (milliseconds, due) in
            [(0, Some(0)), (10, None), (999, None), (1000, Some(2)), (1001, None), (3500, Some(1)), (9000, Some(0))]
        {
            assert_eq!(seldom.due_at(at(milliseconds)), due, "{milliseconds}");
        }
    }
}
