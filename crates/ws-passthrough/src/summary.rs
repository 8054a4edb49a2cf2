//! What is known of a tunnel at its end.

use std::borrow::Cow;
use std::time::Duration;

use crate::handshake::WEBSOCKET;

/// What a tunnel was: one line for a log.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TunnelSummary {
    /// The path of the handshake.
    pub path: Box<str>,
    /// What was spoken: `websocket`, or one of [the others](crate::WsPassthroughLayer::upgrades). Of those, neither
    /// messages nor codes are known.
    pub protocol: Cow<'static, str>,
    /// Bytes that the client sent, frame headers included.
    pub bytes_from_client: u64,
    /// Bytes that the upstream sent, frame headers included.
    pub bytes_from_upstream: u64,
    /// Messages that the client sent in whole.
    pub messages_from_client: u64,
    /// Messages that the upstream sent in whole.
    pub messages_from_upstream: u64,
    /// From the answer to the handshake to the end.
    pub duration: Duration,
    /// Who ended it.
    pub closed_by: ClosedBy,
    /// The code of the Close that the client said, if it said one with a code.
    pub close_from_client: Option<u16>,
    /// The code of the Close that the upstream said, if it said one with a code.
    pub close_from_upstream: Option<u16>,
    /// The code of the Close that was said here, if one was.
    pub close_from_proxy: Option<u16>,
}

impl TunnelSummary {
    /// The code that says why it ended: that of whoever closed it.
    #[must_use]
    pub fn close_code(&self) -> Option<u16> {
        match self.closed_by {
            ClosedBy::Client => self.close_from_client,
            ClosedBy::Upstream => self.close_from_upstream,
            _ => self.close_from_proxy,
        }
    }

    /// Of one that nothing went through yet.
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

/// Who was the first to say Close, or to end the connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ClosedBy {
    /// The client.
    Client,
    /// The upstream.
    Upstream,
    /// Nobody said anything for the [idle time](crate::WsPassthroughLayer::idle_timeout).
    IdleTimeout,
    /// It was open for [as long as it may be](crate::WsPassthroughLayer::lifetime).
    Lifetime,
    /// An end did not answer a [ping](crate::WsPassthroughLayer::ping).
    PongTimeout,
    /// The client did what it may not: see [`max_message_size`](crate::WsPassthroughLayer::max_message_size)
    /// and [`message_rate`](crate::WsPassthroughLayer::message_rate).
    ClientFault,
    /// The upstream did what it may not.
    UpstreamFault,
    /// [`on_message`](crate::WsPassthroughLayer::on_message) said so.
    Hook,
    /// [`Tunnels::restart_within`](crate::Tunnels::restart_within).
    Restart,
    /// [`Tunnels::drain`](crate::Tunnels::drain).
    Drain,
}

impl ClosedBy {
    /// All of them.
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

    /// A word for a log.
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
