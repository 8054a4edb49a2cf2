//! The path filter's decision about a request, for logs and metrics.

use std::sync::Arc;

/// The path filter's decision about a request, as a response extension.
///
/// The response to a request that no rule blocks has no such extension. That to a rejected request has a
/// [`Rejection`](crate::Rejection) instead.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathFilterDecision {
    /// The path is blocked, but [shadow mode](crate::PathFilterLayer::shadow) forwarded the request.
    WouldBlock {
        /// The text of the rule that blocks the path, as in the configuration.
        rule: Arc<str>,
    },
}
