//! Passive health: a backend that can't be reached is left alone, for a while that doubles.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

/// What is known of one backend.
#[derive(Debug)]
pub(crate) struct Health {
    start: Instant,
    failures: AtomicU32,
    /// Milliseconds after `start` until which the backend is left alone.
    down_until: AtomicU64,
}

impl Health {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), failures: AtomicU32::new(0), down_until: AtomicU64::new(0) }
    }

    /// How long the backend is to be left alone; `None` if it may be tried.
    pub(crate) fn down_for(&self) -> Option<Duration> {
        // The usual case costs one load, and no look at the clock.
        if self.failures.load(Relaxed) == 0 {
            return None;
        }
        let left = self.down_until.load(Relaxed).saturating_sub(self.start.elapsed().as_millis() as u64);
        (left > 0).then(|| Duration::from_millis(left))
    }

    pub(crate) fn succeeded(&self) {
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
            self.down_until.store(0, Relaxed);
        }
    }

    pub(crate) fn failed(&self) {
        let failures = self.failures.fetch_add(1, Relaxed);
        let back_off = FIRST_BACK_OFF.saturating_mul(1 << failures.min(10)).min(LONGEST_BACK_OFF);
        self.down_until.store((self.start.elapsed() + back_off).as_millis() as u64, Relaxed);
    }
}

const FIRST_BACK_OFF: Duration = Duration::from_millis(250);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_back_off_doubles_and_ends_with_a_success() {
        let health = Health::new();
        assert_eq!(health.down_for(), None);
        for back_off in [250, 500, 1000] {
            health.failed();
            assert_eq!(health.down_for(), Some(Duration::from_millis(back_off)));
            tokio::time::advance(Duration::from_millis(back_off)).await;
            assert_eq!(health.down_for(), None);
        }
        for _ in 0..20 {
            health.failed();
        }
        assert_eq!(health.down_for(), Some(LONGEST_BACK_OFF));
        health.succeeded();
        assert_eq!(health.down_for(), None);
    }
}
