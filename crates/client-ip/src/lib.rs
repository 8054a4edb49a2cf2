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
//! [`Source`] (by default `X-Forwarded-For`) are walked from the right, the side our own proxies
//! append to, up to the first address that is not trusted: that is the client. What stands to the left
//! of it, which anyone may have written, is not looked at. A malformed hop ends
//! the walk at the last good one. IPv4-mapped IPv6 addresses are folded to IPv4 throughout.
//!
//! A trusted peer also leaves [`TrustedPeer`] in the request: other layers believe the client's address, the scheme and
//! the request id in forwarding headers only where it is present. The scheme and host that `Forwarded` tells of the
//! client's request are in it, too, if `Forwarded` is the [`Source`].
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
#[cfg(feature = "axum")]
mod extract;
mod future;
/// What the fuzzers call, and the tests in their stead: each function takes any bytes, and panics when something does not
/// hold. Not for anybody else.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod hops;
mod layer;
mod published;
mod resolve;
mod service;
mod trusted;

use std::net::{IpAddr, SocketAddr};

use http::HeaderValue;
use http::uri::Scheme;

pub use self::cidr::{Cidr, CidrError};
pub use self::future::ResponseFuture;
pub use self::layer::ClientIpLayer;
pub use self::published::{Cdn, PUBLISHED_RANGES_OF};
pub use self::resolve::{Source, SourceError};
pub use self::service::ClientIpService;
pub use self::trusted::{TrustedProxies, TrustedProxiesError};

/// Request extension: the address of the client, as far as trusted proxies vouch for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientIp(pub IpAddr);

/// Request extension: the other end of the TCP connection, inserted by the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerAddr(pub SocketAddr);

/// Request extension: present only when the peer is a trusted proxy, which is believed about the client's address, the
/// scheme and the request id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedPeer {
    hops: Vec<IpAddr>,
    scheme: Option<Scheme>,
    host: Option<HeaderValue>,
}

impl TrustedPeer {
    /// The hops the peer vouched for: the client first, the proxy nearest to the peer last; the
    /// peer itself is not among them. Empty when the peer reported nothing usable.
    pub fn hops(&self) -> &[IpAddr] {
        &self.hops
    }

    /// The scheme of the client's request by `Forwarded`, if that is the [`Source`] and says so.
    pub fn forwarded_scheme(&self) -> Option<&Scheme> {
        self.scheme.as_ref()
    }

    /// The `Host` of the client's request by `Forwarded`, if that is the [`Source`] and says so. It is not validated, and
    /// some proxies forward a host that the client chose.
    pub fn forwarded_host(&self) -> Option<&HeaderValue> {
        self.host.as_ref()
    }
}
