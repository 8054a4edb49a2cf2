//! Whether a backend may be tried: what requests found out in passing, and what [checks](crate::HealthCheck) did.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// What is known of one backend. All workers share it.
#[derive(Debug)]
pub(crate) struct Health {
    start: Instant,
    policy: Policy,
    /// In a row.
    failures: AtomicU32,
    /// Milliseconds after `start` until which the backend is left alone; 0 while it is not.
    down_until: AtomicU64,
    /// What the checks say; the backend is down whatever requests find.
    failed_checks: AtomicBool,
    /// Tells who waits for any backend that one has come back.
    recovered: Arc<Notify>,
}

/// When a backend is left alone, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    /// So many exchanges in a row may fail; a connection that can't be made is enough by itself.
    pub(crate) max_failures: u32,
    /// The first back-off is 250 ms; it doubles up to this.
    pub(crate) longest_back_off: Duration,
    /// When a backend that failed its checks may be back.
    pub(crate) check_interval: Duration,
}

impl Health {
    pub(crate) fn new(policy: Policy, recovered: Arc<Notify>) -> Self {
        Self {
            start: Instant::now(),
            policy,
            failures: AtomicU32::new(0),
            down_until: AtomicU64::new(0),
            failed_checks: AtomicBool::new(false),
            recovered,
        }
    }

    /// How long the backend is to be left alone; `None` if it may be [claimed](Self::claim).
    pub(crate) fn down_for(&self) -> Option<Duration> {
        if self.failed_checks.load(Relaxed) {
            return Some(self.policy.check_interval);
        }
        // The usual case costs two loads, and no look at the clock.
        let left = match self.down_until.load(Relaxed) {
            0 => return None,
            until => until.saturating_sub(self.now()),
        };
        (left > 0).then(|| Duration::from_millis(left))
    }

    /// Whether the caller may try the backend. One that was down is given to one request at a time, so that the others
    /// do not all wait for what fails again.
    pub(crate) fn claim(&self) -> bool {
        if self.failed_checks.load(Relaxed) {
            return false;
        }
        let until = self.down_until.load(Relaxed);
        if until == 0 {
            return true;
        }
        let now = self.now();
        until <= now && self.down_until.compare_exchange(until, now + PROBE, Relaxed, Relaxed).is_ok()
    }

    /// Whether the checks, if there are any, have nothing against it.
    pub(crate) fn passes_checks(&self) -> bool {
        !self.failed_checks.load(Relaxed)
    }

    /// The backend has answered.
    pub(crate) fn succeeded(&self) {
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
            self.down_until.store(0, Relaxed);
            self.recovered.notify_waiters();
        }
    }

    /// There is nobody: more requests would find the same.
    pub(crate) fn unreachable(&self) {
        // Counted from where the back-off begins.
        let failures = self.failures.fetch_max(self.policy.max_failures.saturating_sub(1), Relaxed);
        let failures = failures.max(self.policy.max_failures.saturating_sub(1));
        self.failures.store(failures.saturating_add(1), Relaxed);
        self.leave_alone(failures + 1);
    }

    /// No answer, or none that makes sense; it may be the request.
    pub(crate) fn failed(&self) {
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        if failures >= self.policy.max_failures {
            self.leave_alone(failures);
        }
    }

    fn leave_alone(&self, failures: u32) {
        let doublings = failures.saturating_sub(self.policy.max_failures).min(10);
        let back_off = FIRST_BACK_OFF.saturating_mul(1 << doublings).min(self.policy.longest_back_off);
        self.down_until.store(self.now() + back_off.as_millis() as u64, Relaxed);
    }

    /// What the checks found out; whether that is new.
    pub(crate) fn checked(&self, is_up: bool) -> bool {
        let was_down = self.failed_checks.swap(!is_up, Relaxed);
        if is_up && was_down {
            self.failures.store(0, Relaxed);
            self.down_until.store(0, Relaxed);
            self.recovered.notify_waiters();
        }
        was_down == is_up
    }

    /// Never 0, which would mean that nothing is wrong.
    fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64 + 1
    }
}

const FIRST_BACK_OFF: Duration = Duration::from_millis(250);
/// For how many milliseconds the one who tries a backend again keeps the others away.
const PROBE: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn health(max_failures: u32) -> Health {
        let policy =
            Policy { max_failures, longest_back_off: Duration::from_secs(30), check_interval: Duration::from_secs(7) };
        Health::new(policy, Arc::default())
    }

    #[tokio::test(start_paused = true)]
    async fn the_back_off_doubles_and_ends_with_a_success() {
        let health = health(3);
        assert_eq!(health.down_for(), None);
        for back_off in [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000] {
            health.unreachable();
            assert_eq!(health.down_for(), Some(Duration::from_millis(back_off)));
            assert!(!health.claim());
            tokio::time::advance(Duration::from_millis(back_off)).await;
            assert_eq!(health.down_for(), None);
        }
        assert!(health.claim());
        health.succeeded();
        assert_eq!(health.down_for(), None);
        health.unreachable();
        assert_eq!(health.down_for(), Some(Duration::from_millis(250)));
    }

    #[tokio::test(start_paused = true)]
    async fn answers_that_fail_count_only_in_a_row() {
        let health = health(3);
        for _ in 0..2 {
            health.failed();
            health.failed();
            assert_eq!(health.down_for(), None);
            health.succeeded();
        }
        for _ in 0..3 {
            health.failed();
        }
        assert_eq!(health.down_for(), Some(Duration::from_millis(250)));
    }

    #[tokio::test(start_paused = true)]
    async fn one_request_at_a_time_tries_a_backend_again() {
        let health = health(1);
        health.unreachable();
        tokio::time::advance(Duration::from_millis(250)).await;
        assert_eq!(health.down_for(), None);
        assert!(health.claim());
        assert!(!health.claim());
        assert_eq!(health.down_for(), Some(Duration::from_secs(1)));
        health.succeeded();
        assert!(health.claim() && health.claim());
    }

    #[tokio::test(start_paused = true)]
    async fn what_checks_say_stands_whatever_requests_find() {
        let health = health(1);
        assert!(!health.checked(true));
        assert!(health.checked(false));
        health.succeeded();
        assert_eq!(health.down_for(), Some(Duration::from_secs(7)));
        assert!(!health.claim());
        assert!(health.checked(true));
        assert!(health.claim());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_backend_is_told_when_one_is_back() {
        let health = health(1);
        health.unreachable();
        let recovered = Arc::clone(&health.recovered);
        let waiting = recovered.notified();
        health.succeeded();
        waiting.await;
    }
}
