//! A tower layer that applies header rules.

use std::sync::Arc;

use tower_layer::Layer;

use crate::rule::HeaderRule;
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
    request: Option<Arc<[HeaderRule]>>,
    response: Option<Arc<[HeaderRule]>>,
}

impl HeaderRulesLayer {
    /// Creates a layer without rules.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a layer with checked rules.
    pub(crate) fn from_rules(request: Vec<HeaderRule>, response: Vec<HeaderRule>) -> Self {
        let shared = |rules: Vec<HeaderRule>| (!rules.is_empty()).then(|| rules.into());
        Self { request: shared(request), response: shared(response) }
    }
}

impl<S> Layer<S> for HeaderRulesLayer {
    type Service = HeaderRulesService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        HeaderRulesService::new(inner, self.request.clone(), self.response.clone())
    }
}
