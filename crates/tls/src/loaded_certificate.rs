use std::{sync::Arc, time::SystemTime};

use rustls::{SignatureScheme, crypto::aws_lc_rs::sign::any_supported_type, sign::CertifiedKey as RustlsCertifiedKey};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{Error as SyntaxError, PemObject},
};
use x509_parser::parse_x509_certificate;

use crate::{
    KeyType, PemError,
    chain::{self, OrderedChain},
    names::Names,
    ocsp,
    validity::{Validity, system_time},
};

/// A certificate chain in handshake order with its private key, and the names and validity of its leaf.
#[derive(Clone, Debug)]
pub(crate) struct LoadedCertificate {
    pub(crate) key: Arc<RustlsCertifiedKey>,
    pub(crate) names: Names,
    pub(crate) validity: Validity,
    pub(crate) key_type: KeyType,
    /// Whether the chain was reordered, because its order in the file was wrong.
    pub(crate) is_reordered: bool,
}

impl LoadedCertificate {
    /// Parses a chain and its key from PEM, ignoring sections of other types.
    pub(crate) fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, PemError> {
        let certificates = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| PemError::Syntax(error.to_string()))?;
        let key = match PrivateKeyDer::from_pem_slice(key) {
            Ok(der) => any_supported_type(&der).map_err(PemError::Key)?,
            Err(SyntaxError::NoItemsFound) if is_encrypted(key) => {
                return Err(PemError::EncryptedKey);
            }
            Err(SyntaxError::NoItemsFound) => return Err(PemError::NoKey),
            Err(error) => return Err(PemError::Syntax(error.to_string())),
        };

        let OrderedChain { chain, is_reordered } = chain::order_chain(certificates, |leaf| {
            let pair = RustlsCertifiedKey::new(vec![leaf.clone()], key.clone());
            // A key whose public half is unknown is accepted, as in rustls.
            !matches!(pair.keys_match(), Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)))
        })?;
        let (names, validity) = names_and_validity(chain.first().ok_or(PemError::NoCertificate)?)?;
        let key_type = KeyType::of(&*key);
        Ok(Self { key: Arc::new(RustlsCertifiedKey::new(chain, key)), names, validity, key_type, is_reordered })
    }

    /// Returns whether the private key can sign with one of these signature schemes.
    pub(crate) fn supports(&self, schemes: &[SignatureScheme]) -> bool {
        self.key.key.choose_scheme(schemes).is_some()
    }

    /// Staples an OCSP response if the response currently confirms the certificate, and returns its expiry.
    pub(crate) fn staple(&mut self, response: Vec<u8>) -> Result<Option<SystemTime>, String> {
        let leaf = self.key.cert.first().ok_or_else(|| PemError::NoCertificate.to_string())?;
        let end = ocsp::good_until(&response, leaf, SystemTime::now()).map_err(|error| error.to_string())?;
        Arc::make_mut(&mut self.key).ocsp = Some(response);
        Ok(end)
    }
}

fn names_and_validity(leaf: &CertificateDer<'_>) -> Result<(Names, Validity), PemError> {
    let (_, leaf) = parse_x509_certificate(leaf)
        .map_err(|error| PemError::Certificate { position: 1, reason: error.to_string() })?;
    let validity = Validity {
        not_before: system_time(leaf.validity().not_before.timestamp()),
        not_after: system_time(leaf.validity().not_after.timestamp()),
    };
    Ok((Names::from_certificate(&leaf), validity))
}

fn is_encrypted(pem: &[u8]) -> bool {
    let text = String::from_utf8_lossy(pem);
    text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::self_signed_pem;

    #[test]
    fn rejects_unusable_pem_files_with_the_reason() {
        let (chain, key) = self_signed_pem(&["a.test"]);
        let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let junk_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        for (chain, key, expected) in [
            ("", &*key, "no certificate"),
            (&key, &key, "no certificate"),
            (&chain, "", "no private key"),
            (&chain, &chain, "no private key"),
            (&chain, encrypted, "encrypted"),
            (&chain, junk_key, "unusable private key"),
            (junk, &key, "not valid X.509"),
            ("-----BEGIN CERTIFICATE-----\nAAAA", &key, "malformed PEM"),
        ] {
            let error = LoadedCertificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(expected), "{text:?} lacks {expected:?}");
        }
    }

    #[test]
    fn accepts_private_key_and_chain_in_one_pem_file() {
        let (chain, key) = self_signed_pem(&["a.test", "10.0.0.1"]);
        for together in [format!("{key}{chain}"), format!("comment\n{chain}{key}")] {
            let certificate = LoadedCertificate::from_pem(together.as_bytes(), together.as_bytes()).unwrap();
            assert_eq!(certificate.names.to_strings(), ["a.test", "10.0.0.1"]);
        }
    }

    proptest! {
        #[test]
        fn parsing_mutated_pem_never_panics(before in ".{0,40}", at in 0usize..600, with in any::<Vec<u8>>()) {
            let (chain, key) = self_signed_pem(&["a.test"]);
            let mut chain = format!("{before}{chain}").into_bytes();
            let at = at.min(chain.len());
            chain.splice(at..(at + with.len()).min(chain.len()), with);
            let _ = LoadedCertificate::from_pem(&chain, key.as_bytes());
            let _ = LoadedCertificate::from_pem(&chain, &chain);
        }
    }
}
