//! The path filter's decision about a request, for logs and metrics.

use std::sync::Arc;

/// The path filter's decision about a request, as a response extension.
///
/// The response to a request that no rule blocks has no such extension.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathFilterDecision {
    /// A rule blocks the path, and the request was rejected.
    Blocked {
        /// The text of the rule that blocks the path.
        rule: Arc<str>,
    },
    /// A rule blocks the path, but [shadow mode](crate::PathFilterLayer::shadow) forwarded the request.
    WouldBlock {
        /// The rule that blocks the path, as it was written.
        rule: Arc<str>,
    },
}
