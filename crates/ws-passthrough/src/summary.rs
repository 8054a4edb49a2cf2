//! What is known of a tunnel at its end.

use std::time::Duration;

/// What a tunnel was: one line for a log.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TunnelSummary {
    /// The path of the handshake.
    pub path: Box<str>,
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
}

impl TunnelSummary {
    /// Of one that ended before it began.
    pub(crate) fn unopened(path: Box<str>, duration: Duration, closed_by: ClosedBy) -> Self {
        Self {
            path,
            bytes_from_client: 0,
            bytes_from_upstream: 0,
            messages_from_client: 0,
            messages_from_upstream: 0,
            duration,
            closed_by,
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
    /// [`Tunnels::drain`](crate::Tunnels::drain).
    Drain,
}

impl ClosedBy {
    /// A word for a log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ClosedBy::Client => "client",
            ClosedBy::Upstream => "upstream",
            ClosedBy::IdleTimeout => "idle-timeout",
            ClosedBy::Drain => "drain",
        }
    }
}
