//! Rejected WebSocket handshakes, and the responses to them.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{Response, StatusCode};
use http_body_util::{Either, Full};

use crate::decision::WsDecision;
use crate::future::ResponseBody;
use crate::handshake::UpgradeMethod;

/// The reason that this layer rejected a handshake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum WsRejection {
    /// 400: the WebSocket handshake violates RFC 6455 §4.2.1.
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
#[non_exhaustive]
pub enum BadHandshake {
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
    /// Returns the status code of the response to the rejected handshake.
    #[must_use]
    pub fn status(self) -> StatusCode {
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

    /// Returns a description of the rejection, for logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadHandshake(BadHandshake::Method) => "the method of the WebSocket handshake is not GET",
            Self::BadHandshake(BadHandshake::HttpVersion) => "version is not HTTP/1.1",
            Self::BadHandshake(BadHandshake::Key) => "invalid Sec-WebSocket-Key",
            Self::BadHandshake(BadHandshake::Body) => "the WebSocket handshake has a body",
            Self::UnsupportedVersion => "Sec-WebSocket-Version is not 13",
            Self::ForbiddenPath => "WebSockets are not allowed on this path",
            Self::ForbiddenOrigin => "the origin is not allowed to open WebSockets",
            Self::TooManyTunnels => "the maximum number of tunnels is open",
            Self::TooManyTunnelsPerClient => "the client has the maximum number of tunnels open",
            Self::UnsupportedProtocol => "extended CONNECT for an unsupported protocol",
            Self::UpgradeUnavailable => "the server does not support connection upgrades",
            Self::Draining => "tunnels are being drained",
            Self::InvalidSwitch => "the upstream responded with an invalid 101",
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
        let mut response = Response::new(Either::Right(Full::new(Bytes::from_static(body))));
        *response.status_mut() = self.status();
        response.extensions_mut().insert(WsDecision::Rejected(self));
        let mut set = |name: HeaderName, value| response.headers_mut().insert(name, HeaderValue::from_static(value));
        set(CONTENT_TYPE, "text/plain; charset=utf-8");
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
        if matches!(self, Self::Draining | Self::TooManyTunnels | Self::TooManyTunnelsPerClient) {
            set(RETRY_AFTER, "1");
        }
        response
    }
}
