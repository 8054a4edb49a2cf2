//! The layer and its settings.

use http::StatusCode;
use tower_layer::Layer;

use crate::rules::PathRules;
use crate::service::PathFilterService;

/// Answers requests for paths that the rules block: with 404, unless told otherwise.
#[derive(Clone, Debug)]
#[must_use]
pub struct PathFilterLayer {
    rules: PathRules,
    status: StatusCode,
    log_only: bool,
}

impl PathFilterLayer {
    /// Blocks by `rules`.
    pub fn new(rules: PathRules) -> Self {
        Self { rules, status: StatusCode::NOT_FOUND, log_only: false }
    }

    /// Answers with `status` instead of 404, which tells nobody that there is something to hide.
    pub fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
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
        PathFilterService::new(inner, self.rules.clone(), self.status, self.log_only)
    }
}
