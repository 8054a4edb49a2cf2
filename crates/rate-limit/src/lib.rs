//! A [`tower_layer::Layer`] that limits the rate of requests, by default per client.
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
//!         // Who asks?
//!         .layer(ClientIpLayer::new(TrustedProxies::none()))
//!         // A request per minute, three at once.
//!         .layer(RateLimitLayer::new(Quota::per_minute(1).burst(3)))
//!         .service(service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::from("hello")))));
//!
//!     let mut get = async |peer: &str| {
//!         let request = Request::get("/").extension(PeerAddr(peer.parse()?)).body(())?;
//!         Ok::<_, BoxError>(service.call(request).await?)
//!     };
//!     for remaining in ["\"default\";r=2;t=120", "\"default\";r=1;t=60", "\"default\";r=0;t=60"] {
//!         let response = get("[2001:db8::1]:4711").await?;
//!         assert_eq!(response.status(), StatusCode::OK);
//!         assert_eq!(response.headers()["ratelimit"], remaining);
//!         assert_eq!(response.headers()["ratelimit-policy"], "\"default\";q=3;w=180");
//!     }
//!     // Another address of the same /64 is the same client.
//!     let response = get("[2001:db8::2]:4711").await?;
//!     assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
//!     assert_eq!(response.headers()["retry-after"], "60");
//!     // And this is another one.
//!     assert_eq!(get("[2001:db8:0:1::1]:4711").await?.status(), StatusCode::OK);
//!     Ok(())
//! }
//! ```
//!
//! # What it does
//!
//! Requests are counted by [governor]'s GCRA: each key has a bucket of [`burst`](Quota::burst) requests that fills
//! evenly. A request that is refused costs nothing. The key is the [`ClientIp`](rproxy_client_ip::ClientIp) that
//! `rproxy-client-ip` finds, IPv6 by /64; [others](RequestKey) as you like.
//!
//! Every answer to a request that was counted says what there is and what is left, in the fields of
//! [draft-ietf-httpapi-ratelimit-headers-11]:
//!
//! - `RateLimit-Policy: "default";q=200;w=2`: a burst of 200 requests, given back within 2 seconds;
//! - `RateLimit: "default";r=50;t=1`: 50 more may follow at once; spread over `t` seconds, that is the rate. With
//!   `r=0`, the next one may follow after `t`;
//! - `Retry-After`, in seconds, with a 429.
//!
//! Seconds are whole, rounded up, and at least one. Where an application sends such fields of its own, these are
//! added to them.
//!
//! Several [policies](RateLimitLayerBuilder::policy) may count one request: all have to let it pass, none is charged if one
//! does not, and the longest wait is told. [Tiers](RateLimitLayerBuilder::ipv6_tier) are policies of IPv6 networks, for those
//! who have more than a /64. [Costs](RateLimitLayerBuilder::cost), [exemptions](RateLimitLayerBuilder::exempt), a
//! [jitter](RateLimitLayerBuilder::jitter), a cap on what is [in progress](RateLimitLayerBuilder::max_in_flight) and the [older
//! fields](RateLimitLayerBuilder::legacy_fields) are there for the asking.
//!
//! Quotas are kept in the process, or in a [store](RateLimitStore) that several processes and machines share: with the
//! feature `redis`, `RedisStore` is one in Redis or Valkey. When it does not answer in time, requests are counted here,
//! pass, or get 503, [as was agreed](StoreFallback).
//!
//! In [shadow mode](RateLimitLayerBuilder::shadow) everything passes, the client is told nothing, and
//! [`RateLimitDecision`] in the extensions of the response tells you what would have been.
//!
//! # What it costs
//!
//! A hash, a lock that is seldom contended and never held for longer than it takes to look at one bucket, two header
//! fields and an extension. Memory: 16 bytes per key, from 256 KiB to 8 MiB by
//! [default](RateLimitLayerBuilder::max_keys), however many addresses there are. Keys that have their whole quota again are
//! forgotten when their place is needed, without a difference to anyone and without anything to sweep. Only when
//! hundreds of thousands of keys have requests to their name at the same time, those with the fewest start afresh.
//! Nobody is ever refused because there are many others. Each policy has a table of its own: with tiers of /56 and /48,
//! five million IPv6 sources take some 27 MiB at the most.
//!
//! A store costs what the way to it costs; nothing of it is there without one. While it is asked, the service that was
//! ready is kept for the answer, and a clone of it takes the next request: the inner service has to be [`Clone`].
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
//! # How it fails
//!
//! | Status | When |
//! |---|---|
//! | 429 | beyond the quota, or too many in progress; with `Retry-After` |
//! | 503 | the store does not answer, and [`StoreFallback::Closed`] was agreed; with `Retry-After` |
//! | 500 | no `ClientIp` in the request: a layer is missing, or in the wrong place. [`MissingKeyError`] says which |
//!
//! Each with a [`RateLimitDecision`] in its extensions. Errors of the inner service pass through.
//!
//! A quota of nothing is refused when it is made: see [`Quota`].
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
mod service;
mod store;
mod store_check;
mod time;

pub use governor::clock;

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
pub use self::store::{Charge, ChargeOutcome, RateLimitStore, StoreError, StoreFallback, StoreFuture};
