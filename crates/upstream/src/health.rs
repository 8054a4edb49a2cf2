//! The health of a backend, from the results of requests and [health checks](crate::HealthCheck).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

/// The health of one backend, shared by all workers.
#[derive(Debug)]
pub(crate) struct Health {
    start: Instant,
    policy: EjectionPolicy,
    /// The number of consecutive failed requests.
    failures: AtomicU32,
    /// The end of the ejection in milliseconds after `start`, or 0 if the backend is not ejected.
    ejected_until: AtomicU64,
    /// Whether the active health checks of the backend fail. In this case the results of requests have no effect.
    is_failing_checks: AtomicBool,
    /// The notification that a backend of the upstream has recovered, was replaced or has drained.
    changed: Arc<Notify>,
}

/// The conditions and the duration of an ejection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EjectionPolicy {
    /// The number of consecutive failures after which a backend is ejected. If it cannot be reached, one failure is
    /// sufficient.
    pub(crate) max_failures: u32,
    /// The maximum duration of an ejection. The first back-off is 250 ms, and it doubles with each failure.
    pub(crate) max_back_off: Duration,
    /// The time between two health checks.
    pub(crate) check_interval: Duration,
}

impl Health {
    pub(crate) fn new(policy: EjectionPolicy, changed: Arc<Notify>) -> Self {
        Self {
            start: Instant::now(),
            policy,
            failures: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
            is_failing_checks: AtomicBool::new(false),
            changed,
        }
    }

    /// Returns the health of the same backend with other settings. Failing checks are forgotten without `has_checks`.
    pub(crate) fn continued(&self, policy: EjectionPolicy, changed: Arc<Notify>, has_checks: bool) -> Self {
        let ejected_until = match self.ejected_until.load(Relaxed) {
            0 => 0,
            until => until.min(self.now() + policy.max_back_off.as_millis() as u64),
        };
        Self {
            start: self.start,
            policy,
            failures: AtomicU32::new(self.failures.load(Relaxed)),
            ejected_until: AtomicU64::new(ejected_until),
            is_failing_checks: AtomicBool::new(has_checks && self.is_failing_checks.load(Relaxed)),
            changed,
        }
    }

    /// Returns the health of another backend of the same upstream, or of the same backend if it `is_same`.
    pub(crate) fn continued_by(&self, is_same: bool, has_checks: bool) -> Self {
        match is_same {
            true => self.continued(self.policy, Arc::clone(&self.changed), has_checks),
            false => Self::new(self.policy, Arc::clone(&self.changed)),
        }
    }

    /// Returns the next notification that a backend of the upstream has recovered, was replaced or has drained.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Wakes the requests and tasks that wait for a change of the backends.
    pub(crate) fn notify(&self) {
        self.changed.notify_waiters();
    }

    /// Returns the time until the backend may be available again. Returns `None` if an [attempt](Self::allow_attempt)
    /// is possible.
    pub(crate) fn unavailable_for(&self) -> Option<Duration> {
        if self.is_failing_checks.load(Relaxed) {
            return Some(self.policy.check_interval);
        }
        // The common case costs two loads, and does not read the clock.
        let left = match self.ejected_until.load(Relaxed) {
            0 => return None,
            until => until.saturating_sub(self.now()),
        };
        (left > 0).then(|| Duration::from_millis(left))
    }

    /// Returns whether the caller may send a request to the backend.
    ///
    /// After an ejection, one request at a time is a probe. Other requests use other backends until the probe succeeds.
    pub(crate) fn allow_attempt(&self) -> bool {
        if self.is_failing_checks.load(Relaxed) {
            return false;
        }
        let until = self.ejected_until.load(Relaxed);
        if until == 0 {
            return true;
        }
        let now = self.now();
        until <= now && self.ejected_until.compare_exchange(until, now + PROBE_MILLIS, Relaxed, Relaxed).is_ok()
    }

    /// Returns whether the health checks of the backend succeed, or none are configured.
    pub(crate) fn is_passing_checks(&self) -> bool {
        !self.is_failing_checks.load(Relaxed)
    }

