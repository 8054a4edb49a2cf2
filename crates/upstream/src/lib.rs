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
//! A connection serves one request at a time and is kept for the next, the most recently used first. It is driven by
//! the request that uses it, in the same task: no channel between tasks, no spawn, and dropping the response drops the
//! connection, so a client that goes away cancels its request at the backend. Bodies stream both ways.
//!
//! HTTP/2, in clear with prior knowledge or over TLS where the backend prefers it (ALPN), has connections that all requests
//! share, one for each address of the backend's name. Another one is made when the streams that the backend allows are
//! used up, and in place of one that is going away (GOAWAY). A request that a connection did not process (RFC 9113 §8.7) is
//! sent on another, whatever its method, unless more than 32 KiB of its content were sent. The connection's flow-control
//! window has room for the windows of all its streams, so that nobody waits for a response that somebody else does not read.
//!
//! `Host` is passed unchanged. A request with the extension [`hyper::ext::Protocol`] `websocket`
//! and the method GET is sent as an HTTP/1.1 upgrade on a connection of its own; the `101` carries
//! [`hyper::upgrade::OnUpgrade`]. To a backend that is `h2c`, or that speaks nothing but HTTP/2 over TLS, it is sent as an
//! extended CONNECT (RFC 8441), if the backend takes those, again on a connection of its own; the `101` then carries the
//! extension, too.
//!
//! A connection that a backend has authenticated, by NTLM or Negotiate, serves one client: it is kept in the request's
//! [`ClientConnection`], or closed.
//!
//! Interim responses (RFC 9110 §15.2) go to the request's [`InterimRelay`], if it has one.
//!
//! Clones share their idle connections. [`Backends::upstream`] gives one that keeps its own, for a
//! worker thread, and still shares what is known of the backends' health.
//!
//! Several backends get requests in turn, by their [weights](Backend::weight), or as [`Balance`] says. Names are
//! looked up again when their TTL has run out, and no connection is used much longer than that.
//!
//! # How it fails
//!
//! Never with an `Err`: a backend that can't be reached or makes no sense is a response with
//! status 502, 503 or 504 and a [`ProxyError`] in its extensions.
//!
//! | What happens | What is done |
//! |---|---|
//! | an HTTP/2 connection did not process the request (GOAWAY, REFUSED_STREAM) | it is sent on another one, up to 16 times (refused: 3 times) |
//! | a kept connection turns out to be closed | the request is sent on a new one, if nothing of it was sent, or it is idempotent and has no content (RFC 9110 §9.2.2) |
//! | a backend can't be reached | the next one is asked; this one is left alone for 250 ms, then twice as long, up to 30 s, and tried by one request at a time |
//! | a backend closes without an answer | another one is asked, for the same kind of request, [so often](Builder::retries) and within a budget |
//! | answers fail [in a row](Builder::max_failures) | as if it could not be reached |
//! | a [health check](HealthCheck) fails | nobody is sent there until it passes |
//! | nobody is left | 503 with `Retry-After`, or requests [wait](Builder::hold); an only backend is asked all the same |
//!
//! Nothing is sent again once a byte of the response was passed on.
//!
//! # Limits
//!
//! | | Default |
//! |---|---|
//! | [name, socket, TLS](Builder::connect_timeout) | 5 s |
//! | [to the response head](Builder::timeout) | 30 s |
//! | [between parts of a response body](Builder::read_timeout) | 5 min |
//! | [whole exchange](Builder::request_timeout) | none |
//! | [idle connections](Builder::max_idle), [for](Builder::idle_timeout) | 128, 60 s |
//! | [HTTP/1.1 connections](Builder::max_connections), [wait for one](Builder::queue_timeout) | any number, 5 s |
//! | HTTP/2 connections to a backend, streams of each | 256, 100 or what the backend allows |
//! | requests that wait for a stream | 4096 for each backend, then 503 |
//! | response head | 64 KiB, 128 fields |
//!
//! ```
//! use std::time::Duration;
//!
//! use rproxy_upstream::{Balance, HealthCheck, Upstream};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let backends = Upstream::builder()
//!     .backend("10.0.0.1:3000 weight=2")?
//!     .backend("10.0.0.2:3000")?
//!     .balance(Balance::LeastPending)
//!     .health_check(HealthCheck::new("/healthz")?.interval(Duration::from_secs(2)))
//!     .max_connections(100)
//!     .build_backends()?;
//! tokio::spawn(backends.run_health_checks());
//! let upstream = backends.upstream::<http_body_util::Empty<bytes::Bytes>>();
//! # let _ = upstream;
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod attempt;
mod backend;
mod balance;
mod body;
mod bound;
mod budget;
mod builder;
mod check;
mod connect;
mod deadline;
mod error;
mod exchange;
/// What the fuzzers call, and the tests in their stead: each function takes any bytes, and panics when something does not
/// hold. Not for anybody else.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod health;
mod http1;
mod http2;
mod last_known;
mod pool;
mod resolve;
mod rewrite;
mod service;
mod slots;
mod socket;
mod tls;
mod trailers;

pub use self::backend::{Backend, BackendError, Protocol};
pub use self::balance::{Balance, KeyOf};
pub use self::body::UpstreamBody;
pub use self::builder::{Backends, BuildError, Builder};
pub use self::check::HealthCheck;
pub use self::error::{BodyError, ProxyError, ProxyErrorKind};
pub use self::service::{ResponseFuture, Upstream};

/// The most that one exchange can make an [`Upstream`] hold, in bytes, over HTTP/1.1 or HTTP/2.
pub const EXCHANGE: usize = if http1::EXCHANGE > http2::EXCHANGE { http1::EXCHANGE } else { http2::EXCHANGE };

/// Request extension: takes the interim responses of the backend, `102` and `103 Early Hints` above all, to the client.
/// Absent, they are dropped.
///
/// A bare function: whoever serves the client, `rproxy-server` for one, names the same type, and needs nothing else to know
/// of this crate.
pub type InterimRelay = std::sync::Arc<dyn Fn(http::Response<()>) + Send + Sync>;

/// Request extension: what is kept for the connection of the client, and dropped with it. Connections that a backend has
/// authenticated (NTLM, Negotiate) are kept there for further requests of the same client. Absent, they are closed.
///
/// A bare type, as [`InterimRelay`] is.
pub type ClientConnection = std::sync::Arc<std::sync::Mutex<http::Extensions>>;
