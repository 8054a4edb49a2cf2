//! The hops in a request's forwarding fields, from right to left: the nearest hop comes first.
//!
//! Several field lines with one name are one list (RFC 9110 §5.2), so the lines are read from the last to the first as
//! well.

use std::net::{IpAddr, SocketAddr};

use http::header::{FORWARDED, HeaderMap, HeaderName};
use http::uri::Scheme;

/// A client or proxy that the request passed, as the next hop described it in a forwarding field.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Hop<'a> {
    /// `None` for an obfuscated identifier, `unknown`, or an invalid address.
    pub(crate) address: Option<IpAddr>,
    /// The scheme of the request that the hop sent.
    pub(crate) scheme: Option<Scheme>,
    /// The `Host` of the request that the hop sent.
    pub(crate) host: Option<&'a [u8]>,
}

/// Returns the hops in a field that lists addresses, such as `X-Forwarded-For`.
pub(crate) fn from_list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = Hop<'a>> {
    let lines = headers.get_all(name).iter().rev();
    let members = lines.flat_map(|line| line.as_bytes().rsplit(|&byte| byte == b','));
    members.map(|member| Hop { address: address(member), ..Hop::default() })
}

/// Returns the hops in `Forwarded` (RFC 7239 §4).
pub(crate) fn from_forwarded(headers: &HeaderMap) -> impl Iterator<Item = Hop<'_>> {
    let lines = headers.get_all(FORWARDED).iter().rev();
    lines.flat_map(|line| elements(line.as_bytes())).map(hop)
}

/// Parses one element of `Forwarded`. An element that repeats a parameter is ignored (RFC 7239 §4).
fn hop(element: &[u8]) -> Hop<'_> {
    let (mut node, mut proto, mut host) = (None, None, None);
    for pair in pairs(element) {
        let Some(equals) = pair.iter().position(|&byte| byte == b'=') else { continue };
        let (name, value) = (pair[..equals].trim_ascii(), pair[equals + 1..].trim_ascii());
        let slot = match () {
            () if name.eq_ignore_ascii_case(b"for") => &mut node,
            () if name.eq_ignore_ascii_case(b"proto") => &mut proto,
            () if name.eq_ignore_ascii_case(b"host") => &mut host,
            () => continue,
        };
        let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
        if slot.replace(unquoted).is_some() {
            return Hop::default();
        }
    }
    let scheme = proto.and_then(|proto: &[u8]| match () {
        () if proto.eq_ignore_ascii_case(b"https") => Some(Scheme::HTTPS),
        () if proto.eq_ignore_ascii_case(b"http") => Some(Scheme::HTTP),
        () => None,
    });
    Hop { address: node.and_then(address), scheme, host }
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

/// Splits a list at commas outside of quoted-strings, from the last element to the first.
///
/// RFC 9110 §5.6.1 and §5.6.4 specify lists and quoted-strings. Quotes are matched from right to left. An element that a
/// trusted proxy appended is thus parsed correctly even if the client wrote an unpaired quote before it. From left to
/// right, such a quote would hide all later elements.
fn elements(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let text = rest?;
        let mut quoted = false;
        let comma = (0..text.len()).rev().find(|&at| {
            if text[at] == b'"' {
                let backslashes = text[..at].iter().rev().take_while(|&&byte| byte == b'\\').count();
                // An escaped quote does not delimit a string.
                if !quoted || backslashes % 2 == 0 {
                    quoted = !quoted;
                }
            }
            text[at] == b',' && !quoted
        });
        rest = comma.map(|at| &text[..at]);
        Some(comma.map_or(text, |at| &text[at + 1..]))
    })
}

/// Splits an element of `Forwarded` at semicolons outside of quoted-strings.
fn pairs(element: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    element.split(move |&byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => return byte == b';' && !quoted,
        }
        false
    })
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
    fn reads_lists_from_the_right_across_all_lines() {
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

    #[test]
    fn parses_forwarded_as_in_rfc_7239() {
        for (lines, hops) in [
            (&["for=192.0.2.1"][..], &["192.0.2.1"][..]),
            (&["For=\"[2001:db8:cafe::17]:4711\""], &["2001:db8:cafe::17"]),
            (&["for=192.0.2.60;proto=http;by=203.0.113.43"], &["192.0.2.60"]),
            (&["for=192.0.2.43, for=198.51.100.17"], &["198.51.100.17", "192.0.2.43"]),
            (&["for=192.0.2.43", "proto=https;for=198.51.100.17"], &["198.51.100.17", "192.0.2.43"]),
            (&["for=_hidden, for=unknown, proto=http"], &["-", "-", "-"]),
            (&["host=\"a,b;for=6.6.6.6\";for=192.0.2.1"], &["192.0.2.1"]),
            (&["for=192.0.2.1;for=192.0.2.2"], &["-"]),
            (&["for=\", for=192.0.2.1"], &["192.0.2.1", "-"]),
            (&["x=\"\\, for=192.0.2.1;host=\"a\\\",b\\\\\""], &["192.0.2.1", "-"]),
            (&["for=6.6.6.6;x=\"", "for=192.0.2.1"], &["192.0.2.1", "6.6.6.6"]),
        ] {
            assert_eq!(addresses(from_forwarded(&headers("forwarded", lines))), hops, "{lines:?}");
        }
    }
}
