//! Middleware that rejects ambiguous requests, and limits request bodies.
//!
//! hyper parses some messages leniently, as a server may. A proxy must be strict, because a backend parses the forwarded
//! request again. A request that passes [`RequestGuardLayer`] is unambiguous: it has a single valid `Host` in its normal
//! form, and a target in origin-form (or `*`).
//!
//! # Example
//!
//! ```
//! use std::convert::Infallible;
//! use std::time::Duration;
//!
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use rproxy_request_guard::{GuardBody, RequestGuardLayer};
//! use tower::{BoxError, Layer, ServiceExt, service_fn};
//!
//! async fn hello(_: Request<GuardBody<Full<Bytes>>>) -> Result<Response<Full<Bytes>>, Infallible> {
//!     Ok(Response::new(Full::from("hello")))
//! }
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), BoxError> {
//!     let layer = RequestGuardLayer::new().max_body(Some(8 << 20)).body_timeout(Duration::from_secs(10));
//!     let service = layer.layer(service_fn(hello));
//!
//!     let send = |host: &str| Request::get("/").header("host", host).body(Full::default());
//!     assert_eq!(service.clone().oneshot(send("example.org")?).await?.status(), 200);
//!     assert_eq!(service.oneshot(send("a.example, b.example")?).await?.status(), 400);
//!     Ok(())
//! }
//! ```
//!
//! # Changes to requests
//!
//! | Part | Change |
//! |---|---|
//! | `Host` | in lower case, without a final dot and the default port; from the authority over HTTP/2 |
//! | target | origin-form instead of absolute-form; bytes that are not ASCII are percent-encoded |
//! | content | a [`GuardBody`], which enforces the limits |
//!
//! # Rejections
//!
//! | Status | When | Reason |
//! |---|---|---|
//! | 400 | `Host` is missing, repeated or invalid | `bad_host` |
//! | 400 | `Host` differs from the authority of the target | `host_mismatch` |
//! | 400 | the form of the target is not supported | `bad_target` |
//! | 400 | the content is incomplete or malformed | `body_broken` |
//! | 405 | `CONNECT`, except for WebSockets over HTTP/2 (RFC 8441) | `connect` |
//! | 408 | no content arrived for 30 s, see [`body_timeout`](RequestGuardLayer::body_timeout) | `body_too_slow` |
//! | 413 | the content is larger than [`max_body`](RequestGuardLayer::max_body) | `body_too_large` |
//! | 421 | the host is not served, see [`restrict_hosts`](RequestGuardLayer::restrict_hosts) | `misdirected` |
//! | 400, 408, 414, 431, 501 | the server rejected the head, and the request has the extension [`RejectedHead`] | `malformed`, `framing`, `target_too_long`, `head_too_large`, `head_too_slow` |
//!
//! The response has a [`Rejection`] in its extensions. Over HTTP/1.1 it has `Connection: close`, as the start of the next
//! message may be unknown.
//!
//! If the content fails while the inner service waits for it, the client gets this rejection instead of the response of the
//! inner service. The inner service sees a [`RequestBodyError`].
//!
//! # Order
//!
//! Place the layer outside of all layers that read the target, `Host` or the content.
//!
//! # Performance
//!
//! A request without content costs no allocation. One with content costs one, and a timer if the client is slow.
//!
//! # Errors
//!
//! Errors of the inner service pass through.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod body;
mod check;
mod future;
mod host;
mod layer;
mod rejection;
mod service;

pub use rproxy_core::{RejectedHead, Rejection, ResponseBody};

pub use self::body::{GuardBody, RequestBodyError};
pub use self::future::ResponseFuture;
pub use self::host::normalized_host;
pub use self::layer::RequestGuardLayer;
pub use self::service::RequestGuardService;

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
