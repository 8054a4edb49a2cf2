//! The explanation of a path filter decision: each decoding of the path, and the rule that blocks or allows it.

use std::fmt;

use crate::rule::Rule;

pub(crate) const TOO_MANY_DECODINGS: &str = "(too many decodings)";

/// The decodings of a path, and the rule that blocks or allows each decoding.
///
/// [`Display`](fmt::Display) formats them as a table.
#[derive(Clone, Debug)]
pub struct PathExplanation {
    pub(crate) path: String,
    pub(crate) decodings: Vec<(String, Option<Rule>)>,
}

impl PathExplanation {
    /// Returns whether the path is blocked.
    pub fn is_blocked(&self) -> bool {
        self.decodings.is_empty()
            || self.decodings.iter().any(|(_, rule)| rule.as_ref().is_some_and(|rule| rule.is_blocking))
    }
}

impl fmt::Display for PathExplanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.path, if self.is_blocked() { "blocked" } else { "allowed" })?;
        if self.decodings.is_empty() {
            writeln!(f, "  {TOO_MANY_DECODINGS}")?;
        }
        for (decoded_path, rule) in &self.decodings {
            match rule {
                Some(Rule { glob, is_blocking: true }) => writeln!(f, "  {decoded_path}  blocked by {glob}")?,
                Some(Rule { glob, is_blocking: false }) => writeln!(f, "  {decoded_path}  allowed by {glob}")?,
                None => writeln!(f, "  {decoded_path}")?,
            }
        }
        Ok(())
    }
}
