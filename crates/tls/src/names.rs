use std::{borrow::Cow, net::IpAddr};

use rustls_pki_types::DnsName;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName};

use crate::Error;

/// The names that a certificate is valid for: its subject alternative names, and nothing else (RFC 9525 §6.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) dns: Vec<Box<str>>,
    pub(crate) ips: Vec<IpAddr>,
}

impl Names {
    pub(crate) fn of(certificate: &X509Certificate<'_>) -> Self {
        let mut names = Self::default();
        let Ok(Some(extension)) = certificate.subject_alternative_name() else {
            return names;
        };
        for name in &extension.value.general_names {
            match name {
                GeneralName::DNSName(name) => {
                    names.dns.push(name.to_ascii_lowercase().into_boxed_str());
                }
                GeneralName::IPAddress(octets) => names.ips.extend(ip_of(octets)),
                _ => {}
            }
        }
        names
    }

    pub(crate) fn cover(&self, host: &Host<'_>) -> bool {
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

    pub(crate) fn to_strings(&self) -> Vec<String> {
        let dns = self.dns.iter().map(|name| name.to_string());
        dns.chain(self.ips.iter().map(IpAddr::to_string)).collect()
    }
}

/// A host as a `Host` field or a server name indication writes it: without the port, brackets and a final dot allowed.
pub(crate) enum Host<'a> {
    Dns(Cow<'a, str>),
    Ip(IpAddr),
}

impl<'a> Host<'a> {
    pub(crate) fn parse(text: &'a str) -> Self {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if let Ok(ip) = bare.parse() {
            return Self::Ip(ip);
        }
        Self::Dns(lowercase(text.strip_suffix('.').unwrap_or(text)))
    }
}

/// What a wildcard would have to be of to cover `host`: a wildcard stands for exactly one label (RFC 9525 §6.3).
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

/// A name for an ACME certificate, in the one form it is compared and stored in.
pub(crate) fn acme_name(text: &str) -> Result<String, Error> {
    let refused = |reason| Error::Name { name: text.to_owned(), reason };
    // RFC 8737 §3: TLS-ALPN-01 can't validate wildcards; addresses need RFC 8738, which the client does not speak.
    if text.contains('*') {
        return Err(refused(
            "a wildcard can't be validated by TLS-ALPN-01; list the names, or bring the certificate as files",
        ));
    }
    if matches!(Host::parse(text), Host::Ip(_)) {
        return Err(refused("ACME certificates are for DNS names, not addresses"));
    }
    dns_name(text)
}

/// A name for the local authority's certificate: addresses and wildcards are welcome.
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
    let refused = |reason| Error::Name { name: text.to_owned(), reason };
    if !text.is_ascii() {
        return Err(refused("write an internationalised name in its xn-- form"));
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    // It takes a final dot, too, of which there would be two here.
    if DnsName::try_from(name).is_err() || name.ends_with('.') {
        return Err(refused("not a DNS name"));
    }
    Ok(name.to_ascii_lowercase())
}

fn ip_of(octets: &[u8]) -> Option<IpAddr> {
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
    fn a_certificate_covers_its_names_and_one_label_under_a_wildcard() {
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
            assert_eq!(names.cover(&Host::parse(host)), covered, "{host:?}");
        }
    }

    #[test]
    fn names_that_acme_can_not_certify_are_refused_when_they_are_given() {
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
    fn the_local_authority_takes_addresses_and_wildcards_too() {
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
        fn no_host_makes_the_comparison_panic(host in "\\PC*", name in "\\PC*") {
            let _ = names(&[&name, "*.example.com"]).cover(&Host::parse(&host));
            let _ = acme_name(&host);
            let _ = local_name(&host);
        }
    }
}
