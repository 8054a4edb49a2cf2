//! Middleware that caches HTTP responses: a shared cache (RFC 9111), in memory and optionally on disk.
//!
//! [`CacheLayer`] stores what the origin's response allows, and nothing else by default. Bodies are streamed to the
//! client while they are stored.
//!
//! # Example
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
//! # Behaviour
//!
//! - **Storing**: responses to GET that a shared cache may store (RFC 9111 §3), if the body ends cleanly and has at
//!   most [`max_object`](CacheLayer::max_object) bytes. `RProxy-Cache-Control` and `CDN-Cache-Control` (RFC 9213) take
//!   precedence over `Cache-Control`.
//! - **Serving**: GET and HEAD while a stored response is fresh (`s-maxage`, `max-age`, `Expires`), with `Age`.
//!   Conditional and range requests are answered from the cache, several ranges as `multipart/byteranges`. Partial
//!   responses are stored, combined and [completed](#incomplete-responses).
//! - **Request coalescing**: requests for a resource that is already being fetched [wait](CacheLayer::coalesce_timeout) for
//!   that response and receive its body as it arrives. Preconditions of the clients are then evaluated by the cache.
//! - **Revalidation**: stale responses are revalidated by `ETag` and `Last-Modified`. A request for a variant that is
//!   not stored is forwarded with the entity-tags of stored variants ([up to 16](CacheLayer::empty_body), RFC 9111
//!   §4.3.1).
//! - **Stale responses**: `stale-while-revalidate` and `stale-if-error` (RFC 5861), `max-stale` of the client, and an
//!   [unreachable](CacheLayer::stale_when_unreachable) origin, unless a directive forbids it.
//! - **Invalidation**: by successful unsafe methods, and by [groups](Purge::Tag) (RFC 9875).
//! - **Purging**: [`CacheStore::purge`] and `soft_purge`, by URL, prefix or tag.
//!
//! `Cache-Status` (RFC 9211) and the response extension [`CacheStatus`] report the result.
//!
//! # Responses that are not stored
//!
//! - `private`, `no-store`, `Vary: *`.
//! - Responses to `Authorization`, or to a request with the extension `Authenticated` of `rproxy-core`, without permission (RFC
//!   9111 §3.5).
//! - Responses with `Set-Cookie` without an explicit lifetime. With one, they are stored without the cookie;
//!   [`set_cookie`](CacheLayer::set_cookie) changes this.
//! - Responses without caching fields to requests with credentials (`Cookie`, `Authorization`, and fields whose names
//!   contain words such as `auth`, `token` or `key`). Without credentials they are stored only for revalidation: the
//!   origin confirms each use with a 304, and they are never served stale.
//! - Responses whose content type does not match the file extension of the path, such as `/account/x.css` as
//!   `text/html` (cache deception).
//! - Documents for which the [`RequestSpecificCheck`] of an outer layer returns true, such as those with a CSP nonce.
//!
//! # Cache key
//!
//! The key consists of scheme, host, path and query. The scheme is the extension `http::uri::Scheme` of the request,
//! else that of the URI, else `http`. [Query rules](CacheLayer::query), [`No-Vary-Search`](CacheLayer::no_vary_search)
//! and a [hook](CacheLayer::key) change it. Requests with content, `Upgrade`, `If-Match`, `If-Unmodified-Since` or
//! without a valid host bypass the cache.
//!
//! Below a router that strips a prefix, such as axum's `Router::nest`, several resources would share a key. With the
//! feature `axum` the key, the [paths](CacheLayer::paths) and the [hooks](RequestHead::uri) use the target that the
//! client sent (axum's `OriginalUri`). Otherwise place the layer outside the router, or set a [key](CacheLayer::key).
//!
//! # Incomplete responses
//!
//! A stored partial response with a strong `ETag` is completed when a client requests the whole, or a range beyond the
//! part (RFC 9111 §3.3, §3.4). The origin gets a request for the missing bytes only, with `Range` and `If-Range`. The
//! client receives the stored bytes at once and the rest as it arrives. If the representation has changed, the origin
//! sends all of it, which replaces the stored parts. If the rest breaks off, the response to the client breaks off with
//! an error, and the bytes that arrived are stored.
//!
//! A response that breaks off is stored as a partial response if it has a strong `ETag`, a `Content-Length` of at most
//! [`max_object`](CacheLayer::max_object), an explicit lifetime and no `Accept-Ranges: none`. A partial response never
//! replaces a complete one.
//!
//! Completion needs [`empty_body`](CacheLayer::empty_body), because the request is repeated if the origin sends bytes
//! that do not fit. Without it, partial responses serve only the ranges that they contain.
//!
//! Ranges of a complete response are served, except of one that was compressed on the fly, whose `ETag` ends in the
//! name of its coding (`"v1-br"`): it is served whole, because two compressions differ in their bytes.
//!
//! # End of a body
//!
//! A response is stored when its body reports its end. All bytes of `Content-Length` are not sufficient, because an
//! HTTP/2 stream can be reset after its last byte. If the client has disconnected by then, the cache reads on for up to
//! 5 s.
//!
//! Trailers are stored and sent with each hit of the whole representation, except `Set-Cookie`, up to 32 fields and 16
//! KiB. A response with more is not stored.
//!
//! `Cache-Status` is sent before the body. Its parameter `stored` (RFC 9211 §2.5) therefore means that storing has
//! begun; a body that breaks off or exceeds a limit, or an invalidation, can still prevent it.
//!
//! # Second-level store
//!
//! Memory is the first level ([moka](https://docs.rs/moka), TinyLFU). A [`Tier`] is an optional second level, consulted
//! on a memory miss; it holds more, and survives a restart. The feature `disk` adds `DiskTier`, which stores one file per
//! resource in a folder.
//!
//! Memory is bounded by the capacity of the store, plus a quarter for bodies that are being stored.
//!
//! # Features
//!
//! No feature is on by default.
//!
//! | Feature | Adds |
//! |---|---|
//! | `disk` | `DiskTier`: a second-level store in a folder |
//! | `axum` | Uses the target that the client sent (axum's `OriginalUri`), also below `Router::nest` |
//!
//! # Errors
//!
//! Errors of the inner service pass through, unless a stale response may be served instead. A body that fails or
//! exceeds the limit reaches the client unchanged, and is not stored as complete. The layer itself responds only to
//! `only-if-cached` requests that it cannot serve, with 504 and a [`Rejection`] in the extensions.
//!
//! `stale-while-revalidate` and request coalescing need a tokio runtime. Without one, stale responses are revalidated
//! first and each request is forwarded.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod body;
mod cache_status;
mod clock;
mod coalesce;
mod config;
mod default_lifetime;
mod exchange;
mod fetch;
mod future;
/// Entry points of the fuzz targets, which unit tests also call. They panic if an invariant does not hold. Not public
/// API.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod hooks;
mod key;
mod layer;
mod lookup;
mod memory_size;
#[cfg(test)]
mod model;
mod paths;
mod policy;
mod purge;
mod query;
mod response;
mod service;
mod set_cookie;
mod store;
mod tier;

pub use rproxy_core::Rejection;

pub use self::body::ResponseBody;
pub use self::body::error::BodyError;
pub use self::cache_status::{CacheStatus, ForwardReason};
pub use self::default_lifetime::{DefaultLifetimeFuture, DefaultLifetimeLayer, DefaultLifetimeService};
pub use self::future::ResponseFuture;
pub use self::hooks::{RequestHead, RequestSpecificCheck};
pub use self::layer::CacheLayer;
pub use self::paths::{CachePaths, CachePathsError};
pub use self::purge::{Purge, PurgeError, PurgeTarget};
pub use self::query::{QueryRules, QueryRulesError};
pub use self::service::CacheService;
pub use self::set_cookie::{SetCookiePolicy, SetCookiePolicyError};
#[cfg(feature = "disk")]
pub use self::store::disk::{DiskError, DiskTier};
pub use self::store::{CacheStats, CacheStore};
pub use self::tier::{LoadFuture, Tier, TierEntry, TierStats};
