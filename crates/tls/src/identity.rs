//! Who a certificate says that somebody is, as text.

use std::fmt::Write;

use rustls_pki_types::CertificateDer;
use x509_parser::{
    parse_x509_certificate,
    x509::{AttributeTypeAndValue, X509Name},
};

use crate::store::sha256;

/// Who a certificate names, for logs and fields.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    /// The subject as RFC 4514 writes it: `CN=alice,OU=staff,O=Example`. ASCII, whatever the certificate has.
    pub subject: String,
    /// SHA-256 of the whole certificate, in lower-case hexadecimal.
    pub fingerprint: String,
}

impl Identity {
    /// `None`: these bytes are no certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = parse_x509_certificate(certificate).ok()?;
        Some(Self { subject: subject(parsed.subject()), fingerprint: hex(&sha256([certificate])) })
    }
}

/// RFC 4514 §2.1: the last of the names first.
fn subject(name: &X509Name<'_>) -> String {
    let names: Vec<_> = name.iter().collect();
    let names = names.into_iter().rev().map(|name| name.iter().map(attribute).collect::<Vec<_>>().join("+"));
    names.collect::<Vec<_>>().join(",")
}

/// RFC 4514 §2.3, §2.4.
fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let oid = attribute.attr_type().to_id_string();
    let known = SHORT.iter().find(|(number, _)| *number == oid);
    match (known, attribute.as_str()) {
        (Some((_, name)), Ok(value)) => format!("{name}={}", escaped(value)),
        // RFC 4514 §2.4: the value's own encoding.
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

/// RFC 4514 §2.4. What is not printable ASCII is written as bytes, which it allows, so that the text fits into a field.
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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// RFC 4514 §3.
const SHORT: [(&str, &str); 9] = [
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
    fn subjects_are_written_from_the_last_name_to_the_first_and_escaped() {
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
            assert_eq!(Identity::of(&named(&names)).unwrap().subject, subject);
        }
    }

    #[test]
    fn the_fingerprint_is_the_digest_of_the_whole_certificate() {
        let certificate = named(&[(DnType::CommonName, "alice")]);
        let identity = Identity::of(&certificate).unwrap();
        assert_eq!(identity.fingerprint.len(), 64);
        assert_eq!(identity, Identity::of(&certificate).unwrap());
        assert_ne!(identity.fingerprint, Identity::of(&named(&[(DnType::CommonName, "alice")])).unwrap().fingerprint);
        assert_eq!(Identity::of(&CertificateDer::from(&b"junk"[..])), None);
        // FIPS 180-4, the digest of "abc".
        assert!(hex(&sha256([b"abc"])).starts_with("ba7816bf8f01cfea414140de5dae2223"));
    }
}
