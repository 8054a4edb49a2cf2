//! The reason that a request was not forwarded, for logs and metrics.

/// The reason that a request was not forwarded, as a response extension.
///
/// The response to a request that was forwarded has no such extension. That to a rejected request has a
/// [`Rejection`](crate::Rejection) instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForwardHeadersDecision {
    /// The `Max-Forwards` of the request was zero, so this proxy responded to it.
    FinalRecipient,
}
