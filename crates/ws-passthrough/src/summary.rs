//! The summary of a closed tunnel.

use std::borrow::Cow;
use std::time::Duration;

use crate::handshake::WEBSOCKET;

/// The summary of a closed tunnel, for logs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TunnelSummary {
    /// The path of the handshake that opened the tunnel.
    pub path: Box<str>,
    /// The protocol of the tunnel: `websocket`, or an [allowed protocol](crate::WsPassthroughLayer::upgrade_protocols).
    ///
    /// For other protocols, messages are not counted and close codes are not known.
    pub protocol: Cow<'static, str>,
    /// The number of bytes received from the client, including frame headers.
    pub bytes_from_client: u64,
    /// The number of bytes received from the upstream, including frame headers.
    pub bytes_from_upstream: u64,
    /// The number of complete messages received from the client.
    pub messages_from_client: u64,
    /// The number of complete messages received from the upstream.
    pub messages_from_upstream: u64,
    /// The time from the response to the handshake until the tunnel was closed.
    pub duration: Duration,
    /// The endpoint that closed the tunnel, or the reason that this proxy closed it.
    pub closed_by: ClosedBy,
    /// The close code that the client sent, if any.
    pub close_from_client: Option<u16>,
    /// The close code that the upstream sent, if any.
    pub close_from_upstream: Option<u16>,
    /// The close code that this proxy sent, if any.
    pub close_from_proxy: Option<u16>,
}

impl TunnelSummary {
    /// Returns the close code of the endpoint that closed the tunnel, or of this proxy if the proxy closed it.
    #[must_use]
    pub fn close_code(&self) -> Option<u16> {
        match self.closed_by {
            ClosedBy::Client => self.close_from_client,
            ClosedBy::Upstream => self.close_from_upstream,
            _ => self.close_from_proxy,
        }
    }

    /// Creates the summary of a tunnel without traffic.
    pub(crate) fn new(path: Box<str>, duration: Duration, closed_by: ClosedBy) -> Self {
        Self {
            path,
            protocol: WEBSOCKET.into(),
            bytes_from_client: 0,
            bytes_from_upstream: 0,
            messages_from_client: 0,
            messages_from_upstream: 0,
            duration,
            closed_by,
            close_from_client: None,
            close_from_upstream: None,
            close_from_proxy: None,
        }
    }
}

/// The endpoint that closed a tunnel, or the reason that this proxy closed it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ClosedBy {
    /// The client sent a Close frame or disconnected.
    Client,
    /// The upstream sent a Close frame or disconnected.
    Upstream,
    /// The tunnel had no traffic for the [idle timeout](crate::WsPassthroughLayer::idle_timeout).
    IdleTimeout,
    /// The tunnel reached its [maximum lifetime](crate::WsPassthroughLayer::max_lifetime).
    Lifetime,
    /// An endpoint did not reply to a [ping](crate::WsPassthroughLayer::ping) in time.
    PongTimeout,
    /// The client violated the WebSocket protocol, or a limit of [message
    /// mode](crate::WsPassthroughLayer::max_message_size).
    ClientFault,
    /// The upstream violated the WebSocket protocol, or a limit of [message
    /// mode](crate::WsPassthroughLayer::max_message_size).
    UpstreamFault,
    /// The [`on_message`](crate::WsPassthroughLayer::on_message) function closed the tunnel.
    Hook,
    /// A call of [`Tunnels::restart_within`](crate::Tunnels::restart_within) closed the tunnel.
    Restart,
    /// A call of [`Tunnels::drain`](crate::Tunnels::drain) or [`drain_within`](crate::Tunnels::drain_within) closed the
    /// tunnel.
    Drain,
}

impl ClosedBy {
    /// All reasons for the end of a tunnel, for metrics that count each reason.
    pub const ALL: [Self; 10] = [
        Self::Client,
        Self::Upstream,
        Self::IdleTimeout,
        Self::Lifetime,
        Self::PongTimeout,
        Self::ClientFault,
        Self::UpstreamFault,
        Self::Hook,
        Self::Restart,
        Self::Drain,
    ];

    /// Returns the name of the reason, for logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::IdleTimeout => "idle-timeout",
            Self::Lifetime => "lifetime",
            Self::PongTimeout => "pong-timeout",
            Self::ClientFault => "client-fault",
            Self::UpstreamFault => "upstream-fault",
            Self::Hook => "hook",
            Self::Restart => "restart",
            Self::Drain => "drain",
        }
    }
}
