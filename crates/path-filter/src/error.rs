//! The error for invalid rules.

/// The error for invalid [`PathRules`](crate::PathRules).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathRulesError {
    /// A rule contains an invalid glob.
    #[error("bad path glob {glob:?}: {reason}")]
    InvalidGlob {
        /// The glob, as it was written.
        glob: String,
        /// The reason why the glob is invalid.
        reason: String,
    },
    /// A list entry is neither a list name nor a glob.
    #[error("bad path rule {entry:?}: neither a list (default, strict) nor a glob that begins with / or *")]
    UnknownEntry {
        /// The entry, as it was written.
        entry: String,
    },
    /// There are no rules, so the filter would block nothing.
    #[error("a path filter needs at least one rule")]
    NoRules,
}
