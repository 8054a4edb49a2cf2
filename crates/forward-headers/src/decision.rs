//! The reason that a request was not forwarded, for logs and metrics.

/// The reason that a request was not forwarded, as a response extension.
///
/// The response to a request that was forwarded has no such extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForwardHeadersDecision {
    /// A loop: the request has passed this proxy too often and was rejected with 508.
    LoopDetected,
    /// The `Max-Forwards` of the request was zero, so this proxy responded instead of forwarding.
    FinalRecipient,
}
