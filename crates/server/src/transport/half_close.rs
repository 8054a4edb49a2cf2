//! The policy for clients that half-close the connection.

/// The policy for clients that half-close the connection while a request is in flight.
///
/// TCP does not distinguish a client that has finished sending, but still reads, from one that has closed its socket. If
/// the policy assumes that the client has closed the connection, its request is cancelled. A connection that is reset, or
/// half-closed while an upgrade is pending, always counts as closed. So does a client that half-closes after more than 16 KiB
/// of further requests, unless the policy is [`Always`](Self::Always).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HalfClose {
    /// Serves a client that half-closes within 200 ms of its request, and otherwise cancels the request.
    #[default]
    WithRequest,
    /// Always serves a client that half-closed, as HAProxy does by default.
    Always,
    /// Always cancels the request of a client that half-closed, as nginx and Go do.
    Never,
}
