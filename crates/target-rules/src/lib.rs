//! Middleware for redirects, rewrites and fixed responses by the host and path of a request.
//!
//! [`TargetRulesLayer`] redirects requests to a canonical host, redirects and rewrites paths by patterns with captures, adds or
//! removes trailing slashes, and responds with constant content.
//!
//! # Example
//!
//! ```
//! use std::convert::Infallible;
//!
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use rproxy_target_rules::TargetRulesLayer;
//! use tower::{BoxError, Layer, ServiceExt, service_fn};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), BoxError> {
//!     let layer = TargetRulesLayer::builder()
//!         .canonical_host("example.org")
//!         .redirect("/blog/{year}/{slug} -> https://blog.example/{slug} permanent".parse()?)
//!         .respond("/robots.txt -> 200 text/plain User-agent: *".parse()?)
//!         .rewrite("/app/** -> /{path}".parse()?)
//!         .build()?;
//!     let service = layer.layer(service_fn(async |request: Request<()>| {
//!         Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(request.uri().to_string())))
//!     }));
//!
//!     let request = Request::get("/blog/2024/hello").header("host", "example.org").body(())?;
//!     let response = service.clone().oneshot(request).await?;
//!     assert_eq!(response.status(), 301);
//!     assert_eq!(response.headers()["location"], "https://blog.example/hello");
//!
//!     let request = Request::get("/a?b").header("host", "www.example.org").body(())?;
//!     assert_eq!(service.oneshot(request).await?.headers()["location"], "http://example.org/a?b");
//!     Ok(())
//! }
//! ```
//!
//! # Rules
//!
//! The rules apply in this order. The first one that responds ends the request; of each kind, the first match applies.
//!
//! | Rule | Text | Response |
//! |---|---|---|
//! | [Canonical host](TargetRulesBuilder::canonical_host) | `example.org` | 301 for GET and HEAD, otherwise 308 |
//! | [`Redirect`] | `PATTERN -> TARGET [STATUS]` | by default 302 for GET and HEAD, otherwise 307 |
//! | [`FixedResponse`] | `PATTERN -> STATUS [TYPE CONTENT]` | the status and the content |
//! | [`TrailingSlash`] | | 301 for GET and HEAD; other methods are forwarded |
//! | [`Rewrite`] | `PATTERN -> PATH` | none: the inner service receives the new path |
//!
//! 307 and 308 keep the method (RFC 9110 §15.4.8). The default is temporary, because clients keep permanent redirects forever.
//!
//! # Patterns
//!
//! | Part | Matches |
//! |---|---|
//! | `/old` | this path only; percent-encoded characters are decoded, and the case counts |
//! | `*` | one segment, or a part of it: `/*.php` |
//! | `{name}` | the same, captured: `/post-{id}.html` |
//! | `/**` at the end | the folder itself and all paths below it; the rest is captured as `{path}` |
//!
//! In a target, `{name}` is the captured text. The query of the request is kept, unless the target has a `?`: `/new?` removes
//! it, and `/new?id={id}` replaces it. There are no regular expressions, so the time for a match grows with the length of
//! the path only.
//!
//! # Open redirects
//!
//! No request can choose the host of a redirect:
//!
//! - The scheme and the host of a target are constants.
//! - Rules apply only to paths that all servers and clients resolve alike. Paths with `//`, a backslash, dot segments, control
//!   characters, or encoded forms of them pass to the inner service unchanged.
//! - Captured text is checked again as part of the target, and encoded in a query.
//! - The redirect to the canonical host has the constant host in front of the path.
//!
//! # Rewrites and filters
//!
//! A rewrite happens inside of this layer. A path filter outside of it must check the rewritten path, too:
//! [`TargetRulesLayer::rewritten`] returns it. Rules are not access control: a path that no rule matches reaches the inner
//! service.
//!
//! # Order
//!
//! Place the layer inside of layers that determine the scheme (the extension [`Scheme`](http::uri::Scheme)) and outside of a
//! cache, so that the cache stores what the inner service responds to the rewritten path.
//!
//! In axum, `Router::layer` runs after routing. For rewrites, wrap the routes:
//! `Router::new().fallback_service(layer.layer(routes))`.
//!
//! # Errors
//!
//! The layer forwards errors of the inner service. Invalid rules are errors when they are parsed: [`TargetRuleError`]. A
//! target that would be longer than 16 KiB, or that equals the target of the request, does not apply. The response has a
//! [`TargetDecision`] as extension.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod builder;
mod canonical_host;
mod error;
mod fixed_response;
mod future;
mod layer;
mod pattern;
mod redirect;
mod rules;
mod safe_path;
mod service;
mod template;
mod trailing_slash;

pub use rproxy_core::ResponseBody;

pub use self::builder::TargetRulesBuilder;
pub use self::error::TargetRuleError;
pub use self::fixed_response::FixedResponse;
pub use self::future::ResponseFuture;
pub use self::layer::TargetRulesLayer;
pub use self::redirect::{Redirect, Rewrite};
pub use self::rules::{RewrittenPath, TargetDecision};
pub use self::service::TargetRulesService;
pub use self::trailing_slash::TrailingSlash;

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
