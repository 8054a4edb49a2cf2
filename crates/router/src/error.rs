//! The reasons for rejecting a route when the table is built.

/// A host or a route that a [`RouteTable`](crate::RouteTable) does not accept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RouterError {
    /// Text that is not a host name, an address or a wildcard.
    #[error("bad host {host:?}: {reason}")]
    Host {
        /// The text.
        host: String,
        /// The reason, as a phrase.
        reason: &'static str,
    },
    /// Text that is not a path pattern.
    #[error("bad path {path:?}: {reason}")]
    Path {
        /// The text.
        path: String,
        /// The reason, as a phrase.
        reason: String,
    },
    /// A host that another site has.
    #[error("duplicate host {0:?}: another site has it")]
    DuplicateHost(String),
    /// A second default site.
    #[error("duplicate default site")]
    DuplicateDefault,
    /// A path and method that another route of the site has, so that no request reaches this one.
    #[error("unreachable route: another route has {path:?}{}", method.as_ref().map(|method| format!(" with {method}")).unwrap_or_default())]
    DuplicateRoute {
        /// The path pattern.
        path: String,
        /// The method, if the routes have methods.
        method: Option<http::Method>,
    },
    /// A route without a path.
    #[error("a route needs at least one path")]
    NoPath,
    /// A route before the first host.
    #[error("a route needs a host before it")]
    NoHost,
}
