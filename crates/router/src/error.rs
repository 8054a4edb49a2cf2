//! The error type for invalid hosts and routes.

/// A host or route that a [`RouteTable`](crate::RouteTable) rejects.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RouterError {
    /// The text is not a host name, an IP address or a wildcard.
    #[error("bad host {host:?}: {reason}")]
    Host {
        /// The invalid text.
        host: String,
        /// The reason that the text is invalid.
        reason: &'static str,
    },
    /// The text is not a valid path pattern.
    #[error("bad path {path:?}: {reason}")]
    Path {
        /// The invalid text.
        path: String,
        /// The reason that the text is invalid.
        reason: String,
    },
    /// The host already belongs to another site.
    #[error("duplicate host {0:?}: it belongs to another site")]
    DuplicateHost(String),
    /// Another site is already the default site.
    #[error("duplicate default site: only one is allowed")]
    DuplicateDefault,
    /// Another route of the site has the same path and method, so that no request reaches this route.
    #[error("unreachable route: another route already has {path:?}{}", method.as_ref().map(|method| format!(" with {method}")).unwrap_or_default())]
    DuplicateRoute {
        /// The path pattern of both routes.
        path: String,
        /// The method of both routes, or `None` if the routes apply to all methods.
        method: Option<http::Method>,
    },
    /// The route has no path.
    #[error("a route needs at least one path")]
    NoPath,
    /// A route was added before any host.
    #[error("a route must be added after its host")]
    NoHost,
}
