//! Middleware that determines the address of the client behind trusted proxies.
//!
//! [`ClientIpLayer`] inserts the extension [`ClientIp`] into each request. Rate limits, logs and forwarding fields can
//! then rely on one address that a client cannot spoof.
//!
//! # Example
//!
//! ```
//! use http_body_util::BodyExt;
//! use rproxy_client_ip::{ClientIp, ClientIpLayer, PeerAddr, TrustedProxies};
//! use tower::{BoxError, Layer, ServiceExt, service_fn};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), BoxError> {
//!     let service = service_fn(async |request: http::Request<String>| {
//!         let ClientIp(client) = request.extensions().get().ok_or("no client address")?;
//!         Ok::<_, BoxError>(http::Response::new(client.to_string()))
//!     });
//!     let layer = ClientIpLayer::new(TrustedProxies::none().trust("10.0.0.0/8".parse()?));
//!
//!     let request = http::Request::get("/")
//!         .extension(PeerAddr("10.0.0.7:4711".parse()?))
//!         .header("x-forwarded-for", "6.6.6.6, 192.0.2.1, 10.0.0.9")
//!         .body(String::new())?;
//!     let response = layer.layer(service).oneshot(request).await?;
//!
//!     // 10.0.0.7 and 10.0.0.9 are trusted, so 192.0.2.1 is the client. 6.6.6.6 could be spoofed.
//!     assert_eq!(response.into_body().collect().await?.to_bytes(), "192.0.2.1");
//!     Ok(())
//! }
//! ```
//!
//! # Algorithm
//!
//! 1. The peer address is read from the request extension [`PeerAddr`] or, with the feature `axum`, from axum's
//!    `ConnectInfo<SocketAddr>`.
//! 2. If the peer is not a [trusted proxy](TrustedProxies), the peer is the client. Its header fields are ignored.
//! 3. If it is trusted, the addresses in the [`ClientIpSource`] (`X-Forwarded-For` by default) are examined from right
//!    to left. The first address that is not a trusted proxy is the client.
//!
//! An invalid element ends the search at the last valid address. `Forwarded` is parsed strictly by RFC 7239: of an element
//! that violates the grammar, nothing is used. Only the source is read: a `Forwarded` beside `X-Forwarded-For` has no effect,
//! and vice versa. At most 64 addresses are examined. IPv4-mapped IPv6
//! addresses are converted to IPv4.
//!
//! # Extensions
//!
//! | Request extension | Content |
//! |---|---|
//! | [`ClientIp`] | The client address |
//! | [`TrustedPeer`] | Present if the peer is a trusted proxy: the addresses between client and peer; scheme and host, if the source is `Forwarded` |
//! | `rproxy_server::ClientConnection` | If the server has set it: each client address behind one connection of a trusted proxy gets its own |
//!
//! Other layers use forwarding fields of the request only if [`TrustedPeer`] is present.
//!
//! # Features
//!
//! No feature is on by default.
//!
//! | Feature | Adds |
//! |---|---|
//! | `address-rules` | [`AddressRules`], which decide by large lists of addresses, and [`AddressList`], their text form |
//! | `axum` | Reads the peer address from axum's `ConnectInfo<SocketAddr>`; makes `ClientIp` an extractor |
//!
//! # Errors
//!
//! Without a peer address the layer responds with 500, and the body names the missing piece: [`PeerAddr`], or axum's
//! `into_make_service_with_connect_info::<SocketAddr>()`. The response has a [`Rejection`] in its extensions.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

#[cfg(feature = "address-rules")]
mod address_list;
#[cfg(feature = "address-rules")]
mod address_rules;
mod cidr;
mod client_connection;
mod config;
mod extensions;
#[cfg(feature = "axum")]
mod extract;
mod forwarded;
mod future;
/// Functions that the fuzz targets of this crate call. Not part of the public API.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod hops;
mod layer;
mod published_ranges;
mod resolve;
mod service;
mod trusted_proxies;

pub use rproxy_core::{Rejection, ResponseBody};

#[cfg(feature = "address-rules")]
pub use self::address_list::{AddressList, AddressListError};
#[cfg(feature = "address-rules")]
pub use self::address_rules::{AddressDecision, AddressRules};
pub use self::cidr::{Cidr, CidrError};
pub use self::extensions::{ClientIp, PeerAddr, TrustedPeer};
pub use self::future::ResponseFuture;
pub use self::layer::ClientIpLayer;
pub use self::published_ranges::{Cdn, PUBLISHED_RANGES_DATE};
pub use self::resolve::{ClientIpSource, ClientIpSourceError};
pub use self::service::ClientIpService;
pub use self::trusted_proxies::{TrustedProxies, TrustedProxiesError};

/// Compiles the examples in the README as doc tests.
#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
