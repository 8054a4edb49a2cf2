//! Who is the client? A [`tower_layer::Layer`] that finds the address of the client behind any
//! number of trusted proxies and leaves it in the request as [`ClientIp`].
//!
//! ```
//! use http_body_util::BodyExt;
//! use rproxy_client_ip::{ClientIp, ClientIpLayer, PeerAddr, TrustedProxies};
//! use tower::{BoxError, Layer, ServiceExt, service_fn};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), BoxError> {
//!     let whoami = service_fn(async |request: http::Request<String>| {
//!         let ClientIp(client) = request.extensions().get().ok_or("no client")?;
//!         Ok::<_, BoxError>(http::Response::new(client.to_string()))
//!     });
//!     let layer = ClientIpLayer::new(TrustedProxies::none().trust("10.0.0.0/8".parse()?));
//!
//!     let request = http::Request::get("/")
//!         .extension(PeerAddr("10.0.0.7:4711".parse()?))
//!         .header("x-forwarded-for", "6.6.6.6, 192.0.2.1, 10.0.0.9")
//!         .body(String::new())?;
//!     let response = layer.layer(whoami).oneshot(request).await?;
//!
//!     // 10.0.0.7 and 10.0.0.9 are ours; 192.0.2.1 is the first hop nobody vouches for.
//!     assert_eq!(response.into_body().collect().await?.to_bytes(), "192.0.2.1");
//!     Ok(())
//! }
//! ```
//!
//! # What it does
//!
//! The address of the TCP peer comes from the request extension [`PeerAddr`] or, with the feature
//! `axum`, from axum's `ConnectInfo<SocketAddr>`. If the peer is not a [trusted proxy](TrustedProxies)
//! it *is* the client, whatever its headers claim. If it is trusted, the hops that it reports in the
//! [`ClientIpSource`] (by default `X-Forwarded-For`) are walked from the right, the side our own proxies
//! append to, up to the first address that is not trusted: that is the client. What stands to the left
//! of it, which anyone may have written, is not looked at. A malformed hop ends
//! the walk at the last good one. IPv4-mapped IPv6 addresses are folded to IPv4 throughout.
//!
//! A trusted peer also leaves [`TrustedPeer`] in the request: other layers believe the client's address, the scheme and
//! the request id in forwarding headers only where it is present. The scheme and host that `Forwarded` tells of the
//! client's request are in it, too, if `Forwarded` is the [`ClientIpSource`].
//!
//! A list of more than 64 hops is cut off there.
//!
//! # Features
//!
//! No feature is on by default.
//!
//! | Feature | Adds |
//! |---|---|
//! | `axum` | Reads the peer address from axum's `ConnectInfo<SocketAddr>`; makes `ClientIp` an extractor |
//!
//! # How it fails
//!
//! Without a peer address there is nothing to start from, and no guess is made: the answer is a
//! `500` that says which piece is missing ([`PeerAddr`], or axum's
//! `into_make_service_with_connect_info::<SocketAddr>()`).
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod cidr;
mod config;
mod extensions;
#[cfg(feature = "axum")]
mod extract;
mod future;
/// The functions that the fuzz targets call. Not part of the public API.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod hops;
mod layer;
mod published_ranges;
mod resolve;
mod service;
mod trusted_proxies;

pub use self::cidr::{Cidr, CidrError};
pub use self::extensions::{ClientIp, PeerAddr, TrustedPeer};
pub use self::future::{ResponseBody, ResponseFuture};
pub use self::layer::ClientIpLayer;
pub use self::published_ranges::{Cdn, PUBLISHED_RANGES_DATE};
pub use self::resolve::{ClientIpSource, ClientIpSourceError};
pub use self::service::ClientIpService;
pub use self::trusted_proxies::{TrustedProxies, TrustedProxiesError};
