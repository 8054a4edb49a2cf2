//! A strict parser for `Forwarded` (RFC 7239 §4): one grammar violation invalidates the whole element.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::header::{FORWARDED, HeaderMap};
use http::uri::Scheme;

use crate::hops::Hop;

/// Returns the hops in `Forwarded`, from right to left. An invalid element is a hop of which nothing is known.
pub(crate) fn hops(headers: &HeaderMap) -> impl Iterator<Item = Hop<'_>> {
    let lines = headers.get_all(FORWARDED).iter().rev();
    let elements = lines.flat_map(|line| elements(line.as_bytes())).map(trim_whitespace);
    // RFC 9110 §5.6.1.2: recipients ignore empty elements of a list.
    elements.filter(|element| !element.is_empty()).map(|element| parse_element(element).unwrap_or_default())
}

/// Splits a list at commas outside quoted-strings, from the last element to the first.
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

/// Parses a `forwarded-element`: name-value pairs, in which each name occurs at most once.
///
/// Whitespace is accepted around semicolons, as in other parameters (RFC 9110 §5.6.6). Unknown parameters are ignored if
/// they are valid.
fn parse_element(element: &[u8]) -> Option<Hop<'_>> {
    let mut hop = Hop::default();
    let mut names: Vec<&[u8]> = Vec::new();
    for pair in pairs(element).map(trim_whitespace).filter(|pair| !pair.is_empty()) {
        let equals = pair.iter().position(|&byte| byte == b'=')?;
        let (name, value) = (&pair[..equals], parse_value(&pair[equals + 1..])?);
        let is_repeated = names.iter().any(|other| other.eq_ignore_ascii_case(name));
        if !is_token(name) || is_repeated || names.len() == MAX_PAIRS {
            return None;
        }
        names.push(name);
        match () {
            () if name.eq_ignore_ascii_case(b"for") => hop.address = parse_node(&value)?,
            () if name.eq_ignore_ascii_case(b"by") => {
                parse_node(&value)?;
            }
            () if name.eq_ignore_ascii_case(b"proto") => hop.scheme = parse_proto(&value)?,
            () if name.eq_ignore_ascii_case(b"host") => hop.host = Some(value),
            () => {}
        }
    }
    Some(hop)
}

/// The maximum number of name-value pairs in one element of `Forwarded`. RFC 7239 defines four.
const MAX_PAIRS: usize = 16;

/// Splits an element of `Forwarded` at semicolons outside quoted-strings.
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

/// Parses a `value` (RFC 7239 §4): a token, or a quoted-string, returned without quotes and escapes.
fn parse_value(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    let Some(rest) = value.strip_prefix(b"\"") else {
        return is_token(value).then_some(Cow::Borrowed(value));
    };
    let content = rest.strip_suffix(b"\"")?;
    if !content.contains(&b'\\') && !content.contains(&b'"') {
        return Some(Cow::Borrowed(content));
    }
    let mut unescaped = Vec::with_capacity(content.len());
    let mut bytes = content.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            // The end of the string is not the end of the value.
            b'"' => return None,
            // The quote at the end is escaped if there is no byte left.
            b'\\' => unescaped.push(*bytes.next()?),
            _ => unescaped.push(byte),
        }
    }
    Some(Cow::Owned(unescaped))
}

/// Parses a `node` (RFC 7239 §6), such as `192.0.2.1` or `"[2001:db8::1]:80"`. The address is `None` for `unknown` and
/// obfuscated identifiers.
#[allow(
    clippy::option_option,
    reason = "the outer Option distinguishes an invalid node from a valid node without an address"
)]
fn parse_node(node: &[u8]) -> Option<Option<IpAddr>> {
    let node = std::str::from_utf8(node).ok()?;
    let name_end = match node.starts_with('[') {
        true => node.find(']')? + 1,
        false => node.find(':').unwrap_or(node.len()),
    };
    let (name, port) = node.split_at(name_end);
    let is_port = |port: &str| (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    if !port.is_empty() && !port.strip_prefix(':').is_some_and(|port| is_port(port) || is_obfuscated(port)) {
        return None;
    }
    if let Some(bracketed) = name.strip_prefix('[') {
        let address: Ipv6Addr = bracketed.strip_suffix(']')?.parse().ok()?;
        return Some(Some(IpAddr::V6(address).to_canonical()));
    }
    match name.parse::<Ipv4Addr>() {
        Ok(address) => Some(Some(IpAddr::V4(address))),
        Err(_) => (name.eq_ignore_ascii_case("unknown") || is_obfuscated(name)).then_some(None),
    }
}

/// Returns whether `text` is an obfuscated identifier (RFC 7239 §6.3), such as `_hidden`.
fn is_obfuscated(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    text.strip_prefix('_').is_some_and(|rest| !rest.is_empty() && rest.bytes().all(is_allowed))
}

/// Parses the `proto` parameter: the name of a URI scheme (RFC 3986 §3.1). The scheme is `None` if HTTP does not use
/// it.
#[allow(
    clippy::option_option,
    reason = "the outer Option distinguishes an invalid name from a valid scheme that HTTP does not use"
)]
fn parse_proto(proto: &[u8]) -> Option<Option<Scheme>> {
    let is_scheme_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    if !proto.first()?.is_ascii_alphabetic() || !proto.iter().all(is_scheme_byte) {
        return None;
    }
    let is = |name: &[u8]| proto.eq_ignore_ascii_case(name);
    Some(match () {
        () if is(b"https") || is(b"wss") => Some(Scheme::HTTPS),
        () if is(b"http") || is(b"ws") => Some(Scheme::HTTP),
        () => None,
    })
}

