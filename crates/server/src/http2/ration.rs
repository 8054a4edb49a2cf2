//! A budget that refills with time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

/// A token bucket.
#[derive(Debug)]
pub(super) struct Ration {
    burst: Duration,
    each: Duration,
    start: Instant,
    /// When the bucket is full again, in microseconds after `start`.
    full_at: AtomicU64,
}

impl Ration {
    /// `burst` points at once, and then `per_second`.
    pub(super) fn new(burst: u32, per_second: u32) -> Self {
        let each = Duration::from_secs(1) / per_second;
        Self { burst: each * burst, each, start: Instant::now(), full_at: AtomicU64::new(0) }
    }

    /// Spends `points`; whether there were as many.
    pub(super) fn spend(&self, points: u32) -> bool {
        let now = self.start.elapsed();
        let full_at = Duration::from_micros(self.full_at.load(Relaxed)).max(now) + self.each * points;
        self.full_at.store(u64::try_from(full_at.as_micros()).unwrap_or(u64::MAX), Relaxed);
        full_at - now <= self.burst
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn refills_with_time_up_to_the_burst() {
        let ration = Ration::new(3, 2);
        assert!((0..3).all(|_| ration.spend(1)));
        assert!(!ration.spend(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        // The point that was overdrawn is paid back first.
        assert!(ration.spend(1));
        assert!(!ration.spend(1));
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert!(ration.spend(3));
        assert!(!ration.spend(1));
    }
}
