//! Ranges of IP addresses.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// A range of IP addresses, such as `10.0.0.0/8` or `2001:db8::/32`.
///
/// An address without a prefix length is a range of one address.
///
/// # Examples
///
/// ```
/// use rproxy_client_ip::Cidr;
///
/// let range: Cidr = "10.0.0.0/8".parse()?;
/// assert!(range.contains("10.1.2.3".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr(IpNet);

impl Cidr {
    /// Returns whether `address` is in the range. An IPv4-mapped IPv6 address counts as the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }

    /// Returns the first address of the range.
    pub fn network(&self) -> IpAddr {
        self.0.network()
    }

    /// Returns the length of the prefix in bits: up to 32 for IPv4, up to 128 for IPv6.
    pub fn prefix_len(&self) -> u8 {
        self.0.prefix_len()
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let error = |reason: &'static str| CidrError { input: text.to_owned(), reason };
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| error("not an IP address"))?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => width,
            Some(digits) if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) => {
                return Err(error("the prefix length is not a number"));
            }
            Some(digits) => digits.parse::<u8>().unwrap_or(u8::MAX),
        };
        let too_long =
            if width == 32 { "the prefix length is greater than 32" } else { "the prefix length is greater than 128" };
        let net = IpNet::new(address, prefix).map_err(|_| error(too_long))?;
        // Converts an IPv4-mapped range (::ffff:10.0.0.0/104) to the IPv4 range.
        Ok(Cidr(match (net.addr().to_canonical(), prefix) {
            (v4 @ IpAddr::V4(_), 96..) if net.addr().is_ipv6() => {
                IpNet::new(v4, prefix - 96).map_err(|_| error(too_long))?
            }
            _ => net,
        }))
    }
}

impl From<IpAddr> for Cidr {
    fn from(address: IpAddr) -> Self {
        Cidr(IpNet::from(address.to_canonical()))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cidr({})", self.0)
    }
}

/// The error for text that cannot be parsed as a [`Cidr`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad CIDR {input:?}: {reason}")]
pub struct CidrError {
    input: String,
    reason: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cidr_contains_only_addresses_in_its_range() {
        for (range, address, inside) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.4", false),
            ("10.9.9.9/8", "10.1.2.3", true),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::ffff:10.0.0.0/104", "10.1.2.3", true),
            ("::/0", "2001:db8::1", true),
            ("::/0", "10.1.2.3", false),
        ] {
            let cidr: Cidr = range.parse().unwrap();
            assert_eq!(cidr.contains(address.parse().unwrap()), inside, "{address} in {range}");
        }
    }

    #[test]
    fn network_is_the_first_address_of_the_range() {
        for (range, network, prefix) in [
            ("10.9.9.9/8", "10.0.0.0", 8),
            ("192.0.2.1", "192.0.2.1", 32),
            ("::ffff:10.1.2.3/104", "10.0.0.0", 8),
            ("2001:db8:1:2::3/64", "2001:db8:1:2::", 64),
        ] {
            let cidr: Cidr = range.parse().unwrap();
            assert_eq!((cidr.network(), cidr.prefix_len()), (network.parse().unwrap(), prefix), "{range}");
        }
    }

    #[test]
    fn cidr_errors_contain_the_input_and_the_reason() {
        for (text, message) in [
            ("10.0.0.0/99", "bad CIDR \"10.0.0.0/99\": the prefix length is greater than 32"),
            ("10.0.0.0/999", "bad CIDR \"10.0.0.0/999\": the prefix length is greater than 32"),
            ("::1/129", "bad CIDR \"::1/129\": the prefix length is greater than 128"),
            ("10.0.0/8", "bad CIDR \"10.0.0/8\": not an IP address"),
            ("10.0.0.0/", "bad CIDR \"10.0.0.0/\": the prefix length is not a number"),
            ("10.0.0.0/+8", "bad CIDR \"10.0.0.0/+8\": the prefix length is not a number"),
            ("", "bad CIDR \"\": not an IP address"),
        ] {
            assert_eq!(text.parse::<Cidr>().unwrap_err().to_string(), message);
        }
    }
}