/// Returns whether `text` is a token (RFC 9110 §5.6.2).
fn is_token(text: &[u8]) -> bool {
    let is_token_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(is_token_byte)
}

fn trim_whitespace(text: &[u8]) -> &[u8] {
    let is_text = |byte: &u8| !matches!(byte, b' ' | b'\t');
    let start = text.iter().position(is_text).unwrap_or(text.len());
    let end = text.iter().rposition(is_text).map_or(start, |last| last + 1);
    &text[start..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (FORWARDED, line.parse().unwrap())).collect()
    }

    fn addresses(lines: &[&str]) -> Vec<String> {
        hops(&headers(lines)).map(|hop| hop.address.map_or("-".into(), |ip| ip.to_string())).collect()
    }

    #[test]
    fn parses_forwarded_right_to_left_across_field_lines() {
        for (lines, expected) in [
            (&["for=192.0.2.1"][..], &["192.0.2.1"][..]),
            (&["For=\"[2001:db8:cafe::17]:4711\""], &["2001:db8:cafe::17"]),
            (&["for=192.0.2.60;proto=http;by=203.0.113.43"], &["192.0.2.60"]),
            (&["for=192.0.2.43, for=198.51.100.17"], &["198.51.100.17", "192.0.2.43"]),
            (&["for=192.0.2.43", "proto=https;for=198.51.100.17"], &["198.51.100.17", "192.0.2.43"]),
            (&["for=_hidden, for=unknown, proto=http"], &["-", "-", "-"]),
            (&["host=\"a,b;for=6.6.6.6\";for=192.0.2.1"], &["192.0.2.1"]),
            (&["for=\", for=192.0.2.1"], &["192.0.2.1", "-"]),
            (&["x=\"\\, for=192.0.2.1;host=\"a\\\",b\\\\\""], &["192.0.2.1", "-"]),
            (&["for=6.6.6.6;x=\"", "for=192.0.2.1"], &["192.0.2.1", "-"]),
            (&[",, for=192.0.2.1,\t, for=192.0.2.2 ,", ""], &["192.0.2.2", "192.0.2.1"]),
        ] {
            assert_eq!(addresses(lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn forwarded_parser_accepts_all_forms_of_the_grammar() {
        for (element, address, scheme, host) in [
            ("for=\"192.0.2.1:80\"", Some("192.0.2.1"), None, None),
            ("for=\"192.0.2.1:_p1\"", Some("192.0.2.1"), None, None),
            ("for=\"[::ffff:192.0.2.1]\"", Some("192.0.2.1"), None, None),
            ("FOR=192.0.2.1;Proto=HTTPS;HOST=a.example", Some("192.0.2.1"), Some(Scheme::HTTPS), Some("a.example")),
            (
                "for=192.0.2.1; proto=\"https\" ;host=\"a.example:8443\"",
                Some("192.0.2.1"),
                Some(Scheme::HTTPS),
                Some("a.example:8443"),
            ),
            ("proto=wss;for=unknown", None, Some(Scheme::HTTPS), None),
            ("proto=coap+tcp;for=_a.b-c_d;by=\"_x:80\"", None, None, None),
            (";;for=192.0.2.1;;x=y;", Some("192.0.2.1"), None, None),
            ("host=\"\\a\\\"\\\\\";for=192.0.2.1", Some("192.0.2.1"), None, Some("a\"\\")),
            ("host=\"\"", None, None, Some("")),
        ] {
            let hop = parse_element(element.as_bytes()).unwrap_or_else(|| panic!("{element}"));
            assert_eq!(hop.address.map(|address| address.to_string()).as_deref(), address, "{element}");
            assert_eq!(hop.scheme, scheme, "{element}");
            assert_eq!(hop.host.as_deref(), host.map(str::as_bytes), "{element}");
        }
    }

    #[test]
    fn forwarded_parser_rejects_elements_that_violate_the_grammar() {
        let many = (0..=MAX_PAIRS).map(|number| format!("x{number}=1;")).collect::<String>() + "for=192.0.2.1";
        for element in [
            "192.0.2.1",
            "for",
            "for=",
            "=192.0.2.1",
            "for =192.0.2.1",
            "for= 192.0.2.1",
            "for=192.0.2.1 proto=https",
            "for=192.0.2.1:80",
            "for=2001:db8::1",
            "for=[2001:db8::1]",
            "for=\"2001:db8::1\"",
            "for=\"[2001:db8::1\"",
            "for=\"[2001:db8::1]x\"",
            "for=\"[192.0.2.1]\"",
            "for=\"192.0.2.1:\"",
            "for=\"192.0.2.1:123456\"",
            "for=\"192.0.2.1:+80\"",
            "for=\"192.0.2.1",
            "for=192.0.2.1\"",
            "for=\"192.0.2.1\\\"",
            "for=\"192.0.2.1\"x",
            "for=\"192.0.2.1\";host=\"a\"b\"",
            "for=192.0.2.300",
            "for=192.0.2.01",
            "for=\" 192.0.2.1\"",
            "for=localhost",
            "for=_",
            "for=192.0.2.1;for=192.0.2.2",
            "for=192.0.2.1;x=1;X=2",
            "for=192.0.2.1;proto=https;proto=http",
            "for=192.0.2.1;proto=\"ht tp\"",
            "for=192.0.2.1;proto=\"\"",
            "for=192.0.2.1;by=secret",
            "for=192.0.2.1;host=a.example:80",
            "for=192.0.2.1;\"host\"=a",
            "for=192.0.2.1;(=a",
            &many,
        ] {
            assert_eq!(parse_element(element.as_bytes()), None, "{element}");
        }
    }
}
