//! Formats IP addresses and ports as field values.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::IpAddr;

use http::HeaderValue;

/// Formats the hops and the TCP peer as a list of addresses, such as `192.0.2.1, 10.0.0.2`.
pub(crate) fn chain(hops: &[IpAddr], peer: IpAddr) -> HeaderValue {
    let mut chain = String::with_capacity(16 * (hops.len() + 1));
    for hop in hops {
        // Writing to a string cannot fail.
        let _ = write!(chain, "{hop}, ");
    }
    let _ = write!(chain, "{peer}");
    HeaderValue::try_from(chain).unwrap_or(UNKNOWN)
}

/// Formats an IP address as a field value, such as `192.0.2.1`.
pub(crate) fn address(address: IpAddr) -> HeaderValue {
    let mut text = [0; MAX_ADDRESS_LEN];
    let mut length = 0;
    match address {
        // The fast path: ten times as fast as `fmt::Write`.
        IpAddr::V4(v4) => {
            let mut push = |byte| {
                text[length] = byte;
                length += 1;
            };
            for (index, octet) in v4.octets().into_iter().enumerate() {
                if index > 0 {
                    push(b'.');
                }
                if octet >= 100 {
                    push(b'0' + octet / 100);
                }
                if octet >= 10 {
                    push(b'0' + octet / 10 % 10);
                }
                push(b'0' + octet % 10);
            }
        }
        IpAddr::V6(v6) => {
            let mut rest = &mut text[..];
            // The buffer has room for the longest address.
            let _ = write!(rest, "{v6}");
            length = MAX_ADDRESS_LEN - rest.len();
        }
    }
    HeaderValue::from_bytes(&text[..length]).unwrap_or(UNKNOWN)
}

/// Formats a port as a field value, such as `8443`.
pub(crate) fn port(port: u16) -> HeaderValue {
    match port {
        // The fast path.
        80 => HeaderValue::from_static("80"),
        443 => HeaderValue::from_static("443"),
        other => HeaderValue::from(other),
    }
}

const UNKNOWN: HeaderValue = HeaderValue::from_static("unknown");
const MAX_ADDRESS_LEN: usize = 39;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_ip_addresses_like_the_standard_library() {
        for text in ["0.0.0.0", "192.0.2.1", "10.99.100.9", "255.255.255.255", "::1", "2001:db8::7"] {
            assert_eq!(address(text.parse().unwrap()), text);
        }
        assert_eq!(chain(&["192.0.2.1".parse().unwrap()], "::1".parse().unwrap()), "192.0.2.1, ::1");
    }
}
