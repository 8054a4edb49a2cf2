//! What of the upstream's failures goes to the log of the proxy itself.

use std::time::Instant;

use rproxy_upstream::{ProxyError, ProxyErrorKind};

use crate::log_throttle::LogThrottle;

/// At most one warning a second: an upstream that is down under load would else fill the log.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    upstream: LogThrottle,
}

impl Warnings {
    pub(super) fn upstream_error(&self, kind: ProxyErrorKind, error: &ProxyError, now: Instant) {
        // The client's fault is nobody's to act on.
        if kind == ProxyErrorKind::HttpRequestError {
            return tracing::debug!(%error, "the request broke off");
        }
        match self.upstream.permit_at(now) {
            Some(suppressed) => tracing::warn!(%error, suppressed, "no good answer from the upstream"),
            None => tracing::debug!(%error, "no good answer from the upstream"),
        }
    }

    pub(super) fn response_failed(&self, why: &str, now: Instant) {
        match self.upstream.permit_at(now) {
            Some(suppressed) => tracing::warn!(error = why, suppressed, "a response broke off"),
            None => tracing::debug!(error = why, "a response broke off"),
        }
    }
}
