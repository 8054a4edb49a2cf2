//! The key by which a request is counted.

use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::request::Parts;
use rproxy_client_ip::ClientIp;

/// A function from a request head to the key by which the request is counted.
///
/// Closures implement it. A request for which the closure returns `None` is not limited.
///
/// A limiter stores a 64-bit hash of the key, with a secret seed, so long keys take no more memory than short ones.
///
/// # Examples
///
/// ```
/// use http::request::Parts;
/// use rproxy_rate_limit::{Quota, RateLimitLayer};
///
/// let by_token = RateLimitLayer::builder(Quota::per_minute(600))
///     .key(|head: &Parts| head.headers.get("x-api-key").cloned())
///     .build()?;
///
/// // One quota for all requests together.
/// let global = RateLimitLayer::builder(Quota::per_second(5000)).key(|_: &Parts| Some(())).build()?;
/// # let _ = (by_token, global);
/// # Ok::<(), rproxy_rate_limit::RateLimitLayerError>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot compute a rate limit key from a request head",
    label = "the trait `RequestKey` is not implemented for this type",
    note = "a closure must name its argument type and return an `Option` of a type that implements `Hash`: \
            `|head: &http::request::Parts| head.headers.get(\"x-api-key\").cloned()`"
)]
pub trait RequestKey {
    /// The type of the keys by which requests are counted. Requests with equal keys share a quota.
    type Key: Hash;

    /// Returns the key of a request, or `None` if the request is not limited.
    ///
    /// # Errors
    ///
    /// Returns an error if the request lacks data that another layer should have inserted. The request is then rejected
    /// with 500.
    fn key(&self, head: &Parts) -> Result<Option<Self::Key>, MissingKeyError>;
}

impl<F, K> RequestKey for F
where
    F: Fn(&Parts) -> Option<K>,
    K: Hash,
{
    type Key = K;

    fn key(&self, head: &Parts) -> Result<Option<K>, MissingKeyError> {
        Ok(self(head))
    }
}

/// A key that consists of the client's address or network, from the request extension [`ClientIp`].
///
/// IPv4 clients are counted by address. IPv6 clients are counted by /64, because a client usually has a whole /64.
///
/// # Examples
///
/// ```
/// use rproxy_rate_limit::{ClientKey, Quota, RateLimitLayer};
///
/// // Some providers assign each customer a /56.
/// let layer = RateLimitLayer::builder(Quota::per_second(100)).key(ClientKey::default().ipv6_prefix(56)).build()?;
/// # let _ = layer;
/// # Ok::<(), rproxy_rate_limit::RateLimitLayerError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct ClientKey {
    // `None`: IPv4 clients are not limited.
    ipv4_prefix: Option<u8>,
    ipv6_prefix: u8,
}

impl ClientKey {
    /// Sets the length of the IPv4 prefix by which clients are counted; default 32.
    ///
    /// The maximum is 32.
    pub const fn ipv4_prefix(mut self, bits: u8) -> Self {
        self.ipv4_prefix = Some(bits);
        self
    }

    /// Excludes IPv4 clients, for a policy that limits only IPv6 networks.
    pub const fn ipv6_only(mut self) -> Self {
        self.ipv4_prefix = None;
        self
    }

    /// Sets the length of the IPv6 prefix by which clients are counted; default 64.
    ///
    /// The maximum is 128.
    pub const fn ipv6_prefix(mut self, bits: u8) -> Self {
        self.ipv6_prefix = bits;
        self
    }

    /// Returns the first address of the network that `address` belongs to.
    fn network(&self, address: IpAddr) -> Option<IpAddr> {
        // `::ffff:192.0.2.1` is 192.0.2.1. Counted as IPv6, all IPv4 clients would share one /64.
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let host_bits = u32::MAX.checked_shr(self.ipv4_prefix?.into()).unwrap_or(0);
                Some(Ipv4Addr::from_bits(address.to_bits() & !host_bits).into())
            }
            IpAddr::V6(address) => {
                let host_bits = u128::MAX.checked_shr(self.ipv6_prefix.into()).unwrap_or(0);
                Some(Ipv6Addr::from_bits(address.to_bits() & !host_bits).into())
            }
        }
    }
}

