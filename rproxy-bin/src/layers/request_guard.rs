//! Settings that validate requests and limit request bodies.

use std::time::Duration;

use http::StatusCode;
use rproxy_core::Rejection;
use rproxy_request_guard::RequestGuardLayer;

use crate::known_rejection::KnownRejection;
use crate::setting::{DURATION, settings};
use crate::values::value::{format_duration, format_size, size, timeout};

/// The rejections of requests that are invalid, or whose host is not served.
pub(crate) const REJECTIONS: &[KnownRejection] = &[
    KnownRejection::new("malformed", "malformed"),
    KnownRejection::new("framing", "framing"),
    KnownRejection::new("framing", "unknown_coding"),
    KnownRejection::new("target_too_long", "target_too_long").explained("the target is longer than RPROXY_MAX_TARGET"),
    KnownRejection::new("head_too_large", "head_too_large")
        .explained("the head is larger than RPROXY_MAX_HEAD, or has more fields than RPROXY_MAX_FIELDS"),
    KnownRejection::new("head_too_slow", "head_too_slow")
        .explained("the head was not complete within RPROXY_HEAD_TIMEOUT"),
    KnownRejection::new("bad_host", "bad_host"),
    KnownRejection::new("host_mismatch", "host_mismatch"),
    KnownRejection::new("bad_target", "bad_target"),
    KnownRejection::new("connect", "connect"),
    KnownRejection::new("misdirected", "misdirected").explained(
        "no certificate covers the host; add the host to RPROXY_TLS_DOMAINS for a certificate, or to RPROXY_TLS_HOSTS",
    ),
    KnownRejection::new("body_too_large", "body_too_large").explained("the content is larger than RPROXY_MAX_BODY"),
    KnownRejection::new("body_too_slow", "body_too_slow")
        .explained("no part of the request body arrived within RPROXY_BODY_TIMEOUT"),
    KnownRejection::new("body_broken", "body_broken"),
];

/// Returns the rejection of a request for a host that the certificates do not cover.
pub(crate) fn misdirected() -> Rejection {
    Rejection::new("request_guard", "misdirected", StatusCode::MISDIRECTED_REQUEST)
}

settings! {
    /// The settings that limit request bodies.
    RequestGuardSettings, "Limits"

    "max_body" => max_body: Option<u64> {
        value: "SIZE",
        default: "`0` (no limit)" => None,
        help: "Maximum size of a request body; larger ones get 413",
        accepted: "a size such as 10MiB; a bare number is bytes; 0 for no limit",
        scope: Route,
        reload: Live,
        parse: |t| size(t, 1).map(|bytes| (bytes > 0).then_some(bytes)),
        show: |s| Some(s.max_body.map_or_else(|| "0".to_owned(), format_size)),
    }

    "body_timeout" => body_timeout: Duration {
        value: "DURATION",
        default: "30s",
        help: "Maximum time between two parts of a request body; slower clients get 408",
        accepted: DURATION,
        scope: Route,
        reload: Live,
        parse: timeout,
        show: |s| Some(format_duration(s.body_timeout)),
    }
}

impl RequestGuardSettings {
    pub(crate) fn layer(&self) -> RequestGuardLayer {
        RequestGuardLayer::new().max_body(self.max_body).body_timeout(self.body_timeout)
    }
}
