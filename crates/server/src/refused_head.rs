//! Heads that the server rejected.

/// Request extension: the connection carried no request that may be served, and why. The request
/// that carries it is a stand-in: its method, target and fields mean nothing, and the connection
/// ends after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusedHead {
    /// Not a request by the grammar of RFC 9112: 400.
    Malformed,
    /// The body's length has more than one reading (RFC 9112 §6.3): 400.
    Framing,
    /// The target is too long: 414.
    TargetTooLong,
    /// The head, or the number of its fields, is too large: 431.
    TooLarge,
    /// The head did not arrive in time: 408.
    TooSlow,
    /// A transfer coding other than `chunked` (RFC 9112 §6.1): 501.
    UnknownCoding,
}
