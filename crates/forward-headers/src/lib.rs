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
//!   `rproxy-client-ip`, the extension [`http::uri::Scheme`], and `Host`. The claims of a trusted
//!   peer on protocol, host, port and request id are kept. `Forwarded` (RFC 7239) and `Via`
//!   (RFC 9110 §7.6.3) are sent [on](ForwardHeadersLayer::forwarded)
//!   [request](ForwardHeadersLayer::via).
//! - Everybody else's claims are dropped: all of `X-Forwarded-*`, `X-Real-IP`, `Forwarded`,
//!   `X-Request-Id`, `Client-Cert` and `Client-Cert-Chain` (RFC 9440), in the spelling with underscores, too, which many applications can't tell from
//!   the real one (`X_Forwarded_For`). `Proxy`, which CGI programs take for a setting, always is.
//!   So are fields in which other proxies, CDNs, server modules and frameworks tell the same or what they tell
//!   themselves: who asks (`CF-Connecting-IP`, `True-Client-IP`, `X-Client-IP`), for what (`X-Original-URL`,
//!   `X-Rewrite-URL`, `X-Host`), as which user (`Remote-User`, `X-WebAuth-User`), by which certificate
//!   (`X-SSL-Client-Verify`), past which check (`X-Middleware-Subrequest`, CVE-2025-29927; `X-Accel-Mapping`,
//!   CVE-2025-61780); a trusted peer's stay. `X-HTTP-Method-Override` stays: it is between client and application, and
//!   nothing here is decided by the method that it names. `Content_Length` and the like, which are framing to
//!   applications that can't tell an underscore from a hyphen, go whoever sends them.
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

mod addresses;
mod alike;
mod claims;
mod cookies;
mod foreign;
mod forwarded;
mod forwarding;
mod future;
/// What the fuzzers call, and the tests in their stead: each function takes any bytes, and panics when something does not
/// hold. Not for anybody else.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod hop_by_hop;
mod layer;
mod max_forwards;
mod names;
mod request_id;
mod service;
mod sieve;
mod trace_context;
mod via;

pub use self::future::{ForwardHeadersDecision, ResponseFuture};
pub use self::layer::ForwardHeadersLayer;
pub use self::request_id::RequestId;
pub use self::service::ForwardHeadersService;
pub use self::trace_context::TraceContext;
