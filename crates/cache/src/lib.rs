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
//!   says for itself for how long, and then without the cookie: that is for the client that it was made for, unless
//!   [somebody](CacheLayer::set_cookie) answers for more.
//! - **Answers** GET and HEAD while a stored response is fresh (`s-maxage`, `max-age`, `Expires`, and [with
//!   leave](CacheLayer::heuristic_freshness) a tenth of the time since `Last-Modified`), ranges and conditional requests included, with `Age`.
//!   Several ranges are answered as `multipart/byteranges`. Parts are stored, too: they serve the ranges that they contain, they are
//!   [completed](#incomplete-responses) by the origin, and once all are there they are the whole (RFC 9111 §3.4).
//! - **Collapses** requests for what is already [on its way](CacheLayer::collapse) to another client into one. A client's
//!   own `If-None-Match` or `If-Modified-Since` is then answered here, and not passed on, so that what comes is worth something
//!   to the others: after a restart, browsers that have everything already fill the store all the same.
//! - **Validates** what is stale by `ETag` and `Last-Modified`; merges the 304 into what is stored. A request that selects
//!   none of the stored variants is forwarded with the strong entity-tags of others ([up to 16](CacheLayer::empty_body), RFC 9111
//!   §4.3.1); a 304 selects one of them. Not with those of variants that were requested with credentials, vary by them, or have a
//!   content coding that the client does not accept; nor with a tag that several representations share.
//! - **Serves stale** where RFC 5861 directives, the client's `max-stale`, or an origin that can't be
//!   [reached](CacheLayer::stale_when_unreachable) allow it, and nothing forbids it.
//! - **Invalidates** on unsafe methods that succeed; and [groups](Purge::Tag) (RFC 9875) when the answer to one says so.
//!
//! The key is scheme (the [`http::uri::Scheme`] in the request's extensions, put there by the server,
//! else that of the URI, else `http`), host, path and query; [rules](CacheLayer::query) for queries, responses with
//! [`No-Vary-Search`](CacheLayer::no_vary_search) and a [hook](CacheLayer::key) can change that. Requests with content, with `Upgrade`, with
//! `If-Match` or `If-Unmodified-Since`, or without a clear host pass by. What happened stands in
//! `Cache-Status` (RFC 9211), and as [`CacheStatus`] in the response's extensions.
//!
//! A response that says nothing of its lifetime is stored for validation only: the origin confirms each use of it by a 304, and
//! it is never served stale. Where caches guess more, they leak. So it is not stored at all if the request has credentials (`Cookie`,
//! `Authorization`, and fields whose names contain words such as `auth`, `token` or `key`), or if a path that names a
//! static file is answered with another type (`/account/x.css` as `text/html`).
//!
//! A layer further out that gives each request something of its own to write into pages, such as the nonce of a
//! `Content-Security-Policy`, says so by the extension [`IsForOneRequest`]; such pages are not stored.
//!
//! # Below a router
//!
//! A router that strips a prefix from the path (axum's `Router::nest`) makes one key of several resources. With the feature `axum`
//! the key, the [paths](CacheLayer::paths) and [hooks](RequestHead::uri) go by the target that the client sent (axum's
//! `OriginalUri`). Without the feature, and with other routers, put the layer outside of the router, or give it a
//! [key](CacheLayer::key) of the whole target.
//!
//! # More than memory holds
//!
//! Responses are kept in memory, in [moka](https://docs.rs/moka). A [`Tier`] behind it can keep more of them, and longer than the
//! process lives: it is given resources as bytes, and is asked where memory has nothing. The feature `disk` has `Disk`, one
//! that keeps files in a folder. Memory comes first, so that the tier costs hits in memory nothing.
//!
//! `Disk` is not [foyer](https://docs.rs/foyer), which would be the obvious choice: it asks for a newer compiler than these
//! crates do (1.91 for 0.22), it wants the memory to be its own as well, its engine for small objects is gone, and it reads and
//! writes by regions of several megabytes, which is made for blocks of a database rather than for a site's assets. A file each is
//! what nginx and Apache httpd do, and what the page cache of the system is good at. Whoever wants foyer, or a bucket
//! somewhere, implements [`Tier`] in a page of code.
//!
//! # Incomplete responses
//!
//! RFC 9111 §3.3 and §3.4. A stored part with a strong `ETag` is completed when a client requests the whole, or a range that
//! reaches beyond the part: the origin gets a request for the missing bytes alone, with `Range` and `If-Range`. The client receives
//! the stored bytes at once and the rest as it arrives. If the representation has changed, the origin sends all of it, and that
//! replaces the parts. If the rest breaks off, the response to the client breaks off with an error, and only the bytes that
//! arrived are stored.
//!
//! A response that breaks off is stored as such a part if it has a strong `ETag`, a `Content-Length` of at most
//! [`max_object`](CacheLayer::max_object), an explicit lifetime, and no `Accept-Ranges: none`. A complete response is never replaced
//! by a part, since it can still be served when the origin fails.
//!
//! All of this needs [`empty_body`](CacheLayer::empty_body), as the request has to be repeated if the origin sends bytes that do
//! not fit. Without it, parts only serve the ranges that they contain.
//!
//! # The end of a body
//!
//! A response is stored when its body reports its end (`None`, or `is_end_stream`). Having all bytes of `Content-Length` is not
//! enough: an HTTP/2 stream can be reset after its last byte. If the client has left by then, as servers do once they have
//! all bytes, the cache reads on for up to 5 s to see the end.
//!
//! Trailers are stored apart from the header section (RFC 9111 §3.1), and sent with each hit of the whole: up to 32 fields and
//! 16 KiB. With more than that the response is not stored. `Set-Cookie` in trailers is never stored.
//!
//! # What `stored` means
//!
//! `Cache-Status` is sent before the body, so `stored` (RFC 9211 §2.5) says that storing begins and that nothing known prevents it: the
//! response may be stored, its announced length fits, memory is free, and the resource was not invalidated meanwhile.
//! Afterwards the response may still not be stored, because its body breaks off, outgrows a limit that it did not announce,
//! or the resource is invalidated; and the store may prefer resources that are requested more often.
//!
//! # Features
//!
//! No feature is on by default.
//!
//! | Feature | Adds |
//! |---|---|
//! | `disk` | `Disk`: a second-level store of files that outlives a restart |
//! | `axum` | Cache keys use the target that the client sent (axum's `OriginalUri`), also below `Router::nest` |
//!
//! # How it fails
//!
//! Errors of the inner service pass through unless a stale response stands in. A body that fails, is cut
//! off, or outgrows the limit reaches the client as it would have without the cache, and is never stored as complete.
//! The layer itself answers only `only-if-cached` requests that it can't serve: `504`.
//!
//! Memory is bounded by the store's capacity, and a quarter of it more for bodies on their way in.
//! `stale-while-revalidate` and collapsing need a tokio runtime; without one stale responses are validated first,
//! and everyone asks.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod answer;
mod behind;
mod body;
mod cache_control;
mod cache_status;
mod carried;
mod clock;
mod completion;
mod content_type;
mod credentials;
mod date;
#[cfg(feature = "disk")]
mod disk;
mod entry;
mod exchange;
mod fetch;
mod fields;
mod flight;
mod flights;
mod follower;
mod freshening;
mod freshness;
mod future;
/// What the fuzzers call, and the tests in their stead: each function takes any bytes, and panics when something does not
/// hold. Not for anybody else.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod generations;
mod hooks;
mod key;
mod layer;
mod leading;
mod memory;
#[cfg(test)]
mod model;
mod multipart;
mod no_vary_search;
mod paths;
mod purge;
mod purging;
mod query;
mod range;
mod reader;
mod reservation;
mod resource;
mod reuse;
mod searches;
mod service;
mod set_cookie;
mod store;
mod stored;
mod storing;
mod tags;
mod targeted;
mod tee;
mod tier;
mod validation;
mod variants;
mod vary;

pub use self::body::{BodyError, ResponseBody};
pub use self::cache_status::{CacheStatus, Forwarded};
#[cfg(feature = "disk")]
pub use self::disk::{Disk, DiskError};
pub use self::future::ResponseFuture;
pub use self::hooks::{IsForOneRequest, RequestHead};
pub use self::layer::CacheLayer;
pub use self::paths::{CachePaths, CachePathsError};
pub use self::purge::{Purge, PurgeError, PurgeTarget};
pub use self::query::{QueryRules, QueryRulesError};
pub use self::service::CacheService;
pub use self::set_cookie::{SetCookie, SetCookieError};
pub use self::store::{CacheStats, CacheStore};
pub use self::tier::{Load, Tier, TierEntry, TierStats};
