//! What was decided, and the answer to a handshake that goes no further.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{Response, StatusCode};
use http_body_util::{Either, Full};

use crate::handshake::By;

/// What became of a request to switch protocols: an extension of the response. A response to any
/// other request has none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum WsDecision {
    /// Both ends agreed, and a tunnel is open: a WebSocket, or [what else is
    /// allowed](crate::WsPassthroughLayer::upgrades).
    Tunnelled,
    /// Answered here.
    Refused(Refusal),
    /// The inner service answered with something else than 101, and that was passed on.
    Declined,
    /// It was for something that is not let through, and went on as an ordinary request.
    Ignored,
}

/// Why a handshake was answered here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Refusal {
    /// 400: not the handshake of RFC 6455 §4.2.1.
    BadHandshake(BadHandshake),
    /// 426: a version other than 13.
    UnsupportedVersion,
    /// 403: no WebSockets here.
    ForbiddenPath,
    /// 403: not from [pages of this origin](crate::WsOrigins).
    ForbiddenOrigin,
    /// 503: as many tunnels are open as may be.
    TooMany,
    /// 429: this client has as many tunnels as one may have.
    TooManyOfClient,
    /// 501: an extended CONNECT (RFC 8441) for something else than a WebSocket that is not
    /// [allowed](crate::WsPassthroughLayer::upgrades).
    UnknownProtocol,
    /// 501: the server that this layer is used in can't let go of the connection.
    NoUpgrade,
    /// 503: the tunnels are being [drained](crate::Tunnels::drain).
    Draining,
    /// 502: the inner service switched protocols unasked, to another one, with a wrong
    /// `Sec-WebSocket-Accept`, or without a connection to show for it.
    BadSwitch,
}

/// What is wrong with a handshake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum BadHandshake {
    /// The method is not GET.
    Method,
    /// Not HTTP/1.1.
    HttpVersion,
    /// `Sec-WebSocket-Key` is missing, repeated, or not sixteen bytes in Base64.
    Key,
    /// It announces a body.
    Body,
}

impl Refusal {
    /// The status that the client got.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Refusal::BadHandshake(_) => StatusCode::BAD_REQUEST,
            Refusal::UnsupportedVersion => StatusCode::UPGRADE_REQUIRED,
            Refusal::ForbiddenPath | Refusal::ForbiddenOrigin => StatusCode::FORBIDDEN,
            Refusal::UnknownProtocol | Refusal::NoUpgrade => StatusCode::NOT_IMPLEMENTED,
            Refusal::Draining | Refusal::TooMany => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::TooManyOfClient => StatusCode::TOO_MANY_REQUESTS,
            Refusal::BadSwitch => StatusCode::BAD_GATEWAY,
        }
    }

    /// A few words for a log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::BadHandshake(BadHandshake::Method) => "method is not GET",
            Refusal::BadHandshake(BadHandshake::HttpVersion) => "version is not HTTP/1.1",
            Refusal::BadHandshake(BadHandshake::Key) => "bad Sec-WebSocket-Key",
            Refusal::BadHandshake(BadHandshake::Body) => "handshake with a body",
            Refusal::UnsupportedVersion => "Sec-WebSocket-Version is not 13",
            Refusal::ForbiddenPath => "no WebSockets here",
            Refusal::ForbiddenOrigin => "no WebSockets for this origin",
            Refusal::TooMany => "too many WebSockets",
            Refusal::TooManyOfClient => "too many WebSockets of this client",
            Refusal::UnknownProtocol => "extended CONNECT for another protocol",
            Refusal::NoUpgrade => "connection can't be upgraded",
            Refusal::Draining => "draining",
            Refusal::BadSwitch => "upstream switched protocols wrongly",
        }
    }

    /// The one place where refusals are made: the answer to a request that asked `by`.
    pub(crate) fn response<B>(self, by: By) -> Response<Either<B, Full<Bytes>>> {
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
        response.extensions_mut().insert(WsDecision::Refused(self));
        let mut set = |name: HeaderName, value| response.headers_mut().insert(name, HeaderValue::from_static(value));
        set(CONTENT_TYPE, "text/plain; charset=utf-8");
        if self == Refusal::UnsupportedVersion {
            // RFC 6455 §4.4
            set(SEC_WEBSOCKET_VERSION, "13");
            // RFC 8441 §4: an extended CONNECT knows no `Upgrade`.
            if by == By::Upgrade {
                // RFC 9110 §15.5.22
                set(UPGRADE, "websocket");
                set(CONNECTION, "Upgrade");
            }
        }
        if matches!(self, Refusal::Draining | Refusal::TooMany | Refusal::TooManyOfClient) {
            set(RETRY_AFTER, "1");
        }
        response
    }
}
