//! A layer that formats responses to rejected requests.

use tower_layer::Layer;

use crate::service::ProblemService;

/// A layer that formats responses to rejected requests, and catches panics.
///
/// # Examples
///
/// ```
/// use rproxy_problem::ProblemLayer;
///
/// let layer = ProblemLayer::new();
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct ProblemLayer<H = ()> {
    hooks: H,
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
        Self { hooks }
    }
}

impl<S, H: Clone> Layer<S> for ProblemLayer<H> {
    type Service = ProblemService<S, H>;

    fn layer(&self, inner: S) -> Self::Service {
        ProblemService::new(inner, self.hooks.clone())
    }
}
