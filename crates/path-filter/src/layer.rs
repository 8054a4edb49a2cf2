//! The layer and its settings.

use tower_layer::Layer;

use crate::rules::PathRules;
use crate::service::PathFilterService;

/// Answers 404 to requests for paths that the rules block.
#[derive(Clone, Debug)]
#[must_use]
pub struct PathFilterLayer {
    rules: PathRules,
    log_only: bool,
}

impl PathFilterLayer {
    /// Blocks by `rules`.
    pub fn new(rules: PathRules) -> Self {
        Self { rules, log_only: false }
    }

    /// Whether to let everything pass and only leave
    /// [`PathFilterDecision::WouldBlock`](crate::PathFilterDecision::WouldBlock) in the response.
    pub fn log_only(mut self, log_only: bool) -> Self {
        self.log_only = log_only;
        self
    }
}

impl<S> Layer<S> for PathFilterLayer {
    type Service = PathFilterService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        PathFilterService::new(inner, self.rules.clone(), self.log_only)
    }
}
