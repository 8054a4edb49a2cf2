//! Explains error responses to operators: the cause, and the setting that is responsible.

use http::Extensions;
use rproxy_path_filter::PathFilterDecision;
use rproxy_rate_limit::RateLimitDecision;
use rproxy_server::{RejectedHead, RequestRejection};
use rproxy_upstream::{ProxyError, ProxyErrorKind};
use rproxy_ws_passthrough::WsRejection;

use super::ErrorReason;

impl ErrorReason {
    /// Returns the cause of an error response and the responsible setting, from the response extensions.
    ///
    /// The text names backends and rules: it is for operators, never for clients.
    pub(crate) fn explanation(self, extensions: &Extensions) -> Option<String> {
        let fixed = match self {
            Self::Request(rejection) => match rejection {
                RequestRejection::Head(RejectedHead::TargetTooLong) => "the target is longer than RPROXY_MAX_TARGET",
                RequestRejection::Head(RejectedHead::TooLarge) => {
                    "the head is larger than RPROXY_MAX_HEAD, or has more fields than RPROXY_MAX_FIELDS"
                }
                RequestRejection::Head(RejectedHead::TooSlow) => "the head was not complete within RPROXY_HEAD_TIMEOUT",
                RequestRejection::Misdirected => {
                    "no certificate covers the host; add the host to RPROXY_TLS_DOMAINS for a certificate, or to RPROXY_TLS_HOSTS"
                }
                RequestRejection::BodyTooLarge => "the content is larger than RPROXY_MAX_BODY",
                RequestRejection::BodyTooSlow => "no part of the request body arrived within RPROXY_BODY_TIMEOUT",
                _ => return None,
            },
            Self::RateLimited => match extensions.get() {
                Some(RateLimitDecision::TooManyInFlight) => {
                    "the client has more requests in flight than RPROXY_RATE_MAX_IN_FLIGHT"
                }
                _ => "the client exceeded its rate limit; RPROXY_RATE_LIMIT and RPROXY_RATE_BURST set it",
            },
            Self::LimiterUnavailable => "the rate limit store does not respond; check RPROXY_RATE_LIMIT_STORE",
            Self::BlockedPath => match extensions.get() {
                Some(PathFilterDecision::Blocked { rule }) => {
                    return Some(format!(
                        "the path filter blocks the path by its rule {rule}; RPROXY_BLOCKED_PATHS and RPROXY_FILTER_STRICT \
                         set the rules"
                    ));
                }
                _ => return None,
            },
            Self::LoopDetected => "the request loops, because a backend in RPROXY_UPSTREAM forwards to this proxy",
            Self::WebSocket(rejection) => match rejection {
                WsRejection::ForbiddenPath => "RPROXY_WS_PATHS does not match the path, or RPROXY_WS_ENABLED is false",
                WsRejection::ForbiddenOrigin => "RPROXY_WS_ORIGINS does not list the origin",
                WsRejection::TooManyTunnels => "the limit of RPROXY_WS_MAX_CONNECTIONS open WebSockets is reached",
                WsRejection::TooManyTunnelsPerClient => {
                    "the client has reached the limit of RPROXY_WS_MAX_PER_CLIENT open WebSockets"
                }
                WsRejection::UnsupportedProtocol => "RPROXY_UPGRADES does not list the protocol",
                _ => return None,
            },
            Self::UnknownHost => {
                "no site has the requested host; add the host to RPROXY_ROUTES, or to the hosts of a [[site]]"
            }
            Self::Upstream(kind) => {
                let backend = extensions.get::<ProxyError>().and_then(ProxyError::backend);
                return upstream(kind, backend.unwrap_or("the backend"));
            }
            _ => return None,
        };
        Some(fixed.to_owned())
    }
}

