//! The decision about an upgrade request, for logs and metrics.

use crate::rejection::WsRejection;

/// The decision about an upgrade request, as a response extension.
///
/// The response to a request without an upgrade has no such extension.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum WsDecision {
    /// The inner service accepted the upgrade, and a tunnel is open.
    ///
    /// It carries a WebSocket, or another [allowed protocol](crate::WsPassthroughLayer::upgrade_protocols).
    Tunnelled,
    /// This layer rejected the handshake.
    Rejected(WsRejection),
    /// The inner service responded with another status than 101, which was forwarded.
    Declined,
    /// The upgrade was to a protocol that is not allowed. The request was forwarded without it.
    Ignored,
}
