//! The error type for invalid rules.

/// The error for invalid [`PathRules`](crate::PathRules).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathRulesError {
    /// A rule contains an invalid glob.
    #[error("bad path glob {glob:?}: {reason}")]
    InvalidGlob {
        /// The text of the invalid glob.
        glob: String,
        /// The reason that the glob is invalid.
        reason: String,
    },
    /// An entry of the rule list is neither a list name nor a glob.
    #[error("bad path rule {entry:?}: neither a list (default, strict) nor a glob that begins with / or *")]
    UnknownEntry {
        /// The text of the invalid entry.
        entry: String,
    },
    /// The rule list is empty, so the filter would block no path.
    #[error("a path filter needs at least one rule")]
    NoRules,
}