fn upstream(kind: ProxyErrorKind, backend: &str) -> Option<String> {
    use ProxyErrorKind as Kind;
    let backend = backend.strip_prefix("http://").unwrap_or(backend);
    Some(match kind {
        Kind::ConnectionRefused => {
            format!("no process listens on {backend}; start the application at this address, or set RPROXY_UPSTREAM")
        }
        Kind::DnsError => format!("the name of {backend} does not resolve; check RPROXY_UPSTREAM"),
        Kind::ConnectionTimeout => format!(
            "{backend} did not accept the connection within RPROXY_UPSTREAM_CONNECT_TIMEOUT; check RPROXY_UPSTREAM and the \
             firewall"
        ),
        Kind::DestinationIpUnroutable => format!("there is no network route to {backend}; check RPROXY_UPSTREAM"),
        Kind::TlsCertificateError => format!(
            "the certificate of {backend} is not trusted or not valid for its name; check RPROXY_UPSTREAM_CA and \
             RPROXY_UPSTREAM_SERVER_NAME"
        ),
        Kind::TlsProtocolError => {
            format!("the TLS handshake with {backend} failed; check the scheme in RPROXY_UPSTREAM")
        }
        Kind::ConnectionTerminated => {
            format!(
                "{backend} closed the connection without a response; check its log, and the scheme in RPROXY_UPSTREAM"
            )
        }
        Kind::HttpResponseTimeout => format!("{backend} sent no response within RPROXY_UPSTREAM_TIMEOUT"),
        Kind::HttpProtocolError => {
            format!("{backend} sent a malformed response; check the scheme and the port in RPROXY_UPSTREAM")
        }
        Kind::DestinationUnavailable => {
            "all backends of RPROXY_UPSTREAM are unhealthy; check them, and RPROXY_UPSTREAM_HEALTH_PATH".to_owned()
        }
        Kind::ConnectionLimitReached => {
            format!(
                "no connection to {backend} became available in time; RPROXY_UPSTREAM_MAX_CONNECTIONS limits the connections"
            )
        }
        Kind::HttpUpgradeFailed => {
            format!("{backend} does not support this upgrade over HTTP/2; check the scheme in RPROXY_UPSTREAM")
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings;

    #[test]
    fn explanations_name_existing_settings() {
        let mut extensions = Extensions::new();
        extensions.insert(PathFilterDecision::Blocked { rule: "/.env".into() });
        extensions.insert(RateLimitDecision::TooManyInFlight);
        let rejections = [
            RequestRejection::Head(RejectedHead::TargetTooLong),
            RequestRejection::Head(RejectedHead::TooLarge),
            RequestRejection::Head(RejectedHead::TooSlow),
            RequestRejection::Misdirected,
            RequestRejection::BodyTooLarge,
            RequestRejection::BodyTooSlow,
        ];
        let handshakes = [
            WsRejection::ForbiddenPath,
            WsRejection::ForbiddenOrigin,
            WsRejection::TooManyTunnels,
            WsRejection::TooManyTunnelsPerClient,
            WsRejection::UnsupportedProtocol,
        ];
        let reasons = [
            ErrorReason::RateLimited,
            ErrorReason::LimiterUnavailable,
            ErrorReason::BlockedPath,
            ErrorReason::LoopDetected,
            ErrorReason::UnknownHost,
        ];
        let reasons = reasons
            .into_iter()
            .chain(rejections.map(ErrorReason::Request))
            .chain(handshakes.map(ErrorReason::WebSocket));
        let mut texts: Vec<_> = reasons.map(|reason| reason.explanation(&extensions).unwrap()).collect();
        texts.push(ErrorReason::RateLimited.explanation(&Extensions::new()).unwrap());
        for kind in ProxyErrorKind::ALL.iter().filter(|kind| **kind != ProxyErrorKind::HttpRequestError) {
            texts.push(upstream(*kind, "http://127.0.0.1:3000").unwrap());
        }
        let known: Vec<String> = settings().map(|setting| setting.variable()).collect();
        for text in texts {
            let words = text.split(|c: char| !c.is_ascii_uppercase() && !c.is_ascii_digit() && c != '_');
            let named: Vec<_> = words.filter(|word| word.starts_with("RPROXY_")).collect();
            assert!(!named.is_empty(), "{text}");
            assert!(named.iter().all(|name| known.iter().any(|known| known == name)), "{text}");
        }
    }

    #[test]
    fn rejections_without_a_setting_have_no_explanation() {
        for reason in
            [ErrorReason::Request(RequestRejection::BadHost), ErrorReason::OnlyIfCached, ErrorReason::Panicked]
        {
            assert_eq!(reason.explanation(&Extensions::new()), None);
        }
    }
}
