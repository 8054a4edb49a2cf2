//! A tower layer that redirects, rewrites and responds by the target of a request.

use std::sync::Arc;

use http::Uri;
use tower_layer::Layer;

use crate::rules::Rules;
use crate::service::TargetRulesService;

/// A layer for redirects, rewrites and fixed responses by the host and path of a request.
///
/// The default has no rules.
///
/// # Examples
///
/// ```
/// use rproxy_target_rules::TargetRulesLayer;
///
/// let layer = TargetRulesLayer::builder()
///     .canonical_host("example.org")
///     .redirect("/old/** -> /new/{path} permanent".parse()?)
///     .build()?;
/// # let _ = layer;
/// # Ok::<(), rproxy_target_rules::TargetRuleError>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct TargetRulesLayer {
    rules: Arc<Rules>,
}

impl TargetRulesLayer {
    /// Creates a layer without rules.
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn from_rules(rules: Rules) -> Self {
        Self { rules: Arc::new(rules) }
    }

    /// Returns the URI that the inner service would receive, or `None` if no rewrite changes it.
    ///
    /// A filter outside of this layer checks it, so that a rewrite cannot reach a path that the filter blocks.
    #[must_use]
    pub fn rewritten(&self, uri: &Uri) -> Option<Uri> {
        self.rules.rewrite(uri)
    }
}

impl<S> Layer<S> for TargetRulesLayer {
    type Service = TargetRulesService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        TargetRulesService::new(inner, Arc::clone(&self.rules))
    }
}
