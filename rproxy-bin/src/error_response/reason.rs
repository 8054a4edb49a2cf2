//! The reasons for error responses that the proxy generates.

use http::{HeaderValue, Response};
use rproxy_cache::CacheStatus;
use rproxy_forward_headers::ForwardHeadersDecision;
use rproxy_path_filter::PathFilterDecision;
use rproxy_rate_limit::RateLimitDecision;
use rproxy_server::{RejectedHead, RequestRejection};
use rproxy_upstream::{ProxyError, ProxyErrorKind};
use rproxy_ws_passthrough::{WsDecision, WsRejection};

/// The reason why the proxy, and not the backend, generated an error response.
///
/// [`ErrorReason::of`] derives it from the response extensions of the layers. It is a response extension itself for
/// responses that no layer generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorReason {
    /// The request is invalid, too large, or for another host.
    Request(RequestRejection),
    /// 429: the client exceeded a rate limit or concurrency limit.
    RateLimited,
    /// 503: the rate limit store was unavailable.
    LimiterUnavailable,
    /// 500: the rate limit found no key for the request.
    Unkeyed,
    /// 404: the path filter blocks the path.
    BlockedPath,
    /// 508: a request loop was detected.
    LoopDetected,
    /// 400, 403, 426, 429, 501, 502 or 503: the WebSocket handshake was rejected.
    WebSocket(WsRejection),
    /// 504: the request has `only-if-cached`, and no stored response can be used.
    OnlyIfCached,
    /// 502, 503 or 504: the request to the backend failed.
    Upstream(ProxyErrorKind),
    /// 500: a service panicked during the request.
    Panicked,
    /// 404, or 421 over TLS: no site has the requested host.
    UnknownHost,
    /// 400: the path matches different routes, depending on how it is decoded.
    AmbiguousPath,
}

impl ErrorReason {
    /// Returns the reason if the proxy generated this error response, or `None` otherwise.
    pub fn of<B>(response: &Response<B>) -> Option<Self> {
        let status = response.status();
        if !status.is_client_error() && !status.is_server_error() {
            return None;
        }
        let extensions = response.extensions();
        if let Some(reason) = extensions.get::<Self>() {
            return Some(*reason);
        }
        if let Some(reason) = extensions.get::<RequestRejection>() {
            return Some(Self::Request(*reason));
        }
        match extensions.get::<RateLimitDecision>() {
            Some(RateLimitDecision::Rejected { .. } | RateLimitDecision::TooManyInFlight) => {
                return Some(Self::RateLimited);
            }
            Some(RateLimitDecision::FailedClosed) => return Some(Self::LimiterUnavailable),
            Some(RateLimitDecision::MissingKey(_)) => return Some(Self::Unkeyed),
            _ => {}
        }
        if let Some(PathFilterDecision::Blocked { .. }) = extensions.get() {
            return Some(Self::BlockedPath);
        }
        if let Some(ForwardHeadersDecision::LoopDetected) = extensions.get() {
            return Some(Self::LoopDetected);
        }
        if let Some(WsDecision::Rejected(reason)) = extensions.get() {
            return Some(Self::WebSocket(*reason));
        }
        if let Some(CacheStatus::OnlyIfCached) = extensions.get() {
            return Some(Self::OnlyIfCached);
        }
        extensions.get::<ProxyError>().map(|error| Self::Upstream(error.kind()))
    }

