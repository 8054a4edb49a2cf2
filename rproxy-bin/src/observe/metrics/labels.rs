//! The label values of metrics, which are fixed so that clients cannot create new ones.

use http::{Method, StatusCode};
use rproxy_cache::CacheStatus;
use rproxy_upstream::ProxyErrorKind;

/// The label value of a request method: the methods of RFC 9110 §9 and PATCH by name, or `other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MethodLabel {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
    Other,
}

/// The label values of request methods, in the order of [`MethodLabel`].
pub(super) const METHODS: [&str; 10] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "other"];

impl MethodLabel {
    pub(crate) fn of(method: &Method) -> Self {
        match *method {
            Method::GET => Self::Get,
            Method::HEAD => Self::Head,
            Method::POST => Self::Post,
            Method::PUT => Self::Put,
            Method::DELETE => Self::Delete,
            Method::CONNECT => Self::Connect,
            Method::OPTIONS => Self::Options,
            Method::TRACE => Self::Trace,
            Method::PATCH => Self::Patch,
            _ => Self::Other,
        }
    }
}

/// The label values of response statuses: common codes by number, others by class, and `none` without a response.
pub(super) const CODES: [&str; 44] = [
    "none", "1xx", "2xx", "3xx", "4xx", "5xx", "other", "101", "200", "201", "202", "204", "206", "301", "302", "303",
    "304", "307", "308", "400", "401", "403", "404", "405", "406", "408", "409", "410", "411", "412", "413", "414",
    "415", "416", "421", "422", "426", "429", "431", "500", "501", "502", "503", "504",
];

pub(super) fn code_index(status: Option<StatusCode>) -> usize {
    let Some(status) = status else { return 0 };
    match status.as_u16() {
        101 => 7,
        200 => 8,
        201 => 9,
        202 => 10,
        204 => 11,
        206 => 12,
        301 => 13,
        302 => 14,
        303 => 15,
        304 => 16,
        307 => 17,
        308 => 18,
        400 => 19,
        401 => 20,
        403 => 21,
        404 => 22,
        405 => 23,
        406 => 24,
        408 => 25,
        409 => 26,
        410 => 27,
        411 => 28,
        412 => 29,
        413 => 30,
        414 => 31,
        415 => 32,
        416 => 33,
        421 => 34,
        422 => 35,
        426 => 36,
        429 => 37,
        431 => 38,
        500 => 39,
        501 => 40,
        502 => 41,
        503 => 42,
        504 => 43,
        code @ 100..=599 => usize::from(code / 100),
        _ => 6,
    }
}

/// The label values of cache statuses, as returned by [`CacheStatus::as_str`].
pub(super) const CACHE: [&str; 7] = ["hit", "stale", "revalidated", "bypass", "miss", "expired", "other"];

pub(super) fn cache_index(status: CacheStatus) -> usize {
    CACHE.iter().position(|label| *label == status.as_str()).unwrap_or(CACHE.len() - 1)
}

/// The label values of upstream errors, as returned by [`ProxyErrorKind::as_str`].
pub(super) const UPSTREAM_ERRORS: [&str; 14] = [
    "dns_error",
    "connection_refused",
    "connection_timeout",
    "destination_ip_unroutable",
    "tls_certificate_error",
    "tls_protocol_error",
    "connection_terminated",
    "http_response_timeout",
    "http_protocol_error",
    "http_request_error",
    "destination_unavailable",
    "connection_limit_reached",
    "http_upgrade_failed",
    "other",
];

pub(super) fn upstream_error_index(kind: ProxyErrorKind) -> usize {
    let label = kind.as_str();
    UPSTREAM_ERRORS.iter().position(|known| *known == label).unwrap_or(UPSTREAM_ERRORS.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rproxy_cache::ForwardReason;

    #[test]
    fn every_status_has_a_separate_label_or_its_class_label() {
        for code in 100..1000 {
            let label = CODES[code_index(StatusCode::from_u16(code).ok())];
            let class = match code {
                100..600 => format!("{}xx", code / 100),
                _ => "other".to_owned(),
            };
            assert!(label == code.to_string() || label == class, "{code}: {label}");
        }
        for (index, label) in CODES.iter().enumerate() {
            if let Ok(code) = label.parse() {
                assert_eq!(code_index(StatusCode::from_u16(code).ok()), index, "{label}");
            }
        }
        assert_eq!(CODES[code_index(None)], "none");
    }

    #[test]
    fn request_methods_are_labelled_by_name() {
        for name in ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"] {
            assert_eq!(METHODS[MethodLabel::of(&name.parse().unwrap()) as usize], name);
        }
        assert_eq!(METHODS[MethodLabel::of(&"PROPFIND".parse().unwrap()) as usize], "other");
    }

    #[test]
    fn metric_labels_match_cache_status_and_proxy_error_names() {
        for status in [
            CacheStatus::Hit,
            CacheStatus::Stale,
            CacheStatus::StaleIfError,
            CacheStatus::Revalidated,
            CacheStatus::Forwarded(ForwardReason::UriMiss),
            CacheStatus::Forwarded(ForwardReason::Bypass),
            CacheStatus::Forwarded(ForwardReason::Stale),
        ] {
            assert_eq!(CACHE[cache_index(status)], status.as_str());
        }
        for kind in ProxyErrorKind::ALL {
            assert_eq!(UPSTREAM_ERRORS[upstream_error_index(*kind)], kind.as_str());
        }
    }
}
