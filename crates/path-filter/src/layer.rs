//! A tower layer that rejects requests for blocked paths.

use std::sync::Arc;

use http::{StatusCode, Uri};
use tower_layer::Layer;

use crate::config::{Config, Rewrite};
use crate::rules::PathRules;
use crate::service::PathFilterService;

/// A layer that rejects requests for blocked paths, with 404 by default.
///
/// # Examples
///
/// ```
/// use rproxy_path_filter::{PathFilterLayer, PathRules};
///
/// let layer = PathFilterLayer::new(PathRules::sensitive());
/// # let _ = layer;
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct PathFilterLayer {
    config: Arc<Config>,
}

impl PathFilterLayer {
    /// Creates a layer that rejects requests for paths that `rules` block.
    pub fn new(rules: PathRules) -> Self {
        let status = StatusCode::NOT_FOUND;
        Self { config: Arc::new(Config { rules, status, shadow: false, reject_ambiguous: false, rewrite: None }) }
    }

    /// Sets the status of responses to requests for blocked paths; default 404.
    ///
    /// A 404 does not reveal that a rule exists.
    pub fn status(mut self, status: StatusCode) -> Self {
        Arc::make_mut(&mut self.config).status = status;
        self
    }

    /// Sets whether to forward all requests and only record the decisions; default `false`.
    ///
    /// A request that would have been rejected has
    /// [`PathFilterDecision::WouldBlock`](crate::PathFilterDecision::WouldBlock) in its response.
    pub fn shadow(mut self, shadow: bool) -> Self {
        Arc::make_mut(&mut self.config).shadow = shadow;
        self
    }

    /// Sets whether to reject ambiguous paths with 400; default `false`.
    ///
    /// A path is ambiguous if servers may resolve it to different paths. Such a path contains `%2F`, `//`, dot segments or
    /// `;` parameters, for example. Some applications use them, such as package registries in names of packages.
    pub fn reject_ambiguous(mut self, reject: bool) -> Self {
        Arc::make_mut(&mut self.config).reject_ambiguous = reject;
        self
    }

    /// Also checks the path as rewritten by an inner service, such as one that strips a prefix.
    ///
    /// A request is rejected if the rules block the path that the client sent or the path of the URI that `rewrite`
    /// returns. `None` means that the path does not change.
    ///
    /// # Examples
    ///
    /// ```
    /// use rproxy_path_filter::{PathFilterLayer, PathRules};
    ///
    /// // An inner service strips `/app`, so `/app/id_rsa` is `/id_rsa` on the backend.
    /// let layer = PathFilterLayer::new(PathRules::sensitive())
    ///     .rewrite(|uri| uri.path().strip_prefix("/app")?.parse().ok());
    /// # let _ = layer;
    /// ```
    pub fn rewrite(mut self, rewrite: impl Fn(&Uri) -> Option<Uri> + Send + Sync + 'static) -> Self {
        Arc::make_mut(&mut self.config).rewrite = Some(Rewrite(Arc::new(rewrite)));
        self
    }
}

impl<S> Layer<S> for PathFilterLayer {
    type Service = PathFilterService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        PathFilterService::new(inner, Arc::clone(&self.config))
    }
}
