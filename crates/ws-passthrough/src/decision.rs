//! The decision about an upgrade request, for logs and metrics.

/// The decision about an upgrade request, as a response extension.
///
/// The response to a request without an upgrade has no such extension. That to a rejected request has a
/// [`Rejection`](crate::Rejection) instead.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum WsDecision {
    /// The inner service accepted the upgrade, and a tunnel is open.
    ///
    /// It carries a WebSocket, or another [allowed protocol](crate::WsPassthroughLayer::upgrade_protocols).
    Tunnelled,
    /// The inner service responded with a status other than 101, and the response was forwarded.
    Declined,
    /// The requested protocol is not allowed, and the request was forwarded without the upgrade.
    Ignored,
}
