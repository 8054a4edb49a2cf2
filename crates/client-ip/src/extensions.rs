//! Request extensions that [`ClientIpLayer`](crate::ClientIpLayer) reads or inserts.

use std::net::{IpAddr, SocketAddr};

use http::HeaderValue;
use http::uri::Scheme;

/// The client's address, which [`ClientIpLayer`](crate::ClientIpLayer) inserts as a request extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientIp(pub IpAddr);

/// The TCP peer's address, which the server must insert as a request extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerAddr(pub SocketAddr);

/// The forwarding data that a trusted peer sent with the request, as a request extension.
///
/// [`ClientIpLayer`](crate::ClientIpLayer) inserts it only if the peer is a [trusted proxy](crate::TrustedProxies). Other
/// layers may then trust the client address, the scheme and the request ID in the peer's header fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedPeer {
    pub(crate) hops: Vec<IpAddr>,
    pub(crate) scheme: Option<Scheme>,
    pub(crate) host: Option<HeaderValue>,
    pub(crate) lacks_client: bool,
}

impl TrustedPeer {
    /// Returns the hops that the peer reported in its forwarding field, without the peer itself.
    ///
    /// The first one is the client, the last one is the proxy next to the peer. The slice is empty if the peer reported no
    /// valid address.
    pub fn hops(&self) -> &[IpAddr] {
        &self.hops
    }

    /// Returns whether a trusted peer failed to report a valid client address.
    ///
    /// It is false if there is no [source](crate::ClientIpSource).
    pub fn lacks_client(&self) -> bool {
        self.lacks_client
    }

    /// Returns the scheme of the client's request according to the `proto` parameter of `Forwarded`.
    ///
    /// It is `None` unless `Forwarded` is the [source](crate::ClientIpSource).
    pub fn forwarded_scheme(&self) -> Option<&Scheme> {
        self.scheme.as_ref()
    }

    /// Returns the `Host` of the client's request according to the `host` parameter of `Forwarded`.
    ///
    /// It is `None` unless `Forwarded` is the [source](crate::ClientIpSource). The value is not validated, and some proxies
    /// forward a host that the client chose. Use it only if the proxy is trusted for hosts, too.
    pub fn forwarded_host(&self) -> Option<&HeaderValue> {
        self.host.as_ref()
    }
}