    /// Records that the backend responded to a request.
    pub(crate) fn record_success(&self) {
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
            self.ejected_until.store(0, Relaxed);
            self.notify();
        }
    }

    /// Records that the backend is unreachable, and ejects it.
    pub(crate) fn record_unreachable(&self) {
        // Raises the counter to the value at which the back-off begins.
        let failures = self.failures.fetch_max(self.policy.max_failures.saturating_sub(1), Relaxed);
        let failures = failures.max(self.policy.max_failures.saturating_sub(1));
        self.failures.store(failures.saturating_add(1), Relaxed);
        self.eject(failures + 1);
    }

    /// Records a failed request to the backend. It ejects the backend only after several failures, because the request
    /// can be the cause.
    pub(crate) fn record_failure(&self) {
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        if failures >= self.policy.max_failures {
            self.eject(failures);
        }
    }

    /// Ejects the backend for a back-off time that depends on the number of failures.
    fn eject(&self, failures: u32) {
        let doublings = failures.saturating_sub(self.policy.max_failures).min(10);
        let back_off = FIRST_BACK_OFF.saturating_mul(1 << doublings).min(self.policy.max_back_off);
        self.ejected_until.store(self.now() + back_off.as_millis() as u64, Relaxed);
    }

    /// Records the result of the health checks. Returns whether it changed.
    pub(crate) fn record_check(&self, is_healthy: bool) -> bool {
        let was_failing = self.is_failing_checks.swap(!is_healthy, Relaxed);
        if is_healthy && was_failing {
            self.failures.store(0, Relaxed);
            self.ejected_until.store(0, Relaxed);
            self.notify();
        }
        was_failing == is_healthy
    }

    /// Returns the milliseconds since `start` plus one, as 0 means that the backend is not ejected.
    fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64 + 1
    }
}

/// The duration of the first ejection.
const FIRST_BACK_OFF: Duration = Duration::from_millis(250);
/// The time in milliseconds after which an unfinished probe no longer prevents another probe.
const PROBE_MILLIS: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn health(max_failures: u32) -> Health {
        let policy = EjectionPolicy {
            max_failures,
            max_back_off: Duration::from_secs(30),
            check_interval: Duration::from_secs(7),
        };
        Health::new(policy, Arc::default())
    }

    #[tokio::test(start_paused = true)]
    async fn ejection_time_doubles_with_each_failure_until_a_success() {
        let health = health(3);
        assert_eq!(health.unavailable_for(), None);
        for back_off in [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000] {
            health.record_unreachable();
            assert_eq!(health.unavailable_for(), Some(Duration::from_millis(back_off)));
            assert!(!health.allow_attempt());
            tokio::time::advance(Duration::from_millis(back_off)).await;
            assert_eq!(health.unavailable_for(), None);
        }
        assert!(health.allow_attempt());
        health.record_success();
        assert_eq!(health.unavailable_for(), None);
        health.record_unreachable();
        assert_eq!(health.unavailable_for(), Some(Duration::from_millis(250)));
    }

    #[tokio::test(start_paused = true)]
    async fn ejects_a_backend_only_after_consecutive_failures() {
        let health = health(3);
        for _ in 0..2 {
            health.record_failure();
            health.record_failure();
            assert_eq!(health.unavailable_for(), None);
            health.record_success();
        }
        for _ in 0..3 {
            health.record_failure();
        }
        assert_eq!(health.unavailable_for(), Some(Duration::from_millis(250)));
    }

    #[tokio::test(start_paused = true)]
    async fn allows_one_probe_at_a_time_after_an_ejection() {
        let health = health(1);
        health.record_unreachable();
        tokio::time::advance(Duration::from_millis(250)).await;
        assert_eq!(health.unavailable_for(), None);
        assert!(health.allow_attempt());
        assert!(!health.allow_attempt());
        assert_eq!(health.unavailable_for(), Some(Duration::from_secs(1)));
        health.record_success();
        assert!(health.allow_attempt() && health.allow_attempt());
    }

    #[tokio::test(start_paused = true)]
    async fn failed_health_check_keeps_a_backend_unhealthy_despite_successful_requests() {
        let health = health(1);
        assert!(!health.record_check(true));
        assert!(health.record_check(false));
        health.record_success();
        assert_eq!(health.unavailable_for(), Some(Duration::from_secs(7)));
        assert!(!health.allow_attempt());
        assert!(health.record_check(true));
        assert!(health.allow_attempt());
    }

    #[tokio::test(start_paused = true)]
    async fn continued_health_keeps_ejections_and_failed_checks() {
        let policy = |seconds| EjectionPolicy { max_back_off: Duration::from_secs(seconds), ..health(1).policy };
        let health = health(1);
        for _ in 0..8 {
            health.record_unreachable();
        }
        let continued = health.continued(policy(30), Arc::default(), false);
        assert_eq!(continued.unavailable_for(), Some(Duration::from_secs(30)));
        assert_eq!(
            health.continued(policy(2), Arc::default(), false).unavailable_for(),
            Some(Duration::from_secs(2)),
            "an ejection is at most as long as the new maximum"
        );
        continued.record_success();
        assert!(continued.allow_attempt() && !health.allow_attempt());
        health.record_check(false);
        assert!(!health.continued(policy(30), Arc::default(), true).is_passing_checks());
        assert!(health.continued(policy(30), Arc::default(), false).is_passing_checks());
    }

    #[tokio::test(start_paused = true)]
    async fn recovery_of_a_backend_notifies_waiting_requests() {
        let health = health(1);
        health.record_unreachable();
        let changed = Arc::clone(&health.changed);
        let waiting = changed.notified();
        health.record_success();
        waiting.await;
    }
}
