use std::{borrow::Cow, fmt, net::IpAddr};

use rustls_pki_types::DnsName;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName};

use crate::Error;

/// The subject alternative names of a certificate, the only names that it is valid for (RFC 9525 §6.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) dns: Vec<Box<str>>,
    pub(crate) ips: Vec<IpAddr>,
}

impl Names {
    pub(crate) fn from_certificate(certificate: &X509Certificate<'_>) -> Self {
        let mut names = Self::default();
        let Ok(Some(extension)) = certificate.subject_alternative_name() else {
            return names;
        };
        for name in &extension.value.general_names {
            match name {
                GeneralName::DNSName(name) => {
                    names.dns.push(name.to_ascii_lowercase().into_boxed_str());
                }
                GeneralName::IPAddress(octets) => names.ips.extend(parse_ip(octets)),
                _ => {}
            }
        }
        names
    }

    pub(crate) fn covers(&self, host: &Host<'_>) -> bool {
        match host {
            Host::Ip(ip) => self.ips.contains(ip),
            Host::Dns(host) => {
                let parent = wildcard_parent(host);
                self.dns.iter().any(|name| match name.strip_prefix("*.") {
                    Some(suffix) => parent == Some(suffix),
                    None => **name == **host,
                })
            }
        }
    }

    /// Returns whether the certificate lists exactly this name; a wildcard matches only itself.
    pub(crate) fn contains(&self, name: &Name<'_>) -> bool {
        match name {
            Name::Dns(name) => self.dns.iter().any(|listed| **listed == **name),
            Name::Ip(ip) => self.ips.contains(ip),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Name<'_>> {
        self.dns.iter().map(|name| Name::Dns(name)).chain(self.ips.iter().copied().map(Name::Ip))
    }

    pub(crate) fn to_strings(&self) -> Vec<String> {
        self.iter().map(|name| name.to_string()).collect()
    }
}

/// A DNS name or an IP address on a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name<'a> {
    Dns(&'a str),
    Ip(IpAddr),
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}

/// A host without a port, from a `Host` field or a TLS server name (SNI).
pub(crate) enum Host<'a> {
    Dns(Cow<'a, str>),
    Ip(IpAddr),
}

impl<'a> Host<'a> {
    /// Parses a host, which may be in brackets or end with a dot.
    pub(crate) fn parse(text: &'a str) -> Self {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if let Ok(ip) = bare.parse() {
            return Self::Ip(ip);
        }
        Self::Dns(lowercase(text.strip_suffix('.').unwrap_or(text)))
    }
}

/// Returns `host` without its first label: the domain whose wildcard covers `host` (RFC 9525 §6.3).
pub(crate) fn wildcard_parent(host: &str) -> Option<&str> {
    let (label, parent) = host.split_once('.')?;
    (!label.is_empty() && !parent.is_empty()).then_some(parent)
}

pub(crate) fn lowercase(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

/// Validates a DNS name for an ACME certificate, and returns its normal form.
pub(crate) fn acme_name(text: &str) -> Result<String, Error> {
    let invalid = |reason| Error::InvalidName { name: text.to_owned(), reason };
    // RFC 8737 §3 excludes wildcards. Addresses need RFC 8738, which the ACME client does not implement.
    if text.contains('*') {
        return Err(invalid(
            "TLS-ALPN-01 cannot validate a wildcard; list each DNS name, or provide the certificate as PEM files",
        ));
    }
    if matches!(Host::parse(text), Host::Ip(_)) {
        return Err(invalid("ACME certificates support DNS names only, not IP addresses"));
    }
    dns_name(text)
}

/// Validates a DNS name, wildcard or IP address for the local certificate, and returns its normal form.
pub(crate) fn local_name(text: &str) -> Result<String, Error> {
    if let Host::Ip(ip) = Host::parse(text) {
        return Ok(ip.to_string());
    }
    match text.strip_prefix("*.") {
        Some(parent) => Ok(format!("*.{}", dns_name(parent)?)),
        None => dns_name(text),
    }
}

fn dns_name(text: &str) -> Result<String, Error> {
    let invalid = |reason| Error::InvalidName { name: text.to_owned(), reason };
    if !text.is_ascii() {
        return Err(invalid("not ASCII; write an internationalised DNS name in its xn-- form"));
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    // `DnsName` accepts a final dot, which would be the second one here.
    if DnsName::try_from(name).is_err() || name.ends_with('.') {
        return Err(invalid("not a DNS name"));
    }
    Ok(name.to_ascii_lowercase())
}

fn parse_ip(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(octets) {
        return Some(octets.into());
    }
    <[u8; 16]>::try_from(octets).ok().map(IpAddr::from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(list: &[&str]) -> Names {
        let mut names = Names::default();
        for name in list {
            match name.parse() {
                Ok(ip) => names.ips.push(ip),
                Err(_) => names.dns.push((*name).into()),
            }
        }
        names
    }

    #[test]
    fn certificate_covers_exact_names_and_one_label_under_a_wildcard() {
        let names = names(&["example.com", "*.example.org", "192.0.2.7", "2001:db8::7"]);
        for (host, covered) in [
            ("example.com", true),
            ("EXAMPLE.com", true),
            ("example.com.", true),
            ("www.example.com", false),
            ("example.org", false),
            ("www.example.org", true),
            ("WWW.Example.Org.", true),
            ("a.b.example.org", false),
            (".example.org", false),
            ("*.example.org", true),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("[2001:db8::7]", true),
            ("[2001:DB8:0::7]", true),
            ("2001:db8::8", false),
            ("", false),
            (".", false),
            ("[", false),
        ] {
            assert_eq!(names.covers(&Host::parse(host)), covered, "{host:?}");
        }
    }

    #[test]
    fn acme_name_rejects_wildcards_addresses_and_invalid_names() {
        for (name, accepted) in [
            ("example.com", Some("example.com")),
            ("Example.COM.", Some("example.com")),
            ("xn--bcher-kva.example", Some("xn--bcher-kva.example")),
            ("*.example.com", None),
            ("192.0.2.1", None),
            ("[2001:db8::1]", None),
            ("bücher.example", None),
            ("", None),
            (".", None),
            ("..", None),
            ("../../etc/passwd", None),
            ("a b", None),
            ("https://example.com", None),
            ("example.com:443", None),
        ] {
            assert_eq!(acme_name(name).ok().as_deref(), accepted, "{name:?}");
        }
    }

    #[test]
    fn local_name_accepts_ip_addresses_and_wildcards() {
        for (name, accepted) in [
            ("app.localhost", Some("app.localhost")),
            ("*.App.test", Some("*.app.test")),
            ("[::1]", Some("::1")),
            ("10.0.0.1", Some("10.0.0.1")),
            ("*", None),
            ("*.", None),
            ("a.*.test", None),
            ("a/b", None),
        ] {
            assert_eq!(local_name(name).ok().as_deref(), accepted, "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn parsing_and_matching_certificate_names_never_panics(host in "\\PC*", name in "\\PC*") {
            let _ = names(&[&name, "*.example.com"]).covers(&Host::parse(&host));
            let _ = acme_name(&host);
            let _ = local_name(&host);
        }
    }
}
