//! What of the upstream's failures goes to the log of the proxy itself.

use std::time::Instant;

use rproxy_upstream::{ProxyError, ProxyErrorKind};

use crate::seldom::Seldom;

/// At most one warning a second: an upstream that is down under load would else fill the log.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    upstream: Seldom,
}

impl Warnings {
    pub(super) fn upstream(&self, kind: ProxyErrorKind, error: &ProxyError, now: Instant) {
        // The client's fault is nobody's to act on.
        if kind == ProxyErrorKind::HttpRequestError {
            return tracing::debug!(%error, "the request broke off");
        }
        match self.upstream.due_at(now) {
            Some(unsaid) => tracing::warn!(%error, unsaid, "no good answer from the upstream"),
            None => tracing::debug!(%error, "no good answer from the upstream"),
        }
    }

    pub(super) fn broke_off(&self, why: &str, now: Instant) {
        match self.upstream.due_at(now) {
            Some(unsaid) => tracing::warn!(error = why, unsaid, "a response broke off"),
            None => tracing::debug!(error = why, "a response broke off"),
        }
    }
}
