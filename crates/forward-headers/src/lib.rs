//! Middleware for proxies that sets forwarding fields and removes hop-by-hop and spoofed fields.
//!
//! [`ForwardHeadersLayer`] gives the backend `X-Forwarded-*`, `X-Real-IP` and `X-Request-Id` that a client cannot
//! spoof, and removes fields that must not be forwarded from requests and responses.
//!
//! # Example
//!
//! ```
//! use std::convert::Infallible;
//!
//! use http::{Request, Response};
//! use http_body_util::BodyExt;
//! use rproxy_client_ip::{ClientIp, PeerAddr};
//! use rproxy_forward_headers::ForwardHeadersLayer;
//! use tower::{BoxError, Layer, ServiceExt, service_fn};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), BoxError> {
//!     let upstream = service_fn(async |request: Request<()>| {
//!         let seen = request.headers().get("x-forwarded-for").cloned();
//!         Ok::<_, Infallible>(Response::new(format!("{seen:?}")))
//!     });
//!     let proxy = ForwardHeadersLayer::new().via("rproxy").layer(upstream);
//!
//!     let request = Request::get("/")
//!         .extension(PeerAddr("192.0.2.1:4711".parse()?))
//!         .extension(ClientIp("192.0.2.1".parse()?))
//!         .header("x-forwarded-for", "6.6.6.6")
//!         .body(())?;
//!     let response = proxy.oneshot(request).await?;
//!
//!     // The peer is not a trusted proxy, so its value is replaced.
//!     assert_eq!(response.into_body().collect().await?.to_bytes(), r#"Some("192.0.2.1")"#);
//!     Ok(())
//! }
//! ```
//!
//! # Fields that the layer sets
//!
//! | Field | Value |
//! |---|---|
//! | `X-Forwarded-For` | the addresses that a trusted proxy reports, then the peer |
//! | `X-Real-IP` | the client |
//! | `X-Forwarded-Proto`, `X-Forwarded-Host`, `X-Forwarded-Port` | scheme and authority of the request |
//! | `X-Request-Id` | a new UUIDv7, or the value of a trusted proxy; also the response extension [`RequestId`] |
//! | `Forwarded` (RFC 7239) | [on request](ForwardHeadersLayer::forwarded) |
//! | `Via` (RFC 9110 §7.6.3) | [on request](ForwardHeadersLayer::via) |
//! | `traceparent`, `tracestate` (W3C Trace Context) | forwarded if valid; started [on request](ForwardHeadersLayer::trace_context) |
//!
//! They are built from the extensions `ClientIp`, `PeerAddr` and `TrustedPeer` of `rproxy-client-ip`, the extension
//! `http::uri::Scheme`, and `Host`. A field is omitted if its source is missing.
//!
//! If `Forwarded` is the source of the client address, its `proto` takes precedence over `X-Forwarded-Proto`, and its `host`
//! over `X-Forwarded-Host` and `X-Forwarded-Port`, if the latter are trusted. Otherwise a received `Forwarded` has no effect.
//!
//! # Spoofed fields
//!
//! A trusted proxy is trusted for the client address, the scheme and the request id, and for other fields only if
//! [`trust_field`](ForwardHeadersLayer::trust_field) names them: most proxies and CDNs forward other fields as clients
//! send them. All other fields of this kind are removed, from requests of trusted proxies as well:
//!
//! - `X-Forwarded-*`, `X-Real-IP`, `Forwarded`, `X-Request-Id`, `Client-Cert`, `Client-Cert-Chain` (RFC 9440);
//! - fields of other proxies, CDNs, server modules and frameworks: for the client address (`CF-Connecting-IP`,
//!   `True-Client-IP`), the target (`X-Original-URL`, `X-Rewrite-URL`), the user (`Remote-User`, `X-WebAuth-User`), the
//!   certificate (`X-SSL-Client-Verify`) or internal use (`X-Middleware-Subrequest`, CVE-2025-29927; `X-Accel-Mapping`,
//!   CVE-2025-61780);
//! - `Proxy` (CVE-2016-5385), and `Content_Length` and similar names that CGI merges with framing fields;
//! - `X-HTTP-Method-Override` and similar fields, except in POST requests.
//!
//! All names are also removed with underscores or dots instead of hyphens (`X_Forwarded_For`).
//!
//! # Hop-by-hop fields
//!
//! Requests and responses lose `Connection` and the fields it nominates, `Keep-Alive`, `Proxy-Connection`,
//! `Proxy-Authenticate`, `Proxy-Authorization`, `Transfer-Encoding`, `Upgrade`, and `TE` except `trailers` (RFC 9110
//! §7.6.1). `Connection` cannot remove end-to-end fields such as `Host`, `Authorization`, or those above. A 101 keeps
//! its `Upgrade`. `Expect` is removed from requests unless it is `100-continue`, which the server or the backend answers.
//!
//! # Responses of the layer
//!
//! | Status | When |
//! |---|---|
//! | 508 | the request has passed this proxy eight times, by its `Via` |
//! | 200 | `OPTIONS` or `TRACE` with `Max-Forwards: 0` (RFC 9110 §7.6.2) |
//!
//! A 508 has a [`Rejection`] in its extensions, and a 200 a [`ForwardHeadersDecision`].
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod address_format;
mod authority;
mod config;
mod cookies;
mod decision;
mod forwarded;
mod forwarding_fields;
mod future;
/// Functions that the fuzz targets of this crate call. Not part of the public API.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod hop_by_hop;
mod layer;
mod max_forwards;
mod name_filter;
mod names;
mod nearest;
mod request_id;
mod service;
mod trace_context;
mod trust;
mod vendor_fields;
mod via;

pub use rproxy_core::{Rejection, ResponseBody};

pub use self::decision::ForwardHeadersDecision;
pub use self::future::ResponseFuture;
pub use self::layer::ForwardHeadersLayer;
pub use self::request_id::RequestId;
pub use self::service::ForwardHeadersService;
pub use self::trace_context::TraceContext;
pub use self::trust::has_forwarding_field;

/// Compiles the examples in the README as doc tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
