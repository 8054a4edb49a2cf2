//! Middleware that compresses responses with Brotli, gzip or zstd.
//!
//! [`CompressionLayer`] applies the content coding that the client prefers to responses that shrink and may be changed.
//! Conditional requests, HEAD, ranges and digests stay correct.
//!
//! # Example
//!
//! ```
//! use std::convert::Infallible;
//!
//! use http::{Request, Response, header};
//! use rproxy_compression::CompressionLayer;
//! use tower::{BoxError, Layer, ServiceExt, service_fn};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), BoxError> {
//!     let service = CompressionLayer::new().layer(service_fn(async |_: Request<()>| {
//!         let response = Response::builder().header("content-type", "application/json").header("etag", "\"v1\"");
//!         Ok::<_, Infallible>(response.body("[1, 2, 3, 4]".repeat(100)).unwrap_or_default())
//!     }));
//!
//!     let request = Request::get("/").header(header::ACCEPT_ENCODING, "gzip, br").body(())?;
//!     let response = service.oneshot(request).await?;
//!     assert_eq!(response.headers()[header::CONTENT_ENCODING], "br");
//!     assert_eq!(response.headers()[header::ETAG], "\"v1-br\"");
//!     assert_eq!(response.headers()[header::VARY], "accept-encoding");
//!     Ok(())
//! }
//! ```
//!
//! # Compressed responses
//!
//! A response is compressed if all of these conditions are met:
//!
//! - The client accepts a coding (RFC 9110 §12.5.3). Of several with the same weight, the first of [`Coding::ALL`] is used.
//! - The media type is text or similar: `text/*` except `text/event-stream`, JSON, XML, JavaScript, WebAssembly, fonts and
//!   images in uncompressed formats (TTF, OTF, icons, bitmaps, SVG), and others.
//! - The size is unknown, or at least 256 bytes ([`min_size`](CompressionLayer::min_size)).
//! - Fewer than 64 other responses are being compressed in the process ([`encoder_limit`](CompressionLayer::encoder_limit)).
//!
//! The layer never compresses event streams, gRPC, responses with the status 204, 205, 206 or 304, and responses with
//! `Content-Encoding`, `Content-Range`,
//! `Cache-Control: no-transform` or `Signature-Input` (RFC 9421).
//!
//! A response that is compressible has `Accept-Encoding` in `Vary`, whether or not it is compressed. A response to HEAD has
//! the fields of the response to GET, without `Content-Length`.
//!
//! # Entity tags
//!
//! A compressed variant has other bytes, so it cannot have the strong `ETag` of the uncompressed one (RFC 9110 §8.8.3.3):
//!
//! | Tag of the inner service | Variant | Tag of the client |
//! |---|---|---|
//! | `"v1"` | brotli, gzip, zstd | `"v1-br"`, `"v1-gzip"`, `"v1-zstd"` |
//! | `"v1"` | uncompressed | `"v1"` |
//! | `W/"v1"` | all | `W/"v1"` |
//! | `"v1-br"` | gzip | `"v1-br-gzip"` |
//! | `"v1-br"` | uncompressed | `"v1-br-identity"` |
//!
//! In `If-Match`, `If-None-Match` and `If-Range`, the suffix is removed before the inner service gets the request. The tag
//! is unambiguous: if the inner service's own tag ends in one of the four suffixes, the client gets it with a second suffix.
//! This applies to all responses with such a tag, as the request does not say which response a tag is from.
//!
//! - `If-None-Match` of GET and HEAD: tags of codings that the client would not get are removed, because they do not match
//!   the selected representation.
//! - A weak tag in `If-None-Match` matches like a strong one (RFC 9110 §8.8.3.2): for `W/"v1-br"`, the inner service gets
//!   `W/"v1-br", "v1"`, since the tag can also be its own. `If-Match` and `If-Range` compare strongly.
//! - A 304 or 412 has the `ETag` and `Vary` of the 200, if the request names the tag of a compressed variant or the 304 has
//!   a `Content-Type`. Otherwise nothing shows that the resource is compressible.
//! - `Range` is removed from a request whose `If-Range` or `If-Match` names a compressed variant. The client gets the complete
//!   content: the inner service has ranges of the uncompressed variant only, which do not continue the client's part.
//! - Weak tags of responses are never changed. They do not promise the same bytes.
//!
//! # Removed fields
//!
//! A compressed response loses the fields that describe the uncompressed bytes: `Content-Length`, `Accept-Ranges`,
//! `Content-Digest` and `Repr-Digest` (RFC 9530), `Digest` (RFC 3230) and `Content-MD5`. The digests are removed from its
//! trailers and from `Trailer`, too.
//!
//! # BREACH
//!
//! A compressed response discloses by its size whether a part of it repeats another. If a page repeats a text of the request,
//! and contains a secret such as a CSRF token, someone who can make a browser send requests and observe the connection can
//! find out the secret ([BREACH](https://www.breachattack.com)). TLS does not hide the size.
//!
//! [`private(false)`](CompressionLayer::private) excludes private responses from compression. A response is private if one of
//! these conditions is met:
//!
//! - It has `Set-Cookie`, `Cache-Control: private` or `no-store`, or `Cookie`, `Authorization` or `*` in `Vary`.
//! - The request has a `Cookie`, and `Cache-Control` has none of `public`, `immutable`, `s-maxage` and `max-age` above zero.
//! - The request has `Authorization`, or another layer has inserted `rproxy_core::Authenticated`, and `Cache-Control` has none
//!   of `public`, `immutable` and `s-maxage` above zero.
//!
//! Most style sheets and scripts are thus still compressed, because servers send them with a lifetime.
//!
//! # Order
//!
//! Place the layer inside of a cache, so that a body is compressed once and served many times. The cache stores each
//! variant under its own tag, and revalidates it with that.
//!
//! # Fairness and memory
//!
//! A body compresses 32 KiB, and then yields to all other tasks of its worker. Outside of a tokio runtime, a body does not
//! yield. An encoder takes up to 30 MiB for a long body (brotli). A response that is not compressed costs no
//! allocation.
//!
//! # Errors
//!
//! The layer rejects no request and forwards errors of the inner service. If the inner body fails, the compressed body
//! fails.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod body;
mod budget;
mod coding;
mod config;
mod encoder_limit;
mod entity_tag;
mod future;
/// Functions that the fuzz targets of this crate call. Not part of the public API.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod layer;
mod media_type;
mod private;
mod request;
mod response;
mod service;

pub use self::body::ResponseBody;
pub use self::coding::Coding;
pub use self::encoder_limit::EncoderLimit;
pub use self::future::ResponseFuture;
pub use self::layer::CompressionLayer;
pub use self::service::CompressionService;

/// Compiles the examples in the README as doc tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
