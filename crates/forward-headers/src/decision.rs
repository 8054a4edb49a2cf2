//! The decision about a request, for logs and metrics.

/// The reason why a request was not forwarded, as a response extension.
///
/// The response to a request that was forwarded has no such extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForwardHeadersDecision {
    /// The request has passed this proxy too often: rejected with 508.
    LoopDetected,
    /// The `Max-Forwards` of the request was zero, so this proxy responded to it.
    FinalRecipient,
}
