//! A builder for the layer.

use crate::canonical_host::CanonicalHost;
use crate::error::TargetRuleError;
use crate::fixed_response::FixedResponse;
use crate::layer::TargetRulesLayer;
use crate::redirect::{Redirect, Rewrite};
use crate::rules::Rules;
use crate::trailing_slash::TrailingSlash;

/// A builder for [`TargetRulesLayer`], created by [`TargetRulesLayer::builder`].
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct TargetRulesBuilder {
    rules: Rules,
    canonical_host: Option<String>,
}

impl TargetRulesLayer {
    /// Returns a builder that adds rules.
    pub fn builder() -> TargetRulesBuilder {
        TargetRulesBuilder::default()
    }
}

impl TargetRulesBuilder {
    /// Redirects requests for all other hosts to this one, with 301 for GET and HEAD and 308 for other methods.
    ///
    /// The host has no port: the port, the path and the query of the request stay.
    pub fn canonical_host(mut self, host: impl Into<String>) -> Self {
        self.canonical_host = Some(host.into());
        self
    }

    /// Adds a redirect. The first redirect that matches applies.
    pub fn redirect(mut self, rule: Redirect) -> Self {
        self.rules.redirects.push(rule);
        self
    }

    /// Adds a fixed response. The first one that matches applies.
    pub fn respond(mut self, rule: FixedResponse) -> Self {
        self.rules.responses.push(rule);
        self
    }

    /// Redirects GET and HEAD requests to paths of this form, with 301; default [`TrailingSlash::AsIs`].
    pub fn trailing_slash(mut self, form: TrailingSlash) -> Self {
        self.rules.trailing_slash = form;
        self
    }

    /// Adds a rewrite. The first rewrite that matches applies, once.
    pub fn rewrite(mut self, rule: Rewrite) -> Self {
        self.rules.rewrites.push(rule);
        self
    }

    /// Builds the layer.
    ///
    /// # Errors
    ///
    /// Returns an error if the canonical host is not a host without a port.
    pub fn build(self) -> Result<TargetRulesLayer, TargetRuleError> {
        let Self { mut rules, canonical_host } = self;
        if let Some(text) = canonical_host {
            let host = CanonicalHost::parse(&text);
            let invalid = || TargetRuleError::new(&text, "the canonical host must be a host name without a port");
            rules.canonical_host = Some(host.ok_or_else(invalid)?);
        }
        Ok(TargetRulesLayer::from_rules(rules))
    }
}
