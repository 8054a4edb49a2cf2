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
    settings: Settings,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) status: StatusCode,
    pub(crate) log_only: bool,
    pub(crate) strict: bool,
}

impl PathFilterLayer {
    /// Blocks by `rules`.
    pub fn new(rules: PathRules) -> Self {
        Self { rules, settings: Settings { status: StatusCode::NOT_FOUND, log_only: false, strict: false } }
    }

    /// Answers with `status` instead of 404, which tells nobody that there is something to hide.
    pub fn status(mut self, status: StatusCode) -> Self {
        self.settings.status = status;
        self
    }

    /// Whether to let everything pass and only leave
    /// [`PathFilterDecision::WouldBlock`](crate::PathFilterDecision::WouldBlock) in the response.
    pub fn log_only(mut self, log_only: bool) -> Self {
        self.settings.log_only = log_only;
        self
    }

    /// Whether to answer 400 to a path that servers could read in more ways than one, blocked or not: with `%2F` or
    /// `//` in it, dot segments, parameters behind a `;`, and the like. Off by default, as honest applications have such
    /// paths: names of packages, identifiers of projects.
    pub fn strict(mut self, strict: bool) -> Self {
        self.settings.strict = strict;
        self
    }
}

impl<S> Layer<S> for PathFilterLayer {
    type Service = PathFilterService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        PathFilterService::new(inner, self.rules.clone(), self.settings)
    }
}
