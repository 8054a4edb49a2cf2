//! A tower layer that applies header rules.

use std::sync::Arc;

use tower_layer::Layer;

use crate::rule::{HeaderRule, Rules};
use crate::service::HeaderRulesService;

/// A layer that changes header fields of requests and responses by rules.
///
/// The default has no rules and changes nothing.
///
/// # Examples
///
/// ```
/// use rproxy_header_rules::HeaderRulesLayer;
///
/// let layer = HeaderRulesLayer::builder().response("X-Frame-Options: DENY".parse()?).build()?;
/// # let _ = layer;
/// # Ok::<(), rproxy_header_rules::HeaderRuleError>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct HeaderRulesLayer {
    /// `None` without rules, so that a service without rules is as small as possible.
    rules: Option<Arc<Rules>>,
}

impl HeaderRulesLayer {
    /// Creates a layer without rules.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a layer with checked rules.
    pub(crate) fn from_rules(request: Vec<HeaderRule>, response: Vec<HeaderRule>) -> Self {
        let is_empty = request.is_empty() && response.is_empty();
        let rules = || Arc::new(Rules { request: request.into(), response: response.into() });
        Self { rules: (!is_empty).then(rules) }
    }
}

impl<S> Layer<S> for HeaderRulesLayer {
    type Service = HeaderRulesService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        HeaderRulesService::new(inner, self.rules.clone())
    }
}
