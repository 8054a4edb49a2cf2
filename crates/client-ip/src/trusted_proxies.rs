//! The set of trusted proxies, and the parser for its text form.

use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use crate::cidr::{Cidr, CidrError};
use crate::published_ranges;

/// A set of proxies that are trusted to report the client's address, the scheme and the request ID.
///
/// Other header fields of a trusted proxy are not trusted, because most proxies forward them as the client sent them.
///
/// A set parses from a comma-separated list of CIDRs, addresses, and the names `private`, `loopback`, `cloudflare`,
/// `fastly` and `cloudfront`. An empty list, or `none`, is the empty set.
///
/// # Examples
///
/// ```
/// use rproxy_client_ip::TrustedProxies;
///
/// let trusted: TrustedProxies = "loopback, 10.0.0.0/8".parse()?;
/// assert!(trusted.contains("127.0.0.1".parse()?));
///
/// let built = TrustedProxies::none().trust("10.0.0.0/8".parse()?).trust_loopback();
/// assert!(built.contains("127.0.0.1".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    ranges: Arc<[Cidr]>,
}

impl TrustedProxies {
    /// Creates an empty set: every TCP peer is treated as the client.
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds the addresses in `range` to the trusted proxies.
    #[must_use]
    pub fn trust(self, range: Cidr) -> Self {
        self.trust_all([range])
    }

    /// Adds private and link-local ranges: RFC 1918, RFC 4193 (`fc00::/7`) and RFC 6598 (`100.64.0.0/10`).
    #[must_use]
    pub fn trust_private(self) -> Self {
        self.trust_published(published_ranges::PRIVATE)
    }

    /// Adds the loopback ranges: `127.0.0.0/8` and `::1`.
    #[must_use]
    pub fn trust_loopback(self) -> Self {
        self.trust_published(published_ranges::LOOPBACK)
    }

    /// Returns whether `address` belongs to a trusted proxy.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(address))
    }

    /// Returns whether the set contains no proxies.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    fn trust_all(self, more: impl IntoIterator<Item = Cidr>) -> Self {
        Self { ranges: self.ranges.iter().copied().chain(more).collect() }
    }

    fn trust_published(self, ranges: &[&str]) -> Self {
        // A test checks that every entry of these constants parses.
        self.trust_all(ranges.iter().filter_map(|range| range.parse().ok()))
    }
}

impl FromIterator<Cidr> for TrustedProxies {
    fn from_iter<I: IntoIterator<Item = Cidr>>(ranges: I) -> Self {
        Self { ranges: ranges.into_iter().collect() }
    }
}

impl From<Cidr> for TrustedProxies {
    fn from(range: Cidr) -> Self {
        Self::from_iter([range])
    }
}

impl FromStr for TrustedProxies {
    type Err = TrustedProxiesError;

    fn from_str(list: &str) -> Result<Self, TrustedProxiesError> {
        let mut trusted = Self::none();
        for entry in list.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let name = entry.to_ascii_lowercase();
            trusted = match Cidr::named(&name) {
                Some(ranges) => trusted.trust_all(ranges),
                None if name == "none" => trusted,
                // An IPv6 address may begin with a letter, but contains a colon.
                None if name.starts_with(|c: char| c.is_ascii_alphabetic()) && !name.contains(':') => {
                    return Err(TrustedProxiesError::UnknownName(entry.to_owned()));
                }
                None => trusted.trust(entry.parse()?),
            };
        }
        Ok(trusted)
    }
}

/// The error for text that cannot be parsed as [`TrustedProxies`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrustedProxiesError {
    /// An entry of the list is not a valid address or range.
    #[error(transparent)]
    Cidr(#[from] CidrError),
    /// An entry of the list is neither a valid range nor a known name such as `private`.
    #[error(
        "unknown trusted proxy {0:?}: expected a CIDR, an address, private, loopback, cloudflare, fastly, cloudfront or none"
    )]
    UnknownName(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::published_ranges::Cdn;

    #[test]
    fn trusts_only_addresses_of_the_listed_names_and_ranges() {
        for (list, address, trusted) in [
            ("", "127.0.0.1", false),
            ("none", "127.0.0.1", false),
            ("loopback", "127.8.0.1", true),
            ("loopback", "::1", true),
            ("loopback", "::ffff:127.0.0.1", true),
            ("private", "192.168.3.4", true),
            ("private", "172.32.0.1", false),
            ("private", "fd00::1", true),
            ("Private , 203.0.113.9", "203.0.113.9", true),
            ("cloudflare", "104.16.0.1", true),
            ("cloudflare", "2606:4700::1", true),
            ("fastly", "151.101.1.1", true),
            ("cloudfront", "13.32.0.1", true),
            ("cloudfront", "104.16.0.1", false),
        ] {
            let proxies: TrustedProxies = list.parse().unwrap();
            assert_eq!(proxies.contains(address.parse().unwrap()), trusted, "{address} in {list:?}");
        }
    }

    #[test]
    fn trusted_proxies_error_lists_the_accepted_values() {
        assert!("cloudfare".parse::<TrustedProxies>().unwrap_err().to_string().contains("cloudflare"));
        assert_eq!(
            "10.0.0.0/8,10.0.0.0/40".parse::<TrustedProxies>().unwrap_err().to_string(),
            "bad CIDR \"10.0.0.0/40\": the prefix length is greater than 32",
        );
    }

    #[test]
    fn every_published_address_range_parses() {
        let ranges_of = Cdn::ranges;
        for list in [
            published_ranges::PRIVATE,
            published_ranges::LOOPBACK,
            ranges_of(Cdn::Cloudflare),
            ranges_of(Cdn::Fastly),
            ranges_of(Cdn::CloudFront),
        ] {
            for range in list {
                range.parse::<Cidr>().unwrap();
            }
        }
    }
}
