//! Middleware that limits the rate of requests, per client by default.
//!
//! [`RateLimitLayer`] counts requests with GCRA, an algorithm equivalent to a token bucket, and rejects excess requests
//! with 429 and `Retry-After`. Quotas are kept in the process or, with the feature `redis`, in Redis or Valkey.
//!
//! # Example
//!
//! ```
//! use std::convert::Infallible;
//!
//! use http::{Request, Response, StatusCode};
//! use rproxy_client_ip::{ClientIpLayer, PeerAddr, TrustedProxies};
//! use rproxy_rate_limit::{Quota, RateLimitLayer};
//! use tower::{BoxError, Service, ServiceBuilder, service_fn};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), BoxError> {
//!     let mut service = ServiceBuilder::new()
//!         // Determines the client address.
//!         .layer(ClientIpLayer::new(TrustedProxies::none()))
//!         // One request per minute, with bursts of three.
//!         .layer(RateLimitLayer::new(Quota::per_minute(1).burst(3)))
//!         .service(service_fn(async |_: Request<()>| {
//!             Ok::<_, Infallible>(Response::new(String::from("hello")))
//!         }));
//!
//!     let mut get = async |peer: &str| {
//!         let request = Request::get("/").extension(PeerAddr(peer.parse()?)).body(())?;
//!         Ok::<_, BoxError>(service.call(request).await?)
//!     };
//!     for remaining in [r#""default";r=2;t=120"#, r#""default";r=1;t=60"#, r#""default";r=0;t=60"#] {
//!         let response = get("[2001:db8::1]:4711").await?;
//!         assert_eq!(response.status(), StatusCode::OK);
//!         assert_eq!(response.headers()["ratelimit"], remaining);
//!         assert_eq!(response.headers()["ratelimit-policy"], r#""default";q=3;w=180"#);
//!     }
//!     // IPv6 addresses of one /64 are one client.
//!     let response = get("[2001:db8::2]:4711").await?;
//!     assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
//!     assert_eq!(response.headers()["retry-after"], "60");
//!     // An address of another /64 is another client.
//!     assert_eq!(get("[2001:db8:0:1::1]:4711").await?.status(), StatusCode::OK);
//!     Ok(())
//! }
//! ```
//!
//! # Quotas and keys
//!
//! Each key has a bucket of [`burst`](Quota::burst) requests that is refilled evenly. A rejected request is not
//! charged. The default key is the [`ClientIp`](rproxy_client_ip::ClientIp) of `rproxy-client-ip`, with IPv6 addresses
//! grouped by /64; any part of the request head can be the [key](RequestKey).
//!
//! | Option | Effect |
//! |---|---|
//! | [`policy`](RateLimitLayerBuilder::policy) | A further quota with its own key. A request must be allowed by all policies, and is charged to all or none |
//! | [`ipv6_tier`](RateLimitLayerBuilder::ipv6_tier) | A quota for whole IPv6 networks |
//! | [`max_in_flight`](RateLimitLayerBuilder::max_in_flight) | A limit on concurrent requests of a key |
//! | [`cost`](RateLimitLayerBuilder::cost), [`exempt`](RateLimitLayerBuilder::exempt) | Requests that count more, or not at all |
//! | [`refund`](RateLimitLayerBuilder::refund) | Requests that do not count if their response says so, such as cache hits |
//! | [`shadow`](RateLimitLayerBuilder::shadow) | Shadow mode: forwards all requests, and records the decision |
//! | [`jitter`](RateLimitLayerBuilder::jitter) | A random addition to `Retry-After` |
//!
//! # Header fields
//!
//! Each counted response has the fields of [draft-ietf-httpapi-ratelimit-headers-11]. They are added to those of the
//! application.
//!
//! | Field | Meaning |
//! |---|---|
//! | `RateLimit-Policy: "default";q=200;w=2` | A burst of 200 requests, refilled within 2 seconds |
//! | `RateLimit: "default";r=50;t=1` | 50 more requests are allowed now; spread over `t` seconds they match the rate. With `r=0`, the next one is allowed after `t` seconds |
//! | `Retry-After: 1` | With 429 and 503: seconds to wait, rounded up, at least 1 |
//!
//! [`legacy_fields`](RateLimitLayerBuilder::legacy_fields) adds `X-RateLimit-*`.
//!
//! # Shared quotas
//!
//! With a [`RateLimitStore`], several processes and machines share quotas. The feature `redis` adds `RedisStore`, which
//! charges a request under all policies in one round trip. [`StoreFallback`] decides what happens to requests while the
//! store does not respond.
//!
//! # Rejections
//!
//! | Status | When |
//! |---|---|
//! | 429 | The quota or the in-flight limit is exceeded |
//! | 503 | The store does not respond, with [`StoreFallback::Closed`] |
//! | 500 | The request has no `ClientIp`: `ClientIpLayer` is missing, or is further inside |
//!
//! Each response has a [`RateLimitDecision`] in its extensions, and that to a rejected request also a [`Rejection`]. Errors
//! of the inner service pass through.
//!
//! # Performance
//!
//! A request costs a hash, a short lock, two header fields and an extension. A key takes 16 bytes; the table of a
//! policy grows from 16 KiB to 8 MiB by [default](RateLimitLayerBuilder::max_keys) and not further. When it is full,
//! keys with a full bucket are evicted first, then those with the fewest charged requests, so no client is rejected for
//! lack of space. There is no background task.
//!
//! With a store, the inner service must be [`Clone`].
//!
//! # Features
//!
//! No feature is on by default.
//!
//! | Feature | Adds |
//! |---|---|
//! | `redis` | `RedisStore`: quotas shared by several processes, in Redis or Valkey |
//! | `axum` | `original_uri` returns the target that the client sent (axum's `OriginalUri`), also below `Router::nest` |
//!
//! [draft-ietf-httpapi-ratelimit-headers-11]: https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/11/
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod body;
mod builder;
mod config;
mod decision;
mod future;
mod header_fields;
mod in_flight;
mod key;
mod key_table;
mod layer;
mod limiter;
mod original_uri;
mod policies;
mod quota;
#[cfg(feature = "redis")]
mod redis;
mod refund;
mod service;
mod store;
mod store_check;
mod time;

pub use governor::clock;

pub use rproxy_core::Rejection;

pub use self::body::ResponseBody;
pub use self::builder::{RateLimitLayerBuilder, RateLimitLayerError};
pub use self::decision::RateLimitDecision;
pub use self::future::ResponseFuture;
pub use self::key::{ClientKey, MissingKeyError, RequestKey};
pub use self::layer::RateLimitLayer;
pub use self::original_uri::original_uri;
pub use self::quota::{Quota, QuotaError};
#[cfg(feature = "redis")]
pub use self::redis::{RedisStats, RedisStore, RedisUrlError};
pub use self::service::RateLimitService;
pub use self::store::{Charge, ChargeOutcome, RateLimitStore, StoreError, StoreFallback, StoreFuture, StoreObserver};

/// Compiles the examples in the README as doc tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
