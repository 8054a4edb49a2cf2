//! Hops in the forwarding fields of a request, from right to left: the nearest hop comes first.
//!
//! Several field lines with one name are one list (RFC 9110 §5.2), so the lines are read from the last to the first as
//! well.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use http::header::{HeaderMap, HeaderName};
use http::uri::Scheme;

/// A client or proxy on the path of a request, as described by the next hop in a forwarding field.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Hop<'a> {
    /// The address, or `None` for an obfuscated identifier, `unknown`, or an invalid address.
    pub(crate) address: Option<IpAddr>,
    /// The scheme of the request that the hop sent.
    pub(crate) scheme: Option<Scheme>,
    /// The `Host` of the request that the hop sent.
    pub(crate) host: Option<Cow<'a, [u8]>>,
}

/// Returns the hops in a list of addresses, such as the value of `X-Forwarded-For`.
pub(crate) fn from_list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = Hop<'a>> {
    let lines = headers.get_all(name).iter().rev();
    let members = lines.flat_map(|line| line.as_bytes().rsplit(|&byte| byte == b','));
    members.map(|member| Hop { address: address(member), ..Hop::default() })
}

/// Parses an address with or without a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text.trim_ascii()).ok()?;
    let unbracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    unbracketed
        .parse::<IpAddr>()
        .or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip()))
        .ok()
        .map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, lines: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, line.parse().unwrap());
        }
        headers
    }

    fn addresses<'a>(hops: impl Iterator<Item = Hop<'a>>) -> Vec<String> {
        hops.map(|hop| hop.address.map_or("-".into(), |ip| ip.to_string())).collect()
    }

    #[test]
    fn parses_address_list_right_to_left_across_field_lines() {
        for (lines, hops) in [
            (&["192.0.2.1"][..], &["192.0.2.1"][..]),
            (&["192.0.2.1, 192.0.2.2"], &["192.0.2.2", "192.0.2.1"]),
            (&["192.0.2.1,192.0.2.2", "192.0.2.3"], &["192.0.2.3", "192.0.2.2", "192.0.2.1"]),
            (&["192.0.2.1:80, [2001:db8::1]:443, 2001:db8::2"], &["2001:db8::2", "2001:db8::1", "192.0.2.1"]),
            (&["::ffff:192.0.2.1"], &["192.0.2.1"]),
            (&["unknown, 192.0.2.300,, 1"], &["-", "-", "-", "-"]),
        ] {
            assert_eq!(
                addresses(from_list(&headers("x-forwarded-for", lines), &"x-forwarded-for".parse().unwrap())),
                hops
            );
        }
    }
}
