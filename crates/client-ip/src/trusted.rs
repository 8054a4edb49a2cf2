//! Which peers are believed.

use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use crate::cidr::{Cidr, CidrError};
use crate::published::{self, Cdn};

/// The proxies that are believed about the client's address, the scheme and the request id.
///
/// A trusted proxy is not believed about anything else: most of them forward the other fields as the client sent them.
///
/// Parses from a comma-separated list of CIDRs, addresses, and names: `private`, `loopback`,
/// `cloudflare`, `fastly`, `cloudfront`; `none` or nothing trusts nobody.
///
/// ```
/// let trusted: rproxy_client_ip::TrustedProxies = "loopback, 10.0.0.0/8".parse()?;
/// assert!(trusted.contains("127.0.0.1".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    // Two short sorted-by-use lists would be no faster than this one: it has a few entries, and
    // only the address family that fits is compared.
    ranges: Arc<[Cidr]>,
}

impl TrustedProxies {
    /// Nobody: the peer is the client.
    pub fn none() -> Self {
        Self::default()
    }

    /// Believes peers in `range` too.
    #[must_use]
    pub fn trust(self, range: Cidr) -> Self {
        self.trust_all([range])
    }

    /// Believes peers in the private ranges too: RFC 1918, RFC 4193 `fc00::/7`, RFC 6598
    /// `100.64.0.0/10`, and link-local addresses.
    #[must_use]
    pub fn trust_private(self) -> Self {
        self.trust_published(published::PRIVATE)
    }

    /// Believes peers on the loopback interface too: `127.0.0.0/8` and `::1`.
    #[must_use]
    pub fn trust_loopback(self) -> Self {
        self.trust_published(published::LOOPBACK)
    }

    /// Whether the peer at `address` is believed.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(address))
    }

    /// Whether nobody is believed.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    fn trust_all(self, more: impl IntoIterator<Item = Cidr>) -> Self {
        Self { ranges: self.ranges.iter().copied().chain(more).collect() }
    }

    fn trust_published(self, ranges: &[&str]) -> Self {
        // The lists are constants; a test parses each entry.
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
            trusted = match entry.to_ascii_lowercase().as_str() {
                "none" => trusted,
                "private" => trusted.trust_private(),
                "loopback" => trusted.trust_loopback(),
                "cloudflare" => trusted.trust_published(Cdn::Cloudflare.ranges()),
                "fastly" => trusted.trust_published(Cdn::Fastly.ranges()),
                "cloudfront" => trusted.trust_published(Cdn::CloudFront.ranges()),
                // A name that is no address was meant as one of ours.
                word if word.starts_with(|c: char| c.is_ascii_alphabetic()) && !word.contains(':') => {
                    return Err(TrustedProxiesError::UnknownName(entry.to_owned()));
                }
                _ => trusted.trust(entry.parse()?),
            };
        }
        Ok(trusted)
    }
}

/// A list that is not [`TrustedProxies`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrustedProxiesError {
    /// An entry is neither a name nor a range.
    #[error(transparent)]
    Cidr(#[from] CidrError),
    /// An entry is a word that names no known set of proxies.
    #[error(
        "unknown name {0:?}: expected a CIDR, an address, private, loopback, cloudflare, fastly, cloudfront or none"
    )]
    UnknownName(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_names_and_ranges_are_believed() {
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
            let list_parsed: TrustedProxies = list.parse().unwrap();
            assert_eq!(list_parsed.contains(address.parse().unwrap()), trusted, "{address} in {list:?}");
        }
    }

    #[test]
    fn errors_say_what_is_accepted() {
        assert!("cloudfare".parse::<TrustedProxies>().unwrap_err().to_string().contains("cloudflare"));
        assert_eq!(
            "10.0.0.0/8,10.0.0.0/40".parse::<TrustedProxies>().unwrap_err().to_string(),
            "bad CIDR \"10.0.0.0/40\": the prefix is longer than 32",
        );
    }

    #[test]
    fn every_published_range_parses() {
        let of = Cdn::ranges;
        for list in [published::PRIVATE, published::LOOPBACK, of(Cdn::Cloudflare), of(Cdn::Fastly), of(Cdn::CloudFront)]
        {
            for range in list {
                range.parse::<Cidr>().unwrap();
            }
        }
    }
}
