//! The hops that a request's headers report, from the right: the nearest first.
//!
//! Several lines of one header are one list (RFC 9110 §5.2), so the lines are walked from the last
//! one, too. `None` is a hop that is there but can't be read: an obfuscated identifier, `unknown`,
//! garbage.

use std::net::{IpAddr, SocketAddr};

use http::header::{FORWARDED, HeaderMap, HeaderName};

/// The hops of a header that lists addresses, such as `X-Forwarded-For`.
pub(crate) fn of_list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = Option<IpAddr>> + 'a {
    let lines = headers.get_all(name).iter().rev();
    lines.flat_map(|line| line.as_bytes().rsplit(|&byte| byte == b',')).map(address)
}

/// The hops of `Forwarded` (RFC 7239 §4): the `for` parameter of each element.
pub(crate) fn of_forwarded(headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> + '_ {
    let lines = headers.get_all(FORWARDED).iter().rev();
    lines.flat_map(|line| split_outside_quotes(line.as_bytes(), b',').into_iter().rev()).map(|element| {
        let mut found = None;
        for pair in split_outside_quotes(element, b';') {
            let Some(equals) = pair.iter().position(|&byte| byte == b'=') else { continue };
            let (name, value) = (pair[..equals].trim_ascii(), pair[equals + 1..].trim_ascii());
            if name.eq_ignore_ascii_case(b"for") {
                if found.is_some() {
                    return None; // RFC 7239 §4: each parameter at most once per element
                }
                found = Some(value);
            }
        }
        let value = found?;
        address(value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value))
    })
}

/// An address with or without a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text.trim_ascii()).ok()?;
    let unbracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    unbracketed
        .parse::<IpAddr>()
        .or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip()))
        .ok()
        .map(|address| address.to_canonical())
}

/// Splits at `separator` where it is not inside a quoted-string (RFC 9110 §5.6.4).
fn split_outside_quotes(text: &[u8], separator: u8) -> Vec<&[u8]> {
    let (mut parts, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, &byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if byte == separator && !quoted => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
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

    fn shown(hops: impl Iterator<Item = Option<IpAddr>>) -> Vec<String> {
        hops.map(|hop| hop.map_or("-".into(), |ip| ip.to_string())).collect()
    }

    #[test]
    fn lists_are_read_from_the_right_over_all_lines() {
        for (lines, hops) in [
            (&["192.0.2.1"][..], &["192.0.2.1"][..]),
            (&["192.0.2.1, 192.0.2.2"], &["192.0.2.2", "192.0.2.1"]),
            (&["192.0.2.1,192.0.2.2", "192.0.2.3"], &["192.0.2.3", "192.0.2.2", "192.0.2.1"]),
            (&["192.0.2.1:80, [2001:db8::1]:443, 2001:db8::2"], &["2001:db8::2", "2001:db8::1", "192.0.2.1"]),
            (&["::ffff:192.0.2.1"], &["192.0.2.1"]),
            (&["unknown, 192.0.2.300,, 1"], &["-", "-", "-", "-"]),
        ] {
            assert_eq!(shown(of_list(&headers("x-forwarded-for", lines), &"x-forwarded-for".parse().unwrap())), hops);
        }
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_writes_it() {
        for (lines, hops) in [
            (&["for=192.0.2.1"][..], &["192.0.2.1"][..]),
            (&["For=\"[2001:db8:cafe::17]:4711\""], &["2001:db8:cafe::17"]),
            (&["for=192.0.2.60;proto=http;by=203.0.113.43"], &["192.0.2.60"]),
            (&["for=192.0.2.43, for=198.51.100.17"], &["198.51.100.17", "192.0.2.43"]),
            (&["for=192.0.2.43", "proto=https;for=198.51.100.17"], &["198.51.100.17", "192.0.2.43"]),
            (&["for=_hidden, for=unknown, proto=http"], &["-", "-", "-"]),
            (&["host=\"a,b;for=6.6.6.6\";for=192.0.2.1"], &["192.0.2.1"]),
            (&["for=192.0.2.1;for=192.0.2.2"], &["-"]),
        ] {
            assert_eq!(shown(of_forwarded(&headers("forwarded", lines))), hops, "{lines:?}");
        }
    }
}
