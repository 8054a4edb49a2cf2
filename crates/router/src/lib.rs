//! A `tower` service that selects one of several services by host, path and method.
//!
//! # Example
//!
//! ```
//! use std::convert::Infallible;
//!
//! use http::{Method, Request, Response, StatusCode};
//! use rproxy_router::{Route, Router};
//! use tower::{BoxError, ServiceExt, service_fn, util::BoxCloneService};
//!
//! # fn named(name: &'static str) -> BoxCloneService<Request<()>, Response<String>, Infallible> {
//! #     BoxCloneService::new(service_fn(move |_: Request<()>| async move { Ok(Response::new(name.to_owned())) }))
//! # }
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), BoxError> {
//!     let router = Router::new()
//!         .host("example.org", named("site"))?
//!         .path("/api/**", named("api"))?
//!         .route(Route::new().path("/login").method(Method::POST), named("login"))?
//!         .host("*.staging.example.org", named("staging"))?;
//!
//!     for (uri, status) in [
//!         ("http://example.org/", StatusCode::OK),
//!         ("http://example.org/api/users", StatusCode::OK),
//!         ("http://unknown.example/", StatusCode::NOT_FOUND),
//!         // One server resolves this path to /admin, another to a name in /api/.
//!         ("http://example.org/api/..%2fadmin", StatusCode::BAD_REQUEST),
//!     ] {
//!         let response = router.clone().oneshot(Request::get(uri).body(())?).await?;
//!         assert_eq!(response.status(), status, "{uri}");
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # Hosts
//!
//! The host is that of the request target if it has one (HTTP/2, absolute form), else that of `Host` (RFC 9112 §3.2.2), in
//! lower case, without its port and without a dot at its end. An exact host wins over a wildcard, and a wildcard over
//! the [default](Router::default_host). A wildcard matches one label, as in certificates (RFC 9525 §6.3): `*.example.org`
//! matches `a.example.org` and not `a.b.example.org`. A request for another host gets 404.
//!
//! # Paths
//!
//! A path pattern is a glob over the whole decoded path: `*` within a segment, `**` over segments, `?`, `[ab]`, `{a,b}`.
//! `/api/**` matches `/api` as well. Case, slashes at the end of a path and the composition of characters (NFC, NFD) do not
//! matter: a route for `/admin` also matches `/Admin/`.
//!
//! An exact path wins over a glob; then the glob with the longest literal prefix wins; then one without `**`. The order of
//! declaration decides only between globs that are equal by these rules. Of equal patterns, a route with methods wins.
//! A route for `GET` matches `HEAD`, and the extended `CONNECT` of WebSockets over HTTP/2 (RFC 8441), too.
//!
//! # Ambiguous paths
//!
//! Servers differ in how they decode a path. The router looks up [every known decoding](rproxy_core::path) of it. If two of
//! them lead to different routes, the request gets 400: otherwise `/static/..%2fadmin` would take the route, and the
//! limits, of `/static/**` to a backend that opens `/admin`. The path is forwarded as the client sent it.
//!
//! # Decisions
//!
//! Each response has a [`RouteMatch`] in its extensions, or a [`Rejection`] if the router rejected the request.
//! [`RouteTable`] makes the same decision without a service.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod error;
mod future;
mod host;
mod pattern;
mod router;
mod table;

pub use rproxy_core::{Rejection, ResponseBody};

pub use self::error::RouterError;
pub use self::future::ResponseFuture;
pub use self::host::{HostPattern, request_host};
pub use self::router::{RouteMatch, Router};
pub use self::table::{Found, Route, RouteTable};

/// Compiles the examples in the README as doc tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
