//! The grammar of `Host` and `:authority`: `uri-host [ ":" port ]` (RFC 9110 §7.2).

use std::net::Ipv6Addr;

/// A valid host and its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostAndPort<'a> {
    /// A name, an IPv4 address, or an IPv6 address in brackets, as the client sent it.
    pub host: &'a str,
    /// The port, or `None` if the client sent none.
    pub port: Option<u16>,
}

/// Parses a host with an optional port. Returns `None` for an invalid host.
///
/// The function is stricter than RFC 3986 §3.2.2 where servers disagree on the host: it rejects `%`, `,` and `'` in names,
/// an empty host or port, and hosts of more than 255 bytes. Brackets must contain an IPv6 address: no other kind of
/// address literal is in use, and RFC 3986 demands an error for an unknown one.
///
/// # Examples
///
/// ```
/// use rproxy_core::host;
///
/// let parsed = host::parse(b"[2001:db8::1]:8080").unwrap();
/// assert_eq!((parsed.host, parsed.port), ("[2001:db8::1]", Some(8080)));
/// assert_eq!(host::parse(b"[::1]a"), None);
/// ```
#[must_use]
pub fn parse(text: &[u8]) -> Option<HostAndPort<'_>> {
    let (host, port) = split(text)?;
    let port = match port {
        [] => None,
        [b':', digits @ ..] => Some(port_number(digits)?),
        _ => return None,
    };
    let is_valid = match host.strip_prefix('[') {
        Some(literal) => literal.strip_suffix(']')?.parse::<Ipv6Addr>().is_ok(),
        None => host.bytes().all(is_name_byte),
    };
    (is_valid && (1..=255).contains(&host.len())).then_some(HostAndPort { host, port })
}

/// Splits the text after the closing bracket, or else before the first colon, which the second part keeps.
fn split(text: &[u8]) -> Option<(&str, &[u8])> {
    let end = match text.first() {
        Some(b'[') => text.iter().position(|&byte| byte == b']')? + 1,
        _ => text.iter().position(|&byte| byte == b':').unwrap_or(text.len()),
    };
    let (host, port) = text.split_at(end);
    Some((str::from_utf8(host).ok()?, port))
}

/// Returns whether a name may contain a byte: `unreserved` and `sub-delims` of RFC 3986 §2, without `,` and `'`.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'(' | b')' | b'*' | b'+' | b';' | b'=')
}

/// Parses a port of one to five digits, up to 65,535, without a sign.
fn port_number(digits: &[u8]) -> Option<u16> {
    let is_number = (1..=5).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parses_names_and_addresses_with_optional_ports() {
        for (text, host, port) in [
            ("a.example", "a.example", None),
            ("A.example.:080", "A.example.", Some(80)),
            ("my_host~1:65535", "my_host~1", Some(65_535)),
            ("192.0.2.1:80", "192.0.2.1", Some(80)),
            ("[::1]", "[::1]", None),
            ("[2001:DB8::192.0.2.1]:8080", "[2001:DB8::192.0.2.1]", Some(8080)),
        ] {
            assert_eq!(parse(text.as_bytes()), Some(HostAndPort { host, port }), "{text}");
        }
    }

    #[test]
    fn rejects_text_that_is_no_host_with_an_optional_port() {
        for text in [
            "",
            ":80",
            "a:",
            "a:x",
            "a:+1",
            "a:65536",
            "a:000080",
            "a:1:2",
            "::1",
            "a b",
            "a/b",
            "a?b",
            "a#b",
            "a@b",
            "a,b",
            "a'b",
            "a%2eb",
            "a\"b",
            "a\\b",
            "<a>",
            "a[b]",
            "a[::1]",
            "[",
            "]",
            "[]",
            "[]:80",
            "[::1",
            "::1]",
            "[::1]a",
            "[::1]a:80",
            "[::1]80",
            "[::1]:",
            "[::1]:x",
            "[::1]:1:2",
            "[::1]]",
            "[[::1]]",
            "[::1][::2]",
            "[::1].",
            "[ ::1]",
            "[:::1]",
            "[1:2:3:4:5:6:7:8:9]",
            "[::g]",
            "[fe80::1%eth0]",
            "[fe80::1%25eth0]",
            "[v1.a]",
            "[192.0.2.1]",
            "[a]",
            "b\u{fc}cher.example",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse(b"\xff"), None);
        assert!(parse(&[b'a'; 255]).is_some() && parse(&[b'a'; 256]).is_none());
    }

    proptest! {
        /// An independent statement of the grammar, over the characters that decide.
        #[test]
        fn accepts_only_names_and_bracketed_ipv6_addresses(text in "[a1:.\\[\\]]{0,12}") {
            if let Some(HostAndPort { host, port }) = parse(text.as_bytes()) {
                let is_address = host.trim_matches(['[', ']']).parse::<Ipv6Addr>().is_ok();
                prop_assert_eq!(host.contains(['[', ']', ':']), is_address);
                prop_assert!(!is_address || host.matches(['[', ']']).count() == 2);
                prop_assert_eq!(text.len() > host.len(), port.is_some());
            }
        }
    }
}
