//! A builder that checks the rules.

use crate::error::HeaderRuleError;
use crate::layer::HeaderRulesLayer;
use crate::rule::{Direction, HeaderRule};

/// A builder for [`HeaderRulesLayer`], created by [`HeaderRulesLayer::builder`].
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct HeaderRulesBuilder {
    request: Vec<HeaderRule>,
    response: Vec<HeaderRule>,
}

impl HeaderRulesLayer {
    /// Returns a builder that adds rules.
    pub fn builder() -> HeaderRulesBuilder {
        HeaderRulesBuilder::default()
    }
}

impl HeaderRulesBuilder {
    /// Adds a rule for requests, after the other ones.
    pub fn request(mut self, rule: HeaderRule) -> Self {
        self.request.push(rule);
        self
    }

    /// Adds a rule for responses, after the other ones.
    pub fn response(mut self, rule: HeaderRule) -> Self {
        self.response.push(rule);
        self
    }

    /// Builds the layer.
    ///
    /// # Errors
    ///
    /// Returns an error if a rule is for a [reserved field](crate#reserved-fields).
    pub fn build(self) -> Result<HeaderRulesLayer, HeaderRuleError> {
        self.request.iter().try_for_each(|rule| rule.check(Direction::Request))?;
        self.response.iter().try_for_each(|rule| rule.check(Direction::Response))?;
        Ok(HeaderRulesLayer::from_rules(self.request, self.response))
    }
}
