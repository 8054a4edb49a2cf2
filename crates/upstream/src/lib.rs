//! The innermost service of a proxy: backends, the connections to them, and what to do when they
//! fail.
//!
//! ```
//! use bytes::Bytes;
//! use http_body_util::{BodyExt, Empty};
//! use rproxy_upstream::Upstream;
//! use tower::{BoxError, ServiceExt};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), BoxError> {
//!     // A backend to talk to.
//!     let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//!     let address = listener.local_addr()?;
//!     let app = axum::Router::new().fallback(|| async { "hello" });
//!     tokio::spawn(async move { axum::serve(listener, app).await });
//!
//!     let upstream = Upstream::builder().backend(&format!("http://{address}"))?.build()?;
//!     let response = upstream.oneshot(http::Request::get("/").body(Empty::<Bytes>::new())?).await?;
//!     assert_eq!(response.into_body().collect().await?.to_bytes(), "hello");
//!     Ok(())
//! }
//! ```
//!
//! # What it does
//!
//! Requests go to the backends in turn. A connection serves one request at a time and is kept for
//! the next, the most recently used first. It is driven by the request that uses it, in the same
//! task: no channel between tasks, no spawn, and dropping the response drops the connection, so a
//! client that goes away cancels its request at the backend. Bodies stream both ways.
//!
//! `Host` is passed unchanged. A request with the extension [`hyper::ext::Protocol`] `websocket`
//! and the method GET is sent as an HTTP/1.1 upgrade on a connection of its own; the `101` carries
//! [`hyper::upgrade::OnUpgrade`].
//!
//! Clones share their idle connections. [`Backends::upstream`] gives one that keeps its own, for a
//! worker thread, and still shares what is known of the backends' health.
//!
//! # How it fails
//!
//! Never with an `Err`: a backend that can't be reached or makes no sense is a response with
//! status 502, 503 or 504 and a [`ProxyError`] in its extensions.
//!
//! A pooled connection may have been closed by the backend at the very moment it is used. A request
//! of which nothing was sent, or an idempotent one without a body (RFC 9110 §9.2.2), is then sent
//! once more on a new connection. A backend that refuses connections is left alone for a while that
//! doubles, if there are others.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod attempt;
mod backend;
mod balance;
mod body;
mod budget;
mod builder;
mod check;
mod connect;
mod deadline;
mod error;
mod exchange;
mod health;
mod http1;
mod http2;
mod pool;
mod resolve;
mod rewrite;
mod service;
mod slots;
mod socket;
mod tls;

pub use self::backend::{Backend, BackendError, Protocol};
pub use self::balance::{Balance, KeyOf};
pub use self::body::UpstreamBody;
pub use self::builder::{Backends, BuildError, Builder};
pub use self::check::HealthCheck;
pub use self::error::{BodyError, ProxyError, ProxyErrorKind};
pub use self::service::{ResponseFuture, Upstream};
