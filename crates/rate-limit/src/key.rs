//! Whom a request is counted for.

use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::request::Parts;
use rproxy_client_ip::ClientIp;

/// Finds the key that a request is counted under.
///
/// Any closure over the head of a request does; what it gives no key is not limited:
///
/// ```
/// use http::request::Parts;
/// use rproxy_rate_limit::{Quota, RateLimitLayer};
///
/// let by_token = RateLimitLayer::new(Quota::per_minute(600))
///     .key(|head: &Parts| head.headers.get("x-api-key").cloned());
/// # let _ = by_token;
/// ```
///
/// One quota for all requests together is `.key(|_: &Parts| Some(()))`.
///
/// Of a key, 64 bits of a hash with a secret seed are kept: long ones take no more memory than short ones.
#[diagnostic::on_unimplemented(
    message = "`{Self}` finds no key in the head of a request",
    label = "not a `RequestKey`",
    note = "a closure has to name the type of its argument, and to return an `Option` of something that can be hashed: \
            `|head: &http::request::Parts| head.headers.get(\"x-api-key\").cloned()`"
)]
pub trait RequestKey {
    /// Requests with equal keys share a quota.
    type Key: Hash;

    /// The key of the request; `None` if it is not limited.
    ///
    /// # Errors
    ///
    /// When the request lacks what the program should have put there: it is refused, not guessed at.
    fn key(&self, head: &Parts) -> Result<Option<Self::Key>, MissingKey>;
}

impl<F, K> RequestKey for F
where
    F: Fn(&Parts) -> Option<K>,
    K: Hash,
{
    type Key = K;

    fn key(&self, head: &Parts) -> Result<Option<K>, MissingKey> {
        Ok(self(head))
    }
}

/// Counts by the client's address, the request extension [`ClientIp`].
///
/// Whoever has one IPv6 address usually has 2^64 of them: they are counted by prefix, /64 by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct ClientKey {
    // `None`: IPv4 clients are not counted.
    ipv4_prefix: Option<u8>,
    ipv6_prefix: u8,
}

impl ClientKey {
    /// Counts IPv4 clients together whose first so many bits are the same; more than 32 is 32.
    pub const fn ipv4_prefix(mut self, bits: u8) -> Self {
        self.ipv4_prefix = Some(bits);
        self
    }

    /// Does not count IPv4 clients: for what concerns IPv6 networks alone.
    pub const fn ipv6_only(mut self) -> Self {
        self.ipv4_prefix = None;
        self
    }

    /// Counts IPv6 clients together whose first so many bits are the same; more than 128 is 128.
    pub const fn ipv6_prefix(mut self, bits: u8) -> Self {
        self.ipv6_prefix = bits;
        self
    }

    /// The first address of the network that `address` is counted with.
    fn network(&self, address: IpAddr) -> Option<IpAddr> {
        // `::ffff:192.0.2.1` is 192.0.2.1; as IPv6 it would share a /64 with all of IPv4.
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let rest = u32::MAX.checked_shr(self.ipv4_prefix?.into()).unwrap_or(0);
                Some(Ipv4Addr::from_bits(address.to_bits() & !rest).into())
            }
            IpAddr::V6(address) => {
                let rest = u128::MAX.checked_shr(self.ipv6_prefix.into()).unwrap_or(0);
                Some(Ipv6Addr::from_bits(address.to_bits() & !rest).into())
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

    fn key(&self, head: &Parts) -> Result<Option<IpAddr>, MissingKey> {
        match head.extensions.get::<ClientIp>() {
            Some(client) => Ok(self.network(client.0)),
            None => Err(MissingKey::new(
                "no rproxy_client_ip::ClientIp in the request: put ClientIpLayer outside of RateLimitLayer",
            )),
        }
    }
}

/// What a request lacks to be counted, and who should have put it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{advice}")]
pub struct MissingKey {
    advice: &'static str,
}

impl MissingKey {
    /// For whoever builds the program: it is not sent to the client.
    pub const fn new(advice: &'static str) -> Self {
        Self { advice }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(by: ClientKey, address: &str) -> Option<IpAddr> {
        let request = http::Request::get("/").extension(ClientIp(address.parse().unwrap()));
        by.key(&request.body(()).unwrap().into_parts().0).unwrap()
    }

    #[test]
    fn clients_are_counted_by_prefix() {
        let by = ClientKey::default();
        for (by, address, network) in [
            (by, "192.0.2.1", "192.0.2.1"),
            (by, "::ffff:192.0.2.1", "192.0.2.1"),
            (by, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            (by, "::1", "::"),
            (by.ipv6_prefix(56), "2001:db8:1:2ff:3:4:5:6", "2001:db8:1:200::"),
            (by.ipv6_prefix(128), "2001:db8::1", "2001:db8::1"),
            (by.ipv6_prefix(255), "2001:db8::1", "2001:db8::1"),
            (by.ipv6_prefix(0), "2001:db8::1", "::"),
            (by.ipv6_prefix(0), "192.0.2.1", "192.0.2.1"),
            (by.ipv4_prefix(24), "192.0.2.1", "192.0.2.0"),
            (by.ipv4_prefix(0), "192.0.2.1", "0.0.0.0"),
            (by.ipv4_prefix(255), "192.0.2.1", "192.0.2.1"),
        ] {
            assert_eq!(key(by, address), Some(network.parse().unwrap()), "{address} by {by:?}");
        }
    }

    #[test]
    fn a_tier_of_ipv6_networks_counts_no_ipv4() {
        let tier = ClientKey::default().ipv6_prefix(48).ipv6_only();
        assert_eq!(key(tier, "2001:db8:1:2::3"), Some("2001:db8:1::".parse().unwrap()));
        for address in ["192.0.2.1", "::ffff:192.0.2.1"] {
            assert_eq!(key(tier, address), None);
        }
    }

    #[test]
    fn without_a_client_address_it_is_said_what_to_do() {
        let head = http::Request::new(()).into_parts().0;
        let missing = ClientKey::default().key(&head).unwrap_err();
        assert!(missing.to_string().contains("ClientIpLayer"), "{missing}");
    }

    proptest! {
        #[test]
        fn a_network_is_what_shares_its_prefix(a: u128, b: u128, shared in 0..=128u32, bits in 0..=128u8) {
            // The same in the first `shared` bits, different in the next one, if there is one.
            let rest = u128::MAX.checked_shr(shared).unwrap_or(0);
            let next = 1u128.checked_shl(127u32.wrapping_sub(shared)).unwrap_or(0);
            let (a, b) = (Ipv6Addr::from_bits(a), Ipv6Addr::from_bits(((a & !rest) | (b & rest)) & !next | (!a & next)));
            prop_assume!(a.to_ipv4_mapped().is_none() && b.to_ipv4_mapped().is_none());
            let by = ClientKey::default().ipv6_prefix(bits);
            let same = by.network(a.into()) == by.network(b.into());
            prop_assert_eq!(same, u32::from(bits) <= shared);
        }
    }
}
