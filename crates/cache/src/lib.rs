//! A shared HTTP cache (RFC 9111) as a [`tower_layer::Layer`]: what may be answered from memory is,
//! and what may be kept is kept while its client reads it.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::{BodyExt, Empty, Full};
//! use rproxy_cache::{CacheLayer, CacheStatus, CacheStore, Purge};
//! use tower::{BoxError, Layer, ServiceExt, service_fn};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), BoxError> {
//!     let origin = service_fn(async |_request: Request<Empty<Bytes>>| {
//!         let response = Response::builder().header("cache-control", "max-age=60");
//!         Ok::<_, BoxError>(response.body(Full::new(Bytes::from_static(b"hello")))?)
//!     });
//!     let store = CacheStore::in_memory(64 << 20);
//!     let service = CacheLayer::new(store.clone())
//!         .paths("/static/**,**/*.{css,js}".parse()?)
//!         .layer(origin);
//!
//!     for expected in ["rproxy; fwd=uri-miss; stored", "rproxy; hit; ttl=60"] {
//!         let request = Request::get("http://example.org/static/hello").body(Empty::new())?;
//!         let response = service.clone().oneshot(request).await?;
//!         assert_eq!(response.headers()["cache-status"], expected);
//!         assert_eq!(response.into_body().collect().await?.to_bytes(), "hello");
//!     }
//!     assert_eq!(store.stats().hits, 1);
//!
//!     store.purge(&Purge::url("http://example.org/static/hello")?);
//!     let request = Request::get("http://example.org/static/hello").body(Empty::new())?;
//!     let response = service.oneshot(request).await?;
//!     assert!(matches!(response.extensions().get(), Some(CacheStatus::Forwarded(_))));
//!     Ok(())
//! }
//! ```
//!
//! # What it does
//!
//! - **Stores** responses to GET that RFC 9111 §3 lets a shared cache store, if their body is of no more
//!   than [`max_object`](CacheLayer::max_object) bytes and ends cleanly. `RProxy-Cache-Control` and
//!   `CDN-Cache-Control` (RFC 9213) count instead of `Cache-Control`. Never stored: `private`, `no-store`, `Vary: *`,
//!   and responses to `Authorization` without permission. A response with `Set-Cookie` is stored if it
//!   says for itself for how long, and then without the cookie: that is for the client that it was made for.
//! - **Answers** GET and HEAD while a stored response is fresh (`s-maxage`, `max-age`, `Expires`, or a tenth
//!   of the time since `Last-Modified`), ranges and conditional requests included, with `Age`.
//! - **Collapses** requests for what is already [on its way](CacheLayer::collapse) to another client into one.
//! - **Validates** what is stale by `ETag` and `Last-Modified`; merges the 304 into what is stored.
//! - **Serves stale** where RFC 5861 directives, the client's `max-stale`, or an origin that can't be
//!   [reached](CacheLayer::stale_when_unreachable) allow it, and nothing forbids it.
//! - **Invalidates** on unsafe methods that succeed; and [groups](Purge::Tag) (RFC 9875) when the answer to one says so.
//!
//! The key is scheme (the [`http::uri::Scheme`] in the request's extensions, put there by the server,
//! else that of the URI, else `http`), host, path and query; [rules](CacheLayer::query) for queries and a
//! [hook](CacheLayer::key) can change that. Requests with content, with `Upgrade`, with
//! `If-Match` or `If-Unmodified-Since`, or without a clear host pass by. What happened stands in
//! `Cache-Status` (RFC 9211), and as [`CacheStatus`] in the response's extensions.
//!
//! Two guesses are not made, because caches that make them leak: a path that names a static file but is
//! answered with another type (`/account/x.css` as `text/html`) is stored only if the application gave it a
//! lifetime itself, and so is the answer to a request with a `Cookie`, static files aside.
//!
//! # How it fails
//!
//! Errors of the inner service pass through unless a stale response stands in. A body that fails, is cut
//! off, or outgrows the limit reaches the client as it would have without the cache, and is not stored.
//! The layer itself answers only `only-if-cached` requests that it can't serve: `504`.
//!
//! Memory is bounded by the store's capacity, and a quarter of it more for bodies on their way in.
//! `stale-while-revalidate` and collapsing need a tokio runtime; without one stale responses are validated first,
//! and everyone asks.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod answer;
mod body;
mod cache_control;
mod cache_status;
mod carried;
mod clock;
mod content_type;
mod date;
mod exchange;
mod fields;
mod flight;
mod flights;
mod follower;
mod freshness;
mod future;
mod generations;
mod hooks;
mod key;
mod layer;
mod leading;
mod memory;
mod paths;
mod purge;
mod purging;
mod query;
mod range;
mod reservation;
mod resource;
mod reuse;
mod service;
mod store;
mod stored;
mod storing;
mod tags;
mod targeted;
mod tee;
mod validation;
mod vary;

pub use self::body::{BodyError, ResponseBody};
pub use self::cache_status::{CacheStatus, Forwarded};
pub use self::future::ResponseFuture;
pub use self::hooks::RequestHead;
pub use self::layer::CacheLayer;
pub use self::paths::{CachePaths, CachePathsError};
pub use self::purge::{Purge, PurgeError, PurgeTarget};
pub use self::query::QueryRules;
pub use self::service::CacheService;
pub use self::store::{CacheStats, CacheStore};