impl Default for ClientKey {
    fn default() -> Self {
        Self { ipv4_prefix: Some(32), ipv6_prefix: 64 }
    }
}

impl RequestKey for ClientKey {
    type Key = IpAddr;

    fn key(&self, head: &Parts) -> Result<Option<IpAddr>, MissingKeyError> {
        match head.extensions.get::<ClientIp>() {
            Some(client) => Ok(self.network(client.0)),
            None => Err(MissingKeyError::new(
                "no rproxy_client_ip::ClientIp in the request extensions: add ClientIpLayer outside RateLimitLayer",
            )),
        }
    }
}

/// The error for a request without the data from which its key is computed.
///
/// It is a mistake in the program, such as a missing layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{advice}")]
pub struct MissingKeyError {
    advice: &'static str,
}

impl MissingKeyError {
    /// Creates an error with advice for the developer, such as the name of a missing layer. It is not sent to the
    /// client.
    pub const fn new(advice: &'static str) -> Self {
        Self { advice }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(config: ClientKey, address: &str) -> Option<IpAddr> {
        let request = http::Request::get("/").extension(ClientIp(address.parse().unwrap()));
        config.key(&request.body(()).unwrap().into_parts().0).unwrap()
    }

    #[test]
    fn client_key_is_the_address_masked_to_the_prefix() {
        let default = ClientKey::default();
        for (config, address, network) in [
            (default, "192.0.2.1", "192.0.2.1"),
            (default, "::ffff:192.0.2.1", "192.0.2.1"),
            (default, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            (default, "::1", "::"),
            (default.ipv6_prefix(56), "2001:db8:1:2ff:3:4:5:6", "2001:db8:1:200::"),
            (default.ipv6_prefix(128), "2001:db8::1", "2001:db8::1"),
            (default.ipv6_prefix(255), "2001:db8::1", "2001:db8::1"),
            (default.ipv6_prefix(0), "2001:db8::1", "::"),
            (default.ipv6_prefix(0), "192.0.2.1", "192.0.2.1"),
            (default.ipv4_prefix(24), "192.0.2.1", "192.0.2.0"),
            (default.ipv4_prefix(0), "192.0.2.1", "0.0.0.0"),
            (default.ipv4_prefix(255), "192.0.2.1", "192.0.2.1"),
        ] {
            assert_eq!(key(config, address), Some(network.parse().unwrap()), "{address} by {config:?}");
        }
    }

    #[test]
    fn ipv6_only_key_ignores_ipv4_clients() {
        let tier = ClientKey::default().ipv6_prefix(48).ipv6_only();
        assert_eq!(key(tier, "2001:db8:1:2::3"), Some("2001:db8:1::".parse().unwrap()));
        for address in ["192.0.2.1", "::ffff:192.0.2.1"] {
            assert_eq!(key(tier, address), None);
        }
    }

    #[test]
    fn missing_client_ip_error_names_the_layer_to_add() {
        let head = http::Request::new(()).into_parts().0;
        let error = ClientKey::default().key(&head).unwrap_err();
        assert!(error.to_string().contains("ClientIpLayer"), "{error}");
    }

    proptest! {
        #[test]
        fn addresses_share_a_key_only_if_they_share_the_prefix(a: u128, b: u128, shared in 0..=128u32, bits in 0..=128u8) {
            // `b` is made to equal `a` in the first `shared` bits and to differ in the next one.
            let rest = u128::MAX.checked_shr(shared).unwrap_or(0);
            let next = 1u128.checked_shl(127u32.wrapping_sub(shared)).unwrap_or(0);
            let (a, b) = (Ipv6Addr::from_bits(a), Ipv6Addr::from_bits(((a & !rest) | (b & rest)) & !next | (!a & next)));
            prop_assume!(a.to_ipv4_mapped().is_none() && b.to_ipv4_mapped().is_none());
            let key = ClientKey::default().ipv6_prefix(bits);
            let same = key.network(a.into()) == key.network(b.into());
            prop_assert_eq!(same, u32::from(bits) <= shared);
        }
    }
}
