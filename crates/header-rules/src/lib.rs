//! Middleware that sets, appends and removes header fields of requests and responses.
//!
//! [`HeaderRulesLayer`] applies a list of [`HeaderRule`]s to each request, and another one to each response.
//!
//! # Example
//!
//! ```
//! use std::convert::Infallible;
//!
//! use http::{HeaderValue, Request, Response};
//! use rproxy_header_rules::HeaderRulesLayer;
//! use tower::{BoxError, Layer, ServiceExt, service_fn};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), BoxError> {
//!     let layer = HeaderRulesLayer::builder()
//!         .request("X-Environment: production".parse()?)
//!         .response("?Cache-Control: no-cache".parse()?)
//!         .response("-X-Debug-*".parse()?)
//!         .build()?;
//!     let service = layer.layer(service_fn(async |request: Request<()>| {
//!         let mut response = Response::new(request.headers()["x-environment"].clone());
//!         response.headers_mut().insert("x-debug-time", HeaderValue::from(7));
//!         Ok::<_, Infallible>(response)
//!     }));
//!
//!     let response = service.oneshot(Request::get("/").body(())?).await?;
//!     assert_eq!(response.headers()["cache-control"], "no-cache");
//!     assert!(!response.headers().contains_key("x-debug-time"));
//!     assert_eq!(response.into_body(), "production");
//!     Ok(())
//! }
//! ```
//!
//! # Rules
//!
//! | Rule | Effect | In code |
//! |---|---|---|
//! | `Name: value` | sets the field, replacing all its lines | [`HeaderRule::set`] |
//! | `+Name: value` | appends a line to the field | [`HeaderRule::append`] |
//! | `?Name: value` | sets the field if it is absent | [`HeaderRule::set_if_absent`] |
//! | `-Name` | removes the field | [`HeaderRule::remove`] |
//! | `-Prefix*` | removes the fields whose names begin with the prefix | [`HeaderRule::remove_prefix`] |
//!
//! Rules apply in their order: a rule sees the result of the rules before it. Values are constants. There are no
//! placeholders, so that braces need no escaping, and no part of a request can reach a header field.
//!
//! # Reserved fields
//!
//! [`build`](HeaderRulesBuilder::build) rejects rules for these fields, because they would break messages or falsify facts
//! that other layers establish:
//!
//! | Field | In | Reason |
//! |---|---|---|
//! | `Content-Length`, `Transfer-Encoding`, `Trailer` | both | they frame the message (RFC 9112 §6) |
//! | `Connection`, `Keep-Alive`, `Proxy-Connection`, `Upgrade`, `TE` | both | they belong to one connection (RFC 9110 §7.6.1) |
//! | `Host` | requests | it selects the site, the certificate and the cache key |
//! | `Expect` | requests | the server decides about 100 (Continue) (RFC 9110 §10.1.1) |
//! | `Forwarded`, `Via`, `X-Forwarded-*`, `X-Real-IP`, `X-Request-ID` | requests | `rproxy-forward-headers` sets them from the connection and the trusted proxies |
//! | `Range`, `If-*` of RFC 9110 §13.1 | requests, unless removed | a client without a condition would get a 206, 304 or 412 |
//!
//! Removal by prefix skips these fields, and those without which the content cannot be decoded: `Content-Encoding`,
//! `Content-Range`, `Content-Type`.
//!
//! # Spellings
//!
//! In requests, a rule that sets or removes a field also removes its other spellings, such as `X_Tenant` for `X-Tenant`: CGI,
//! WSGI, PHP and others map these to the same variable, so that a client could send one in place of the field. A rule that
//! appends to a field, or sets it if it is absent, removes none, because the client may send the field.
//!
//! # Statuses
//!
//! Response rules apply to all final responses: errors, redirects and 304 included. Interim responses and the 101 of an
//! upgrade do not change.
//!
//! # Order
//!
//! A rule is an explicit decision, so it should win. Place response rules outside of layers that add fields, such as
//! `rproxy-security-headers`. Place request rules inside of layers that remove spoofed fields, such as
//! `rproxy-forward-headers`, and outside of a cache, so that `Vary` compares what the inner service receives. Two layers with
//! one list each do both.
//!
//! # Errors
//!
//! The layer rejects no request and forwards errors of the inner service. Invalid rules are errors when they are parsed, and
//! rules for reserved fields when the layer is built: [`HeaderRuleError`]. A header map with its maximum of 32,768 fields
//! does not get further ones.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod builder;
mod error;
mod future;
mod layer;
mod reserved;
mod rule;
mod service;

pub use self::builder::HeaderRulesBuilder;
pub use self::error::HeaderRuleError;
pub use self::future::ResponseFuture;
pub use self::layer::HeaderRulesLayer;
pub use self::rule::HeaderRule;
pub use self::service::HeaderRulesService;

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
