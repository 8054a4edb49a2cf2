//! The error for invalid rules.

/// The error for an invalid rule about request targets.
///
/// The message names the rule and the reason: `bad rule "/a -> b": the target must begin with /, https:// or http://`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad rule {rule:?}: {reason}")]
pub struct TargetRuleError {
    rule: String,
    reason: String,
}

impl TargetRuleError {
    pub(crate) fn new(rule: &str, reason: impl Into<String>) -> Self {
        Self { rule: rule.to_owned(), reason: reason.into() }
    }

    /// Returns the text of the rule.
    pub fn rule(&self) -> &str {
        &self.rule
    }

    /// Returns the reason why the rule is invalid.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}
