//! The subject and fingerprint of a certificate, as text.

use std::fmt::Write;

use rustls_pki_types::CertificateDer;
use x509_parser::{
    parse_x509_certificate,
    x509::{AttributeTypeAndValue, X509Name},
};

use crate::crypto::{hex, sha256};

/// The subject and fingerprint of a certificate, for logs and header fields.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    /// The certificate subject in the format of RFC 4514, such as `CN=alice,OU=staff,O=Example`.
    ///
    /// It is always ASCII: other characters are escaped.
    pub subject: String,
    /// The SHA-256 digest of the complete certificate, in lower-case hexadecimal.
    pub fingerprint: String,
}

impl Identity {
    /// Reads the subject and fingerprint of a certificate, or returns `None` if it is not valid X.509.
    ///
    /// # Examples
    ///
    /// ```
    /// use rproxy_tls::Identity;
    /// use rustls_pki_types::CertificateDer;
    ///
    /// assert_eq!(Identity::from_certificate(&CertificateDer::from(&b"junk"[..])), None);
    /// ```
    pub fn from_certificate(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = parse_x509_certificate(certificate).ok()?;
        Some(Self { subject: subject(parsed.subject()), fingerprint: hex(&sha256([certificate])) })
    }
}

/// Formats a certificate subject, starting with its last attribute (RFC 4514 §2.1).
fn subject(name: &X509Name<'_>) -> String {
    let names: Vec<_> = name.iter().collect();
    let names = names.into_iter().rev().map(|name| name.iter().map(attribute).collect::<Vec<_>>().join("+"));
    names.collect::<Vec<_>>().join(",")
}

/// Formats one attribute of a certificate subject (RFC 4514 §2.3, §2.4).
fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let oid = attribute.attr_type().to_id_string();
    let known = SHORT_NAMES.iter().find(|(number, _)| *number == oid);
    match (known, attribute.as_str()) {
        (Some((_, name)), Ok(value)) => format!("{name}={}", escaped(value)),
        // RFC 4514 §2.4: an unknown attribute is written as the hexadecimal digits of its BER encoding.
        _ => {
            let value = attribute.attr_value();
            let length = value.data.len();
            let mut der = vec![value.tag().0 as u8];
            match length {
                0..0x80 => der.push(length as u8),
                0x80..0x100 => der.extend([0x81, length as u8]),
                _ => der.extend([0x82, (length >> 8) as u8, length as u8]),
            }
            der.extend_from_slice(value.data);
            format!("{oid}=#{}", hex(&der))
        }
    }
}

/// Escapes an attribute value for a header field: special and non-ASCII characters (RFC 4514 §2.4).
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let last = value.len().saturating_sub(1);
    for (at, byte) in value.bytes().enumerate() {
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' => text.extend(['\\', char::from(byte)]),
            b' ' if at == 0 || at == last => text.push_str("\\ "),
            b'#' if at == 0 => text.push_str("\\#"),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => {
                let _ = write!(text, "\\{byte:02x}");
            }
        }
    }
    text
}

/// The short attribute names of RFC 4514 §3, such as `CN`.
const SHORT_NAMES: [(&str, &str); 9] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn named(names: &[(DnType, &str)]) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in names {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn formats_certificate_subjects_in_reverse_order_with_escapes() {
        let common = |name| vec![(DnType::CommonName, name)];
        for (names, subject) in [
            (
                vec![
                    (DnType::CountryName, "DE"),
                    (DnType::OrganizationName, "Example, Inc."),
                    (DnType::CommonName, "alice"),
                ],
                r"CN=alice,O=Example\, Inc.,C=DE",
            ),
            (vec![], ""),
            (common(" a "), r"CN=\ a\ "),
            (common("#1"), r"CN=\#1"),
            (common("a+b\"c\\d<e>;f"), r#"CN=a\+b\"c\\d\<e\>\;f"#),
            (common("Jörg\n"), r"CN=J\c3\b6rg\0a"),
            (vec![(DnType::CustomDnType(vec![2, 5, 4, 65]), "x")], "2.5.4.65=#0c0178"),
        ] {
            assert_eq!(Identity::from_certificate(&named(&names)).unwrap().subject, subject);
        }
    }

    #[test]
    fn fingerprints_of_two_certificates_with_the_same_subject_differ() {
        let certificate = named(&[(DnType::CommonName, "alice")]);
        let identity = Identity::from_certificate(&certificate).unwrap();
        assert_eq!(identity.fingerprint.len(), 64);
        assert_eq!(identity, Identity::from_certificate(&certificate).unwrap());
        assert_ne!(
            identity.fingerprint,
            Identity::from_certificate(&named(&[(DnType::CommonName, "alice")])).unwrap().fingerprint
        );
        assert_eq!(Identity::from_certificate(&CertificateDer::from(&b"junk"[..])), None);
    }
}
