//! What of the upstream's failures goes to the log of the proxy itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rproxy_upstream::{ProxyError, ProxyErrorKind};

/// At most one warning a second: an upstream that is down under load would else fill the log.
#[derive(Debug)]
pub(super) struct Warnings {
    since: Instant,
    /// In whole seconds from `since`, plus one; 0 is never.
    last: AtomicU64,
    unsaid: AtomicU64,
}

impl Default for Warnings {
    fn default() -> Self {
        Self { since: Instant::now(), last: AtomicU64::new(0), unsaid: AtomicU64::new(0) }
    }
}

impl Warnings {
    pub(super) fn upstream(&self, kind: ProxyErrorKind, error: &ProxyError, now: Instant) {
        // The client's fault is nobody's to act on.
        if kind == ProxyErrorKind::HttpRequestError {
            return tracing::debug!(%error, "the request broke off");
        }
        match self.due(now) {
            Some(unsaid) => tracing::warn!(%error, unsaid, "no good answer from the upstream"),
            None => tracing::debug!(%error, "no good answer from the upstream"),
        }
    }

    pub(super) fn broke_off(&self, why: &str, now: Instant) {
        match self.due(now) {
            Some(unsaid) => tracing::warn!(error = why, unsaid, "a response broke off"),
            None => tracing::debug!(error = why, "a response broke off"),
        }
    }

    /// Whether to warn now, and of how many more than this one.
    fn due(&self, now: Instant) -> Option<u64> {
        let second = now.saturating_duration_since(self.since).as_secs() + 1;
        if self.last.swap(second, Ordering::Relaxed) == second {
            self.unsaid.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.unsaid.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn one_warning_a_second_counts_the_others() {
        let warnings = Warnings::default();
        let at = |milliseconds| warnings.since + Duration::from_millis(milliseconds);
        for (milliseconds, due) in
            [(0, Some(0)), (10, None), (999, None), (1000, Some(2)), (1001, None), (3500, Some(1)), (9000, Some(0))]
        {
            assert_eq!(warnings.due(at(milliseconds)), due, "{milliseconds}");
        }
    }
}
