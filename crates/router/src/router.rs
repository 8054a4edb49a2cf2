//! A service that selects the route of a request, and calls the service of the route.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use rproxy_core::ResponseBody;
use tower_service::Service;

use crate::error::RouterError;
use crate::future::{RejectedRoute, ResponseFuture};
use crate::host::request_host;
use crate::table::{Found, Route, RouteTable};

/// A service that forwards each request to the service of its site and route.
///
/// All services must have the same type. Box services of different types with `tower::util::BoxCloneService`. The router
/// clones a service for each request. See the [crate documentation](crate) for the rules.
#[derive(Clone)]
pub struct Router<S> {
    table: Arc<RouteTable>,
    sites: Arc<[Site<S>]>,
}

#[derive(Clone)]
struct Site<S> {
    name: Arc<str>,
    service: S,
    routes: Vec<(Arc<str>, S)>,
}

impl<S> Router<S>
where
    S: Clone,
{
    /// Creates a router without hosts: every request gets 404.
    pub fn new() -> Self {
        Self { table: Arc::default(), sites: Arc::new([]) }
    }

    /// Adds a host, and the service for its requests that match no route.
    ///
    /// # Errors
    ///
    /// Returns an error if `host` is not a host name, an address or a wildcard, or if it has been added before.
    pub fn host(mut self, host: &str, service: S) -> Result<Self, RouterError> {
        let pattern = host.parse()?;
        let site = self.add_site(host, service);
        Arc::make_mut(&mut self.table).add_host(site, &pattern)?;
        Ok(self)
    }

    /// Sets the service for requests to hosts that were not added.
    ///
    /// # Errors
    ///
    /// Returns an error if a default host has been set before.
    pub fn default_host(mut self, service: S) -> Result<Self, RouterError> {
        let site = self.add_site("default", service);
        Arc::make_mut(&mut self.table).set_default(site)?;
        Ok(self)
    }

    /// Adds a route that matches by path to the most recently added host.
    ///
    /// # Errors
    ///
    /// Returns an error if `pattern` is malformed, if the host has a route for it, or if there is no host.
    pub fn path(self, pattern: &str, service: S) -> Result<Self, RouterError> {
        self.route(Route::new().path(pattern), service)
    }

    /// Adds a route to the most recently added host.
    ///
    /// # Errors
    ///
    /// Returns an error if a path pattern is malformed, if the host has a route for it, or if there is no host.
    pub fn route(mut self, route: Route, service: S) -> Result<Self, RouterError> {
        let site = self.sites.len().checked_sub(1).ok_or(RouterError::NoHost)?;
        Arc::make_mut(&mut self.table).add_route(site, &route)?;
        let mut sites = self.sites.to_vec();
        sites[site].routes.push((route.to_string().into(), service));
        self.sites = sites.into();
        Ok(self)
    }

    fn add_site(&mut self, name: &str, service: S) -> usize {
        let site = Site { name: name.into(), service, routes: Vec::new() };
        self.sites = self.sites.iter().cloned().chain([site]).collect();
        Arc::make_mut(&mut self.table).add_site()
    }
}

impl<S> Default for Router<S>
where
    S: Clone,
{
    fn default() -> Self {
        Self::new()
    }
}

impl<S> fmt::Debug for Router<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").field("table", &self.table).finish_non_exhaustive()
    }
}

/// The site and the route that the router selected for a request, as a response extension.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouteMatch {
    /// The host of the site as it was added, or `default` for the default site.
    pub site: Arc<str>,
    /// The route, such as `POST /login`, or `None` if the request matched no route of the site.
    pub route: Option<Arc<str>>,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Router<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, ReqBody>;

    /// Returns `Ready`, because the service is selected only when the request is available.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        match self.table.find(&request_host(&request), request.method(), request.uri().path()) {
            Found::Route { site, route } => {
                let site = &self.sites[site];
                let (route, service) = match route.map(|route| &site.routes[route]) {
                    Some((name, service)) => (Some(Arc::clone(name)), service),
                    None => (None, &site.service),
                };
                let found = RouteMatch { site: Arc::clone(&site.name), route };
                ResponseFuture::forwarded(service.clone(), request, found)
            }
            Found::UnknownHost => ResponseFuture::rejected(RejectedRoute::UnknownHost),
            Found::AmbiguousPath { .. } => ResponseFuture::rejected(RejectedRoute::AmbiguousPath),
        }
    }
}
