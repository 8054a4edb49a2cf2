//! DNS names in certificates, and TLS hosts.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::value::ParseError;

/// A DNS name for which to obtain a certificate, in lower case. It may start with `*.`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TlsName(String);

impl TlsName {
    /// Returns the DNS name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether the DNS name is a wildcard, which covers every name one label below it.
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with("*.")
    }
}

impl FromStr for TlsName {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = |reason: &str| ParseError::new("DNS name", text, reason);
        if text.contains("://") {
            return Err(error("a URL, not a name"));
        }
        if text.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
            return Err(error("an IP address, not a DNS name"));
        }
        if text.contains(':') {
            return Err(error("the name must not contain a port"));
        }
        if !text.is_ascii() {
            return Err(error("not ASCII; use the xn-- form of the name"));
        }
        // RFC 1123 §2.1: letters, digits and hyphens, no hyphen at either end; RFC 1035 §2.3.4: 63 and 255 octets.
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let name = text.strip_suffix('.').unwrap_or(text);
        let base = name.strip_prefix("*.").unwrap_or(name);
        if name.len() > 253 || !base.split('.').all(label) {
            return Err(error("each label must consist of 1 to 63 letters, digits and hyphens"));
        }
        Ok(Self(name.to_ascii_lowercase()))
    }
}

impl AsRef<str> for TlsName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TlsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A host that is served over TLS even if no certificate covers it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsHost {
    /// Any host, written as `*`.
    Any,
    /// A DNS name, which can start with `*.`.
    Name(TlsName),
}

impl TlsHost {
    /// Returns whether this entry matches `host`, exactly or by a wildcard. `host` has no port.
    pub fn matches(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        match self {
            Self::Any => true,
            Self::Name(name) => match name.as_str().strip_prefix("*.") {
                Some(parent) => host.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(parent)),
                None => host.eq_ignore_ascii_case(name.as_str()),
            },
        }
    }
}

impl FromStr for TlsHost {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text {
            "*" => Ok(Self::Any),
            name => name.parse().map(Self::Name),
        }
    }
}

impl fmt::Display for TlsHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Name(name) => name.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_host_matches_a_name_a_wildcard_or_any_host() {
        for (text, host, expected) in [
            ("a.example", "A.example", true),
            ("a.example", "a.example.", true),
            ("a.example", "b.example", false),
            ("*.example", "a.example", true),
            ("*.example", "a.b.example", false),
            ("*.example", "example", false),
            ("*", "anything", true),
        ] {
            assert_eq!(text.parse::<TlsHost>().unwrap().matches(host), expected, "{text} {host}");
        }
        assert!("a b".parse::<TlsHost>().is_err());
    }

    #[test]
    fn converts_dns_names_to_lower_case() {
        for (text, name) in [
            ("example.com", "example.com"),
            ("WWW.Example.COM", "www.example.com"),
            ("example.com.", "example.com"),
            ("*.example.com", "*.example.com"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(text.parse::<TlsName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn rejects_invalid_dns_name_with_reason() {
        let long = format!("{}.example", "x".repeat(64));
        for (text, reason) in [
            ("https://example.com", "a URL, not a name"),
            ("example.com:443", "the name must not contain a port"),
            ("192.0.2.1", "an IP address, not a DNS name"),
            ("[::1]", "an IP address, not a DNS name"),
            ("bücher.example", "not ASCII; use the xn-- form of the name"),
            ("a..example", "each label must consist of 1 to 63 letters, digits and hyphens"),
            ("-a.example", "each label must consist of 1 to 63 letters, digits and hyphens"),
            ("a_b.example", "each label must consist of 1 to 63 letters, digits and hyphens"),
            ("a.*.example", "each label must consist of 1 to 63 letters, digits and hyphens"),
            ("*", "each label must consist of 1 to 63 letters, digits and hyphens"),
            ("", "each label must consist of 1 to 63 letters, digits and hyphens"),
            (&long, "each label must consist of 1 to 63 letters, digits and hyphens"),
        ] {
            assert_eq!(text.parse::<TlsName>().unwrap_err().to_string(), format!("bad DNS name {text:?}: {reason}"),);
        }
    }
}
