//! Rejected WebSocket handshakes, and the responses to them.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HeaderName, HeaderValue, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{Response, StatusCode};
use rproxy_core::{ProxyErrorType, Rejection, ResponseBody};

use crate::handshake::UpgradeMethod;

/// The reason that this layer rejected a handshake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum WsRejection {
    /// 400: the handshake violates RFC 6455 §4.2.1.
    BadHandshake(BadHandshake),
    /// 426: the WebSocket version is not 13.
    UnsupportedVersion,
    /// 403: the path is not in the [allowed paths](crate::WsPassthroughLayer::paths).
    ForbiddenPath,
    /// 403: the origin is not in the [allowed origins](crate::WsPassthroughLayer::origins).
    ForbiddenOrigin,
    /// 503: the [maximum number of tunnels](crate::WsPassthroughLayer::max_tunnels) is open.
    TooManyTunnels,
    /// 429: the client has the maximum number of tunnels open.
    ///
    /// See [`max_tunnels_per_client`](crate::WsPassthroughLayer::max_tunnels_per_client).
    TooManyTunnelsPerClient,
    /// 501: the handshake is an extended CONNECT (RFC 8441) for a protocol that is not allowed.
    ///
    /// See [`upgrade_protocols`](crate::WsPassthroughLayer::upgrade_protocols).
    UnsupportedProtocol,
    /// 501: the HTTP server does not support connection upgrades.
    UpgradeUnavailable,
    /// 503: the tunnels of this layer are being [drained](crate::Tunnels::drain).
    Draining,
    /// 502: the inner service responded with an invalid 101 response.
    ///
    /// The request asked for no upgrade, the 101 names another protocol or has a wrong `Sec-WebSocket-Accept`, or there is
    /// no upgraded connection.
    InvalidSwitch,
}

/// The violation of RFC 6455 for which a handshake is rejected with 400.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum BadHandshake {
    /// The method of the handshake is not GET.
    Method,
    /// The HTTP version of the handshake is not HTTP/1.1.
    HttpVersion,
    /// `Sec-WebSocket-Key` is missing, repeated, or not 16 bytes in Base64.
    Key,
    /// The WebSocket handshake has a body.
    Body,
}

impl WsRejection {
    /// Returns the status of the response to the rejected handshake.
    fn status(self) -> StatusCode {
        match self {
            Self::BadHandshake(_) => StatusCode::BAD_REQUEST,
            Self::UnsupportedVersion => StatusCode::UPGRADE_REQUIRED,
            Self::ForbiddenPath | Self::ForbiddenOrigin => StatusCode::FORBIDDEN,
            Self::UnsupportedProtocol | Self::UpgradeUnavailable => StatusCode::NOT_IMPLEMENTED,
            Self::Draining | Self::TooManyTunnels => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooManyTunnelsPerClient => StatusCode::TOO_MANY_REQUESTS,
            Self::InvalidSwitch => StatusCode::BAD_GATEWAY,
        }
    }

    /// Returns the cause of the rejection, as [`Rejection::cause`] reports it.
    fn cause(self) -> &'static str {
        match self {
            Self::BadHandshake(BadHandshake::Method) => "bad_method",
            Self::BadHandshake(BadHandshake::HttpVersion) => "bad_http_version",
            Self::BadHandshake(BadHandshake::Key) => "bad_key",
            Self::BadHandshake(BadHandshake::Body) => "unexpected_body",
            Self::UnsupportedVersion => "unsupported_version",
            Self::ForbiddenPath => "forbidden_path",
            Self::ForbiddenOrigin => "forbidden_origin",
            Self::TooManyTunnels => "too_many_tunnels",
            Self::TooManyTunnelsPerClient => "too_many_tunnels_per_client",
            Self::UnsupportedProtocol => "unsupported_protocol",
            Self::UpgradeUnavailable => "upgrade_unavailable",
            Self::Draining => "draining",
            Self::InvalidSwitch => "invalid_switch",
        }
    }

    fn error_type(self) -> ProxyErrorType {
        match self {
            Self::ForbiddenPath
            | Self::ForbiddenOrigin
            | Self::TooManyTunnels
            | Self::TooManyTunnelsPerClient
            | Self::Draining => ProxyErrorType::HttpRequestDenied,
            Self::InvalidSwitch => ProxyErrorType::HttpProtocolError,
            Self::BadHandshake(_) | Self::UnsupportedVersion | Self::UnsupportedProtocol | Self::UpgradeUnavailable => {
                ProxyErrorType::HttpRequestError
            }
        }
    }

    /// Creates the response to a rejected handshake.
    pub(crate) fn response<B>(self, method: UpgradeMethod) -> Response<ResponseBody<B>> {
        let body: &'static [u8] = match self.status() {
            StatusCode::BAD_REQUEST => b"Bad Request\n",
            StatusCode::UPGRADE_REQUIRED => b"Upgrade Required\n",
            StatusCode::FORBIDDEN => b"Forbidden\n",
            StatusCode::NOT_IMPLEMENTED => b"Not Implemented\n",
            StatusCode::TOO_MANY_REQUESTS => b"Too Many Requests\n",
            StatusCode::SERVICE_UNAVAILABLE => b"Service Unavailable\n",
            _ => b"Bad Gateway\n",
        };
        let mut rejection = Rejection::new("ws_passthrough", "websocket", self.status())
            .with_cause(self.cause())
            .with_error_type(self.error_type());
        if matches!(self, Self::Draining | Self::TooManyTunnels | Self::TooManyTunnelsPerClient) {
            rejection = rejection.with_retry_after(Duration::from_secs(1));
        }
        let mut response = rejection.into_response(ResponseBody::full(Bytes::from_static(body)));
        let mut set = |name: HeaderName, value| response.headers_mut().insert(name, HeaderValue::from_static(value));
        if self == Self::UnsupportedVersion {
            // RFC 6455 §4.4
            set(SEC_WEBSOCKET_VERSION, "13");
            // RFC 8441 §4: HTTP/2 has no `Upgrade`.
            if method == UpgradeMethod::Upgrade {
                // RFC 9110 §15.5.22
                set(UPGRADE, "websocket");
                set(CONNECTION, "Upgrade");
            }
        }
        response
    }
}
