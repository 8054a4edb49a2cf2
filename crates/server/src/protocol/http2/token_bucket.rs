//! A token bucket, which limits the rate of events.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

/// A bucket of tokens that refills at a constant rate.
#[derive(Debug)]
pub(super) struct TokenBucket {
    burst: Duration,
    each: Duration,
    start: Instant,
    /// The time at which the bucket will be full, in microseconds after `start`.
    full_at: AtomicU64,
}

impl TokenBucket {
    /// Creates a full bucket of `burst` tokens, which refills by `per_second` tokens per second.
    pub(super) fn new(burst: u32, per_second: u32) -> Self {
        let each = Duration::from_secs(1) / per_second;
        Self { burst: each * burst, each, start: Instant::now(), full_at: AtomicU64::new(0) }
    }

    /// Removes tokens, and returns whether the bucket had enough; otherwise the bucket is in debt.
    pub(super) fn take(&self, tokens: u32) -> bool {
        let now = self.start.elapsed();
        let full_at = Duration::from_micros(self.full_at.load(Relaxed)).max(now) + self.each * tokens;
        self.full_at.store(u64::try_from(full_at.as_micros()).unwrap_or(u64::MAX), Relaxed);
        full_at - now <= self.burst
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn token_bucket_refills_over_time_up_to_the_burst() {
        let bucket = TokenBucket::new(3, 2);
        assert!((0..3).all(|_| bucket.take(1)));
        assert!(!bucket.take(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        // One of the two new tokens pays back the overdraft.
        assert!(bucket.take(1));
        assert!(!bucket.take(1));
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert!(bucket.take(3));
        assert!(!bucket.take(1));
    }
}
