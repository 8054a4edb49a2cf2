//! Log messages about failures of backends.

use std::time::Instant;

use rproxy_upstream::{ProxyError, ProxyErrorKind};

use crate::log_throttle::LogThrottle;

/// Logs at most one warning per second about backends, so that an unavailable backend does not flood the log.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    upstream: LogThrottle,
}

impl Warnings {
    pub(super) fn upstream_error(&self, error: &ProxyError, now: Instant) {
        // Operators cannot act on errors of clients.
        if error.kind() == ProxyErrorKind::HttpRequestError {
            return tracing::debug!(%error, "client aborted the request");
        }
        match self.upstream.permit_at(now) {
            Some(suppressed) => tracing::warn!(%error, suppressed, "upstream request failed"),
            None => tracing::debug!(%error, "upstream request failed"),
        }
    }

    pub(super) fn response_failed(&self, why: &str, now: Instant) {
        match self.upstream.permit_at(now) {
            Some(suppressed) => tracing::warn!(error = why, suppressed, "upstream response aborted"),
            None => tracing::debug!(error = why, "upstream response aborted"),
        }
    }
}
