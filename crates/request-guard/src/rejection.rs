//! The reasons for which the request guard rejects requests.

use http::StatusCode;
use rproxy_core::{ProxyErrorType, RejectedHead, Rejection};

/// The reason why [`RequestGuardLayer`](crate::RequestGuardLayer) rejected the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestRejection {
    /// 400, 408, 414, 431 or 501: the server rejected the head.
    Head(RejectedHead),
    /// 400: `Host` is missing, repeated or invalid (RFC 9112 §3.2).
    BadHost,
    /// 400: `Host` differs from the authority of the target (RFC 9112 §3.2.2, RFC 9113 §8.3.1).
    HostMismatch,
    /// 400: the form of the target is not supported (RFC 9112 §3.2).
    BadTarget,
    /// 405: the method is `CONNECT`, which a reverse proxy does not support.
    Connect,
    /// 421: the host is not served on this TLS connection.
    Misdirected,
    /// 413: the body is too large.
    BodyTooLarge,
    /// 408: the body is too slow.
    BodyTooSlow,
    /// 400: the body is incomplete or malformed.
    BodyBroken,
}

impl RequestRejection {
    /// Returns the status of the response.
    fn status(self) -> StatusCode {
        match self {
            Self::Head(RejectedHead::TargetTooLong) => StatusCode::URI_TOO_LONG,
            Self::Head(RejectedHead::TooLarge) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Head(RejectedHead::TooSlow) | Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Head(RejectedHead::UnknownCoding) => StatusCode::NOT_IMPLEMENTED,
            Self::Head(_) | Self::BadHost | Self::HostMismatch | Self::BadTarget | Self::BodyBroken => {
                StatusCode::BAD_REQUEST
            }
            Self::Connect => StatusCode::METHOD_NOT_ALLOWED,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::Head(RejectedHead::Framing | RejectedHead::UnknownCoding) => "framing",
            Self::Head(RejectedHead::TargetTooLong) => "target_too_long",
            Self::Head(RejectedHead::TooLarge) => "head_too_large",
            Self::Head(RejectedHead::TooSlow) => "head_too_slow",
            // `Malformed`, and reasons that are unknown here.
            Self::Head(_) => "malformed",
            Self::BadHost => "bad_host",
            Self::HostMismatch => "host_mismatch",
            Self::BadTarget => "bad_target",
            Self::Connect => "connect",
            Self::Misdirected => "misdirected",
            Self::BodyTooLarge => "body_too_large",
            Self::BodyTooSlow => "body_too_slow",
            Self::BodyBroken => "body_broken",
        }
    }

    pub(crate) fn rejection(self) -> Rejection {
        let mut rejection = Rejection::new("request_guard", self.reason(), self.status());
        if self != Self::Connect {
            rejection = rejection.with_error_type(ProxyErrorType::HttpRequestError);
        }
        if self == Self::Head(RejectedHead::UnknownCoding) {
            rejection = rejection.with_cause("unknown_coding");
        }
        match self {
            Self::Misdirected | Self::BodyTooLarge | Self::BodyTooSlow | Self::BodyBroken => rejection,
            _ => rejection.with_malformed_head(),
        }
    }

    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Head(RejectedHead::TargetTooLong) => "URI Too Long\n",
            Self::Head(RejectedHead::TooLarge) => "Request Header Fields Too Large\n",
            Self::Head(RejectedHead::TooSlow) | Self::BodyTooSlow => "Request Timeout\n",
            Self::Head(RejectedHead::UnknownCoding) => "Not Implemented\n",
            Self::Head(_) | Self::BadHost | Self::HostMismatch | Self::BadTarget | Self::BodyBroken => "Bad Request\n",
            Self::Connect => "Method Not Allowed\n",
            Self::Misdirected => "Misdirected Request\n",
            Self::BodyTooLarge => "Content Too Large\n",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rejection_has_its_reason_and_error_type() {
        use RejectedHead::{Framing, Malformed, TargetTooLong, TooLarge, TooSlow, UnknownCoding};
        use RequestRejection as R;
        let (denied, error) = ("http_request_denied", "http_request_error");
        for (rejection, status, reason, cause, error_type) in [
            (R::Head(Malformed), 400, "malformed", "malformed", error),
            (R::Head(Framing), 400, "framing", "framing", error),
            (R::Head(UnknownCoding), 501, "framing", "unknown_coding", error),
            (R::Head(TargetTooLong), 414, "target_too_long", "target_too_long", error),
            (R::Head(TooLarge), 431, "head_too_large", "head_too_large", error),
            (R::Head(TooSlow), 408, "head_too_slow", "head_too_slow", error),
            (R::BadHost, 400, "bad_host", "bad_host", error),
            (R::HostMismatch, 400, "host_mismatch", "host_mismatch", error),
            (R::BadTarget, 400, "bad_target", "bad_target", error),
            (R::Connect, 405, "connect", "connect", denied),
            (R::Misdirected, 421, "misdirected", "misdirected", error),
            (R::BodyTooLarge, 413, "body_too_large", "body_too_large", error),
            (R::BodyTooSlow, 408, "body_too_slow", "body_too_slow", error),
            (R::BodyBroken, 400, "body_broken", "body_broken", error),
        ] {
            let rejection = rejection.rejection();
            assert_eq!(rejection.status(), status, "{reason}");
            let names = (rejection.reason(), rejection.cause(), rejection.error_type().as_str());
            assert_eq!(names, (reason, cause, error_type));
            assert_eq!(rejection.is_malformed_head(), !reason.starts_with("body_") && status != 421, "{reason}");
        }
    }
}
