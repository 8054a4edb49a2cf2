//! A layer that formats responses to rejected requests.

use std::sync::Arc;

use tower_layer::Layer;

use crate::config::Config;
use crate::error_pages::ErrorPages;
use crate::service::ProblemService;
use crate::status_set::StatusSet;

/// A layer that formats responses to rejected requests, and catches panics.
///
/// # Examples
///
/// ```
/// use rproxy_problem::ProblemLayer;
///
/// let layer = ProblemLayer::new();
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ProblemLayer<H = ()> {
    hooks: H,
    /// `None` if all settings have their defaults, so that the service is as small as possible.
    config: Option<Arc<Config>>,
}

impl ProblemLayer {
    /// Creates a layer without hooks.
    pub fn new() -> Self {
        Self::default()
    }
}

impl<H> ProblemLayer<H> {
    /// Creates a layer with [hooks](crate::ProblemHooks), which customise the responses.
    ///
    /// The hooks are cloned with the service. Some servers clone the service for each request.
    pub fn with_hooks(hooks: H) -> Self {
        Self { hooks, config: None }
    }

    /// Sends these pages instead of the built-in one. Statuses without a page keep the built-in page.
    pub fn pages(mut self, pages: ErrorPages) -> Self {
        self.config().pages = pages;
        self
    }

    /// Sends [pages](Self::pages) instead of the content of the inner service's error responses with these statuses.
    ///
    /// See [the errors of the inner service](crate#errors-of-the-inner-service). The default is none.
    pub fn replace_errors(mut self, statuses: StatusSet) -> Self {
        self.config().replaced = statuses;
        self
    }

    /// Lets [`ProblemHooks::discards_response`](crate::ProblemHooks::discards_response) discard responses. The default is `false`.
    pub fn discard_by_hooks(mut self, discards: bool) -> Self {
        if discards || self.config.is_some() {
            self.config().discards = discards;
        }
        self
    }

    fn config(&mut self) -> &mut Config {
        Arc::make_mut(self.config.get_or_insert_default())
    }
}

impl<S, H: Clone> Layer<S> for ProblemLayer<H> {
    type Service = ProblemService<S, H>;

    fn layer(&self, inner: S) -> Self::Service {
        ProblemService::new(inner, self.hooks.clone(), self.config.clone())
    }
}
