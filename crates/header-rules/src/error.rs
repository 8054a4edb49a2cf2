//! Errors in header rules.

use http::HeaderName;

/// The error for an invalid header rule.
///
/// Messages contain no field values, because they can be secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderRuleError {
    /// The text is not a rule.
    #[error("bad header rule for {name:?}: {reason}")]
    Syntax {
        /// The text before the value.
        name: String,
        /// The reason why the text is not a rule.
        reason: &'static str,
    },
    /// The rule is for a request field that rules cannot change.
    #[error("request field {name} cannot be changed by a rule: {reason}")]
    RequestField {
        /// The name of the field.
        name: HeaderName,
        /// The reason why rules cannot change the field.
        reason: &'static str,
    },
    /// The rule is for a response field that rules cannot change.
    #[error("response field {name} cannot be changed by a rule: {reason}")]
    ResponseField {
        /// The name of the field.
        name: HeaderName,
        /// The reason why rules cannot change the field.
        reason: &'static str,
    },
}
