//! Where the client sent its request: one authority, from which every field and the cache key are made.

use http::HeaderValue;
use http::uri::{Authority, Scheme};

/// What a trusted proxy says of the authority.
#[derive(Debug, Default)]
pub(crate) struct Claim {
    /// As it came, valid or not.
    pub(crate) host: Option<HeaderValue>,
    pub(crate) port: Option<u16>,
}

/// The authority of the client's request, and its port.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// A host in lower case, and the port where it is not the scheme's default. `None` without a `Host`.
    pub(crate) host: Option<HeaderValue>,
    pub(crate) port: u16,
    /// The same as `host`, where a proxy said another thing than `Host` does.
    pub(crate) claimed: Option<Authority>,
}

impl Target {
    /// `host`: the request's own field.
    pub(crate) fn of(claim: &Claim, host: Option<&HeaderValue>, scheme: &Scheme) -> Self {
        let default = default_port(scheme);
        let claimed = claim.host.as_ref().and_then(valid);
        if claimed.is_none() && claim.port.is_none() {
            return Self { host: host.cloned(), port: host.and_then(named_port).unwrap_or(default), claimed: None };
        }
        // The port of the host that a proxy names goes before a port alone, and that before the port of `Host`.
        let own = || host.and_then(valid);
        let port = claimed.as_ref().and_then(Authority::port_u16).or(claim.port);
        let Some(authority) = claimed.or_else(own) else {
            return Self { host: host.cloned(), port: port.unwrap_or(default), claimed: None };
        };
        let port = port.or_else(|| authority.port_u16()).unwrap_or(default);
        let mut text = authority.host().to_ascii_lowercase();
        if port != default {
            text.push_str(&format!(":{port}"));
        }
        Self { host: HeaderValue::try_from(&text).ok(), port, claimed: Authority::try_from(text).ok() }
    }
}

/// `443` for https, else `80`.
pub(crate) fn default_port(scheme: &Scheme) -> u16 {
    if *scheme == Scheme::HTTPS { 443 } else { 80 }
}

/// A host and perhaps a port: no user, no list, nothing else that an application may read differently.
fn valid(field: &HeaderValue) -> Option<Authority> {
    let authority = Authority::try_from(field.as_bytes()).ok()?;
    let host = authority.host();
    let port = authority.as_str().get(host.len()..)?;
    let is_host = (1..=255).contains(&host.len()) && (host.starts_with('[') || host.bytes().all(is_host_byte));
    let is_port = port.is_empty() || port.strip_prefix(':').and_then(|digits| port_number(digits.as_bytes())).is_some();
    (is_host && is_port).then_some(authority)
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')
}

fn named_port(host: &HeaderValue) -> Option<u16> {
    let host = host.as_bytes();
    let colon = host.iter().rposition(|&byte| byte == b':')?;
    port_number(&host[colon + 1..])
}

/// Up to five digits, and no sign.
pub(crate) fn port_number(digits: &[u8]) -> Option<u16> {
    let is_number = (1..=5).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(claimed: Option<&str>, port: Option<u16>, host: Option<&str>, scheme: &Scheme) -> (String, u16, bool) {
        let field = |text: &str| HeaderValue::from_str(text).unwrap();
        let target = Target::of(&Claim { host: claimed.map(field), port }, host.map(field).as_ref(), scheme);
        if let Some(claimed) = &target.claimed {
            assert_eq!(target.host.as_ref().unwrap().as_bytes(), claimed.as_str().as_bytes());
        }
        let host = target.host.map_or("none".into(), |host| host.to_str().unwrap().to_owned());
        (host, target.port, target.claimed.is_some())
    }

    #[test]
    fn one_authority_is_made_of_host_and_claims() {
        let (http, https) = (&Scheme::HTTP, &Scheme::HTTPS);
        for (claimed, port, host, scheme, expected) in [
            (None, None, Some("a.example"), http, ("a.example", 80, false)),
            (None, None, Some("a.example:8443"), https, ("a.example:8443", 8443, false)),
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
            let (host, number, is_claimed) = read(claimed, port, host, scheme);
            assert_eq!((&*host, number, is_claimed), expected, "{claimed:?} {port:?} {host:?}");
        }
    }

    #[test]
    fn an_invalid_authority_is_dropped() {
        for claimed in [
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
            "::1",
            "evil'.example",
            &"a".repeat(256),
        ] {
            let read = read(Some(claimed), None, Some("a.example"), &Scheme::HTTP);
            assert_eq!(read, ("a.example".into(), 80, false), "{claimed}");
        }
    }

    #[test]
    fn a_port_is_up_to_five_digits() {
        for (text, number) in
            [("80", Some(80)), ("0080", Some(80)), ("65536", None), ("+80", None), ("", None), ("000080", None)]
        {
            assert_eq!(port_number(text.as_bytes()), number, "{text}");
        }
    }
}
