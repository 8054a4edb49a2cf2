//! A [`tower_layer::Layer`] that tells an upstream who asked and how, and removes what must not be
//! forwarded, both ways.
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
//!     // Nobody vouches for the peer, so what it claims is gone.
//!     assert_eq!(response.into_body().collect().await?.to_bytes(), r#"Some("192.0.2.1")"#);
//!     Ok(())
//! }
//! ```
//!
//! # What it does
//!
//! On the way in:
//!
//! - `X-Forwarded-For` (the hops that a trusted peer vouches for, then the peer), `X-Real-IP` (the
//!   client), `X-Forwarded-Proto`, `X-Forwarded-Host`, `X-Forwarded-Port` and `X-Request-Id` are made
//!   from what is known: the extensions `ClientIp`, `PeerAddr` and `TrustedPeer` of
//!   `rproxy-client-ip`, the extension [`http::uri::Scheme`], and `Host`. `Forwarded` (RFC 7239) and `Via`
//!   (RFC 9110 §7.6.3) are sent [on](ForwardHeadersLayer::forwarded)
//!   [request](ForwardHeadersLayer::via).
//! - A trusted peer is believed about the client's address, the scheme and the request id, and about nothing else unless
//!   [a setting names the field](ForwardHeadersLayer::trust_field): proxies and CDNs forward other fields as clients send
//!   them.
//! - What is not believed is removed: all of `X-Forwarded-*`, `X-Real-IP`, `Forwarded`,
//!   `X-Request-Id`, `Client-Cert` and `Client-Cert-Chain` (RFC 9440), and the fields in which other proxies, CDNs, server
//!   modules and frameworks say who the client is (`CF-Connecting-IP`, `True-Client-IP`, `X-Client-IP`), what it requests
//!   (`X-Original-URL`, `X-Rewrite-URL`, `X-Host`), which user it is (`Remote-User`, `X-WebAuth-User`), which certificate it
//!   has (`X-SSL-Client-Verify`), or which check it has passed (`X-Middleware-Subrequest`, CVE-2025-29927;
//!   `X-Accel-Mapping`, CVE-2025-61780). All of these also with underscores and dots, which many applications can't tell
//!   from hyphens (`X_Forwarded_For`).
//! - `X-HTTP-Method-Override`, `X-HTTP-Method` and `X-Method-Override` are removed from any request but a POST. A GET that
//!   an application takes for another method would be checked and cached as a GET.
//! - `Proxy`, which CGI programs take for a setting, is always removed. So are `Content_Length` and the like, which are
//!   framing to applications that can't tell an underscore from a hyphen.
//! - `traceparent` and `tracestate` (W3C Trace Context) are passed on if they are what they should be, and begun
//!   [on request](ForwardHeadersLayer::trace_context), with the request's id as that of the trace.
//! - `Max-Forwards` of `OPTIONS` and `TRACE` counts down (RFC 9110 §7.6.2); at zero they are answered here.
//! - `Expect` ends here: the server in front has answered it.
//!
//! Both ways, fields that are about one connection go (RFC 9110 §7.6.1): `Connection` and what it
//! nominates, `Keep-Alive`, `Proxy-Connection`, `Proxy-Authenticate`, `Proxy-Authorization`, `TE` but
//! for `trailers`, `Transfer-Encoding`, `Upgrade`. A nomination can't remove a field that is meant
//! for the other end, such as `Host`, `Authorization`, or those above. A 101 keeps its `Upgrade`.
//!
//! # How it fails
//!
//! What is not known is not said: without the extensions there is no `X-Forwarded-For`. A request whose `Via` shows
//! that it has come by eight times before goes round in circles, and is answered `508 Loop Detected`, with
//! [`ForwardHeadersDecision`] in the response's extensions.
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
/// The functions that the fuzz targets call. Not part of the public API.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod hop_by_hop;
mod layer;
mod max_forwards;
mod name_filter;
mod names;
mod request_id;
mod service;
mod spelling;
mod trace_context;
mod trust;
mod vendor_fields;
mod via;

pub use self::decision::ForwardHeadersDecision;
pub use self::future::{ResponseBody, ResponseFuture};
pub use self::layer::ForwardHeadersLayer;
pub use self::request_id::RequestId;
pub use self::service::ForwardHeadersService;
pub use self::trace_context::TraceContext;
