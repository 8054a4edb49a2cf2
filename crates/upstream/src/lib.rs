//! A `tower` service that forwards requests to backends: connection pools, load balancing, health checks, retries.
//!
//! [`Upstream`] is the innermost service of a reverse proxy. It never returns an `Err`: a failed exchange is a response
//! with status 502, 503 or 504, and a [`ProxyError`] and a [`Rejection`] in its extensions.
//!
//! # Examples
//!
//! ```
//! use bytes::Bytes;
//! use http_body_util::{BodyExt, Empty};
//! use rproxy_upstream::Upstream;
//! use tower::{BoxError, ServiceExt};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), BoxError> {
//!     // A backend.
//!     let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//!     let address = listener.local_addr()?;
//!     let app = axum::Router::new().fallback(|| async { "hello" });
//!     tokio::spawn(async move { axum::serve(listener, app).await });
//!
//!     let upstream = Upstream::builder().backend(&format!("http://{address}"))?.build()?;
//!     let request = http::Request::get("/").body(Empty::<Bytes>::new())?;
//!     let response = upstream.oneshot(request).await?;
//!     assert_eq!(response.into_body().collect().await?.to_bytes(), "hello");
//!     Ok(())
//! }
//! ```
//!
//! Multiple backends with health checks:
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
//!
//! # Connections
//!
//! | Protocol | Behaviour |
//! |---|---|
//! | HTTP/1.1 | A connection serves one request at a time and is then reused, the most recently used first. The task of the request drives it; dropping the response closes it, which cancels the request at the backend |
//! | HTTP/2 | All requests share connections, one for each address of the backend. Another one is opened when the streams that the backend allows are used up, or when one is closing (GOAWAY). Used with prior knowledge (`h2c://`), or over TLS if the backend selects it by ALPN |
//! | WebSocket | A GET with the extension `hyper::ext::Protocol` `websocket` is sent as an HTTP/1.1 upgrade, or over HTTP/2 as an extended CONNECT (RFC 8441), on a separate connection. The 101 carries `hyper::upgrade::OnUpgrade` |
//!
//! - Bodies are streamed in both directions. Over HTTP/2 the window of a connection is as large as those of its streams
//!   together, so an unread response does not block others. Uploads share a connection only if the backend's window has
//!   room for all of them, so an unread upload does not block others.
//! - `Host` is forwarded unchanged.
//! - Interim responses (RFC 9110 §15.2) are forwarded by the [`InterimRelay`] of the request.
//! - With `Expect: 100-continue`, an HTTP/1.1 backend decides whether the content of a request is sent, see
//!   [`ExpectContinue`].
//! - Field names keep the letter case in which they were received, with the extension `ReceivedHead` of `rproxy-http1`.
//! - A connection that a backend authenticated with NTLM or Negotiate serves one client: it is stored in the
//!   [`ClientConnection`] of the request, or closed. Behind a trusted proxy, `rproxy-client-ip` creates one for each client
//!   address.
//! - Names are resolved again when their TTL expires.
//!
//! Clones share connections. [`Backends::upstream`] creates an upstream with separate connections, for a worker thread;
//! it shares the health of the backends.
//!
//! # Replacement
//!
//! [`Backends::replace`] replaces the backends at run time, for all upstreams and their clones, for example to deploy a new
//! version of an application without downtime. [`Upstream::backends`] returns the backends of an upstream.
//!
//! - New requests use the new backends. Requests in flight finish where they are; one that fails is retried on the new
//!   backends, under the conditions below.
//! - A backend that is in both sets keeps its connections, its health and its count of requests.
//! - A removed backend has drained when its last response ends, see [`RemovedBackends`]. Then its connections are closed.
//! - The selection of a backend takes no lock.
//!
//! # Load balancing
//!
//! Backends get requests by their [weights](Backend::weight), in round robin by default. [`Balance`] selects least
//! requests or consistent hashing.
//!
//! # Failures
//!
//! | Failure | Handling |
//! |---|---|
//! | An HTTP/2 connection did not process the request (GOAWAY, `REFUSED_STREAM`, RFC 9113 §8.7) | sent on another connection, with any method, if at most 32 KiB of its content were sent: twice, and twice more within the retry budget |
//! | A pooled connection turns out to be closed | sent on a new one, if nothing was sent, or if the method is idempotent and no content was sent (RFC 9110 §9.2.2) |
//! | A backend cannot be reached | another backend is used; this one is ejected for 250 ms, then twice as long each time, up to 30 s |
//! | A backend closes without a response | another backend is used under the same conditions, [a number of times](Builder::retries), within a retry budget |
//! | [Several failures in a row](Builder::max_failures) | the backend is ejected as above |
//! | A [health check](HealthCheck) fails | the backend gets no requests until a check succeeds |
//! | No backend is available | 503 with `Retry-After`, or the request [waits](Builder::hold); a single backend is tried in any case |
//!
//! No request is sent again after the first byte of its response was forwarded.
//!
//! # TLS
//!
//! The certificate of an `https://` backend is verified on each connection, with HTTP/1.1 and HTTP/2, for requests and for
//! health checks. Nothing turns this off.
//!
//! | Settings | Requirements for the certificate |
//! |---|---|
//! | none | a chain to an authority of the system, the name of the backend, the validity period |
//! | [`root_certificates`](Builder::root_certificates) | one of these certificates itself, or a chain to one of them that is an authority; the name, the validity period |
//! | [`public_key_pins`](Builder::public_key_pins) | a pinned public key, the validity period |
//! | both | all of these, as with curl's `--cacert` and `--pinnedpubkey` |
//!
//! # Defaults
//!
//! | Setting | Default |
//! |---|---|
//! | [`connect_timeout`](Builder::connect_timeout): name, TCP and TLS | 5 s |
//! | [`timeout`](Builder::timeout): to the response head | 30 s |
//! | [`read_timeout`](Builder::read_timeout): between two parts of a response body | 5 min |
//! | [`request_timeout`](Builder::request_timeout): the whole exchange | none |
//! | [`expect_continue`](Builder::expect_continue) | the backend decides, for 1 s |
//! | [`max_idle`](Builder::max_idle), [`idle_timeout`](Builder::idle_timeout) | 128 connections per backend, 60 s |
//! | [`max_connections`](Builder::max_connections), [`queue_timeout`](Builder::queue_timeout) | no limit, 5 s |
//! | HTTP/2 connections per backend; streams on each | 256; 100, or the backend's own limit |
//! | Requests that wait for a stream | 4,096 per backend, then 503 |
//! | Response head; trailer section | 64 KiB, 128 fields; 16 KiB, 32 fields |
//! | [`root_certificates`](Builder::root_certificates) | those of the system |
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod addresses;
mod attempt;
mod backend;
mod backend_list;
mod backend_state;
mod backends;
mod balance;
mod body;
mod builder;
mod connection_auth;
mod connection_limit;
mod connector;
mod error;
mod exchange;
mod expectation;
mod extensions;
mod hash;
mod health;
mod health_check;
mod health_checker;
mod http1;
mod http1_pool;
mod http2;
mod pools;
mod removed_backends;
mod request_body;
mod resolver;
mod retry_budget;
mod rewrite;
mod service;
mod settings;
mod socket;
mod stale_addresses;
mod system_files;
mod timeouts;
mod tls;
mod trailers;

pub use rproxy_core::Rejection;

pub use self::backend::{Backend, BackendError, Protocol};
pub use self::backends::{BackendStatus, Backends, ProbeError};
pub use self::balance::{Balance, KeyFunction};
pub use self::body::UpstreamBody;
pub use self::builder::Builder;
pub use self::error::{BodyError, BuildError, ProxyError, ProxyErrorKind};
pub use self::expectation::ExpectContinue;
pub use self::extensions::{ClientConnection, InterimRelay};
pub use self::health_check::HealthCheck;
pub use self::removed_backends::{DrainTimeout, RemovedBackends};
pub use self::service::{ResponseFuture, Upstream};
pub use self::system_files::SystemFiles;
pub use self::tls::{PinError, PublicKeyPin};

/// The maximum memory that one exchange can occupy in an [`Upstream`], in bytes, over HTTP/1.1 or HTTP/2.
pub const MAX_EXCHANGE_SIZE: usize = if http1::MAX_EXCHANGE_SIZE > http2::MAX_EXCHANGE_SIZE {
    http1::MAX_EXCHANGE_SIZE
} else {
    http2::MAX_EXCHANGE_SIZE
};

/// Compiles the examples of the README as doc tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
