//! The decision about an upgrade request, for logs and metrics.

use crate::rejection::WsRejection;

/// A response extension: the decision about an upgrade request.
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
    /// The inner service did not respond with 101, and its response was forwarded.
    Declined,
    /// The requested protocol is not allowed, and the request was forwarded without the upgrade. The request was
    /// forwarded without it.
    Ignored,
}
