//! The reason that a server rejected a request head.

/// Request extension: the reason that the server rejected the request head.
///
/// The request that carries it is a placeholder: its method, target and header fields have no meaning. The service
/// should respond with an error, as `RequestGuardLayer` of `rproxy-request-guard` does. Over HTTP/1.1, the connection
/// is closed after the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RejectedHead {
    /// 400: the request head does not match the grammar of RFC 9112.
    Malformed,
    /// 400: the length of the request body is ambiguous (RFC 9112 §6.3).
    Framing,
    /// 414: the request target is too long.
    TargetTooLong,
    /// 431: the request head is too large, or has too many fields.
    TooLarge,
    /// 408: the request head did not arrive in time.
    TooSlow,
    /// 501: the transfer coding of the request is not `chunked` (RFC 9112 §6.1).
    UnknownCoding,
}
