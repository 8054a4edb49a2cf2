//! The authority of the client's request, used for the forwarding fields and the cache key.

use http::HeaderValue;
use http::uri::{Authority, Scheme};
use rproxy_core::host;

/// The authority that a trusted proxy reported in its forwarding fields.
#[derive(Debug, Default)]
pub(crate) struct ReportedAuthority {
    /// The host that the trusted proxy reported, not yet validated.
    pub(crate) host: Option<HeaderValue>,
    pub(crate) port: Option<u16>,
}

/// The authority of the client's request: host and port.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RequestAuthority {
    /// The host, followed by the port unless it is the default port of the scheme. `None` if there is no `Host`.
    pub(crate) host: Option<HeaderValue>,
    pub(crate) port: u16,
    /// The authority that a trusted proxy reported, or `None` if the authority is from the request's `Host`.
    pub(crate) reported: Option<Authority>,
}

impl RequestAuthority {
    /// Determines the authority from the forwarding fields of a trusted proxy and the `Host` of the request.
    pub(crate) fn new(report: &ReportedAuthority, host: Option<&HeaderValue>, scheme: &Scheme) -> Self {
        let default = default_port(scheme);
        let reported = report.host.as_ref().and_then(valid);
        if reported.is_none() && report.port.is_none() {
            return Self { host: host.cloned(), port: host.and_then(port_of).unwrap_or(default), reported: None };
        }
        // A port in the reported host takes precedence over a reported port, and that over the port of `Host`.
        let from_host = || host.and_then(valid);
        let port = reported.as_ref().and_then(Authority::port_u16).or(report.port);
        let Some(authority) = reported.or_else(from_host) else {
            return Self { host: host.cloned(), port: port.unwrap_or(default), reported: None };
        };
        let port = port.or_else(|| authority.port_u16()).unwrap_or(default);
        let mut text = authority.host().to_ascii_lowercase();
        if port != default {
            text.push_str(&format!(":{port}"));
        }
        Self { host: HeaderValue::try_from(&text).ok(), port, reported: Authority::try_from(text).ok() }
    }
}

/// Returns the default port of a scheme: 443 for HTTPS, else 80.
pub(crate) fn default_port(scheme: &Scheme) -> u16 {
    if *scheme == Scheme::HTTPS { 443 } else { 80 }
}

/// Parses and validates a host with an optional port. Returns `None` for user information, lists and other ambiguous
/// text.
fn valid(field: &HeaderValue) -> Option<Authority> {
    let host = host::parse(field.as_bytes())?.host;
    let is_host = host.starts_with('[') || host.bytes().all(is_host_byte);
    Authority::try_from(field.as_bytes()).ok().filter(|_| is_host)
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')
}

fn port_of(host: &HeaderValue) -> Option<u16> {
    let host = host.as_bytes();
    // The colon before a port is one of the last six bytes.
    let end = &host[host.len().saturating_sub(1 + MAX_PORT_DIGITS)..];
    let colon = end.iter().rposition(|&byte| byte == b':')?;
    port_number(&end[colon + 1..])
}

/// Parses a port number of one to five digits, without a sign.
pub(crate) fn port_number(digits: &[u8]) -> Option<u16> {
    let is_number = (1..=MAX_PORT_DIGITS).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()
}

const MAX_PORT_DIGITS: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(reported: Option<&str>, port: Option<u16>, host: Option<&str>, scheme: &Scheme) -> (String, u16, bool) {
        let field = |text: &str| HeaderValue::from_str(text).unwrap();
        let report = ReportedAuthority { host: reported.map(field), port };
        let authority = RequestAuthority::new(&report, host.map(field).as_ref(), scheme);
        if let Some(reported) = &authority.reported {
            assert_eq!(authority.host.as_ref().unwrap().as_bytes(), reported.as_str().as_bytes());
        }
        let host = authority.host.map_or("none".into(), |host| host.to_str().unwrap().to_owned());
        (host, authority.port, authority.reported.is_some())
    }

    #[test]
    fn authority_from_a_trusted_proxy_takes_precedence_over_host() {
        let (http, https) = (&Scheme::HTTP, &Scheme::HTTPS);
        for (reported, port, host, scheme, expected) in [
            (None, None, Some("a.example"), http, ("a.example", 80, false)),
            (None, None, Some("a.example:8443"), https, ("a.example:8443", 8443, false)),
            (None, None, Some("a.example:65535"), http, ("a.example:65535", 65535, false)),
            (None, None, Some("a.example:654321"), http, ("a.example:654321", 80, false)),
            (None, None, Some("[::1]:81"), http, ("[::1]:81", 81, false)),
            (None, None, Some("[::1]"), http, ("[::1]", 80, false)),
            (None, None, None, https, ("none", 443, false)),
            (Some("A.example"), None, Some("internal:8080"), https, ("a.example", 443, true)),
            (Some("a.example:443"), None, Some("internal"), https, ("a.example", 443, true)),
            (Some("a.example:443"), None, Some("internal"), http, ("a.example:443", 443, true)),
            (Some("a.example"), Some(8443), Some("internal"), https, ("a.example:8443", 8443, true)),
            (Some("a.example:81"), Some(82), Some("internal"), http, ("a.example:81", 81, true)),
            (None, Some(443), Some("a.example:8080"), https, ("a.example", 443, true)),
            (None, Some(81), Some("a.example"), http, ("a.example:81", 81, true)),
            (None, Some(81), None, http, ("none", 81, false)),
            (Some("[2001:DB8::1]:81"), None, None, http, ("[2001:db8::1]:81", 81, true)),
        ] {
            let (host, number, is_reported) = resolve(reported, port, host, scheme);
            assert_eq!((&*host, number, is_reported), expected, "{reported:?} {port:?} {host:?}");
        }
    }

    #[test]
    fn ignores_an_invalid_authority_from_a_trusted_proxy() {
        for reported in [
            "",
            "evil\t.example",
            "evil.example:1:1",
            "evil.example:99999",
            "evil.example:+1",
            "evil.example:",
            ":80",
            "user@evil.example",
            "evil.example/path",
            "evil.example, b",
            "a.example\", evil",
            "evil%2eexample",
            "[::1",
            "[]",
            "[]:80",
            "[::1]a",
            "[evil.example]",
            "::1",
            "evil'.example",
            &"a".repeat(256),
        ] {
            let authority = resolve(Some(reported), None, Some("a.example"), &Scheme::HTTP);
            assert_eq!(authority, ("a.example".into(), 80, false), "{reported}");
        }
    }

    #[test]
    fn parses_port_numbers_of_up_to_five_digits() {
        for (text, number) in
            [("80", Some(80)), ("0080", Some(80)), ("65536", None), ("+80", None), ("", None), ("000080", None)]
        {
            assert_eq!(port_number(text.as_bytes()), number, "{text}");
        }
    }
}