    /// Returns the label value of the reason in logs and metrics, which is one of [`ErrorReason::LABELS`].
    pub fn as_str(self) -> &'static str {
        Self::LABELS[self.index()]
    }

    /// The label values of all reasons.
    pub const LABELS: [&'static str; 25] = [
        "malformed",
        "framing",
        "target_too_long",
        "head_too_large",
        "head_too_slow",
        "bad_host",
        "host_mismatch",
        "bad_target",
        "connect",
        "misdirected",
        "body_too_large",
        "body_too_slow",
        "body_broken",
        "blocked_path",
        "websocket",
        "only_if_cached",
        "upstream",
        "panic",
        "other",
        "rate_limited",
        "unkeyed",
        "loop",
        "limiter_unavailable",
        "unknown_host",
        "ambiguous_path",
    ];

    /// Returns the index of the reason in [`ErrorReason::LABELS`].
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Request(reason) => match reason {
                RequestRejection::Head(RejectedHead::Malformed) => 0,
                RequestRejection::Head(RejectedHead::Framing | RejectedHead::UnknownCoding) => 1,
                RequestRejection::Head(RejectedHead::TargetTooLong) => 2,
                RequestRejection::Head(RejectedHead::TooLarge) => 3,
                RequestRejection::Head(RejectedHead::TooSlow) => 4,
                RequestRejection::BadHost => 5,
                RequestRejection::HostMismatch => 6,
                RequestRejection::BadTarget => 7,
                RequestRejection::Connect => 8,
                RequestRejection::Misdirected => 9,
                RequestRejection::BodyTooLarge => 10,
                RequestRejection::BodyTooSlow => 11,
                RequestRejection::BodyBroken => 12,
                _ => 18,
            },
            Self::BlockedPath => 13,
            Self::WebSocket(_) => 14,
            Self::OnlyIfCached => 15,
            Self::Upstream(_) => 16,
            Self::Panicked => 17,
            Self::RateLimited => 19,
            Self::Unkeyed => 20,
            Self::LoopDetected => 21,
            Self::LimiterUnavailable => 22,
            Self::UnknownHost => 23,
            Self::AmbiguousPath => 24,
        }
    }

    /// Returns the `Proxy-Status` field with the error type of the reason (RFC 9209 §2.3).
    pub(crate) fn proxy_status(self) -> HeaderValue {
        use ProxyErrorKind as Kind;
        HeaderValue::from_static(match self {
            Self::Request(RequestRejection::Connect) | Self::BlockedPath | Self::RateLimited => {
                "rproxy; error=http_request_denied"
            }
            Self::WebSocket(
                WsRejection::ForbiddenPath
                | WsRejection::ForbiddenOrigin
                | WsRejection::TooManyTunnels
                | WsRejection::TooManyTunnelsPerClient
                | WsRejection::Draining,
            ) => "rproxy; error=http_request_denied",
            Self::WebSocket(WsRejection::InvalidSwitch) => "rproxy; error=http_protocol_error",
            Self::Request(_) | Self::WebSocket(_) | Self::UnknownHost | Self::AmbiguousPath => {
                "rproxy; error=http_request_error"
            }
            Self::LoopDetected => "rproxy; error=proxy_loop_detected",
            Self::OnlyIfCached => "rproxy; error=proxy_internal_response",
            Self::Panicked | Self::Unkeyed | Self::LimiterUnavailable => "rproxy; error=proxy_internal_error",
            Self::Upstream(kind) => match kind {
                Kind::DnsError => "rproxy; error=dns_error",
                Kind::ConnectionRefused => "rproxy; error=connection_refused",
                Kind::ConnectionTimeout => "rproxy; error=connection_timeout",
                Kind::DestinationIpUnroutable => "rproxy; error=destination_ip_unroutable",
                Kind::TlsCertificateError => "rproxy; error=tls_certificate_error",
                Kind::TlsProtocolError => "rproxy; error=tls_protocol_error",
                Kind::ConnectionTerminated => "rproxy; error=connection_terminated",
                Kind::HttpResponseTimeout => "rproxy; error=http_response_timeout",
                Kind::HttpProtocolError => "rproxy; error=http_protocol_error",
                Kind::HttpRequestError => "rproxy; error=http_request_error",
                Kind::DestinationUnavailable => "rproxy; error=destination_unavailable",
                Kind::ConnectionLimitReached => "rproxy; error=connection_limit_reached",
                Kind::HttpUpgradeFailed => "rproxy; error=http_upgrade_failed",
                _ => "rproxy; error=proxy_internal_error",
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn response(status: u16) -> Response<()> {
        Response::builder().status(status).body(()).unwrap()
    }

    #[test]
    fn backend_responses_have_no_error_reason() {
        for status in [200, 302, 404, 429, 502] {
            assert_eq!(ErrorReason::of(&response(status)), None);
        }
        let mut only_logged = response(404);
        only_logged.extensions_mut().insert(PathFilterDecision::WouldBlock { rule: "/.env".into() });
        only_logged.extensions_mut().insert(RateLimitDecision::Allowed { remaining: 0 });
        only_logged.extensions_mut().insert(CacheStatus::Hit);
        only_logged.extensions_mut().insert(WsDecision::Declined);
        assert_eq!(ErrorReason::of(&only_logged), None);
        // A stale response served instead of an error is a response of the backend.
        let mut stale = response(200);
        stale.extensions_mut().insert(ErrorReason::Upstream(ProxyErrorKind::ConnectionRefused));
        assert_eq!(ErrorReason::of(&stale), None);
    }

    #[test]
    fn detects_error_reason_of_each_layer() {
        let mut blocked = response(404);
        blocked.extensions_mut().insert(PathFilterDecision::Blocked { rule: "/.env".into() });
        assert_eq!(ErrorReason::of(&blocked), Some(ErrorReason::BlockedPath));

        let mut limited = response(429);
        limited.extensions_mut().insert(RateLimitDecision::Rejected { retry_after: Duration::from_secs(1) });
        assert_eq!(ErrorReason::of(&limited), Some(ErrorReason::RateLimited));

        limited.extensions_mut().insert(RateLimitDecision::TooManyInFlight);
        assert_eq!(ErrorReason::of(&limited), Some(ErrorReason::RateLimited));
        let mut unknown = response(503);
        unknown.extensions_mut().insert(RateLimitDecision::FailedClosed);
        assert_eq!(ErrorReason::of(&unknown), Some(ErrorReason::LimiterUnavailable));

        let mut request = response(400);
        request.extensions_mut().insert(RequestRejection::BadHost);
        assert_eq!(ErrorReason::of(&request), Some(ErrorReason::Request(RequestRejection::BadHost)));

        let mut handshake = response(426);
        handshake.extensions_mut().insert(WsDecision::Rejected(WsRejection::UnsupportedVersion));
        assert_eq!(ErrorReason::of(&handshake), Some(ErrorReason::WebSocket(WsRejection::UnsupportedVersion)));

        let mut cached = response(504);
        cached.extensions_mut().insert(CacheStatus::OnlyIfCached);
        assert_eq!(ErrorReason::of(&cached), Some(ErrorReason::OnlyIfCached));
    }

    #[test]
    fn every_error_reason_has_a_label_and_proxy_status() {
        for (reason, label, status) in [
            (ErrorReason::Request(RequestRejection::Head(RejectedHead::Malformed)), "malformed", "http_request_error"),
            (ErrorReason::Request(RequestRejection::BadHost), "bad_host", "http_request_error"),
            (ErrorReason::Request(RequestRejection::Connect), "connect", "http_request_denied"),
            (ErrorReason::Request(RequestRejection::BodyBroken), "body_broken", "http_request_error"),
            (ErrorReason::RateLimited, "rate_limited", "http_request_denied"),
            (ErrorReason::Unkeyed, "unkeyed", "proxy_internal_error"),
            (ErrorReason::LimiterUnavailable, "limiter_unavailable", "proxy_internal_error"),
            (ErrorReason::BlockedPath, "blocked_path", "http_request_denied"),
            (ErrorReason::LoopDetected, "loop", "proxy_loop_detected"),
            (ErrorReason::WebSocket(WsRejection::ForbiddenPath), "websocket", "http_request_denied"),
            (ErrorReason::WebSocket(WsRejection::UnsupportedVersion), "websocket", "http_request_error"),
            (ErrorReason::WebSocket(WsRejection::InvalidSwitch), "websocket", "http_protocol_error"),
            (ErrorReason::OnlyIfCached, "only_if_cached", "proxy_internal_response"),
            (ErrorReason::Upstream(ProxyErrorKind::DnsError), "upstream", "dns_error"),
            (ErrorReason::Panicked, "panic", "proxy_internal_error"),
        ] {
            assert_eq!(reason.as_str(), label);
            assert_eq!(reason.proxy_status(), format!("rproxy; error={status}"));
        }
        for kind in ProxyErrorKind::ALL {
            assert_eq!(ErrorReason::Upstream(*kind).proxy_status(), format!("rproxy; error={}", kind.as_str()));
        }
    }
}
