//! Public key pins of backends.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::SupportedCipherSuite;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls_pki_types::CertificateDer;
use x509_parser::parse_x509_certificate;

/// The SHA-256 digest of a public key (SubjectPublicKeyInfo, RFC 5280 §4.1.2.7).
///
/// The text is `sha256/` and the digest in base64. The spelling of curl's `--pinnedpubkey`, `sha256//`, is accepted, too.
/// This command prints the digest of a certificate:
///
/// ```sh
/// openssl x509 -in backend.pem -noout -pubkey | openssl pkey -pubin -outform DER | openssl dgst -sha256 -binary | base64
/// ```
///
/// # Examples
///
/// ```
/// use rproxy_upstream::PublicKeyPin;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pin: PublicKeyPin = "sha256//RHFyQxXYKAzGIgy0BsyKNkW92p9UNNFjyhRAX3f5Uow=".parse()?;
/// assert_eq!(pin.to_string(), "sha256/RHFyQxXYKAzGIgy0BsyKNkW92p9UNNFjyhRAX3f5Uow=");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PublicKeyPin([u8; 32]);

/// The error for an invalid [`PublicKeyPin`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PinError {
    /// The text of a pin is not `sha256/` followed by 32 bytes in base64.
    #[error("bad pin {text:?}: expected sha256/ and 32 bytes in base64")]
    Syntax {
        /// The text that is not a valid pin.
        text: String,
    },
    /// The certificate to be pinned is not valid X.509.
    #[error("the certificate is not valid X.509: {reason}")]
    Certificate {
        /// The reason that the certificate is not valid.
        reason: String,
    },
}

impl PublicKeyPin {
    /// Returns the pin of the public key in a certificate.
    ///
    /// # Errors
    ///
    /// Returns an error if the certificate is not valid X.509.
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Result<Self, PinError> {
        match parse_x509_certificate(certificate) {
            Ok((_, parsed)) => Ok(Self::of_public_key(parsed.public_key().raw)),
            Err(error) => Err(PinError::Certificate { reason: error.to_string() }),
        }
    }

    pub(super) fn of_public_key(subject_public_key_info: &[u8]) -> Self {
        let provider = match TLS13_AES_128_GCM_SHA256 {
            SupportedCipherSuite::Tls13(suite) => suite.common.hash_provider,
            SupportedCipherSuite::Tls12(suite) => suite.common.hash_provider,
        };
        let mut digest = [0; 32];
        let computed = provider.hash(subject_public_key_info);
        digest.copy_from_slice(computed.as_ref());
        Self(digest)
    }
}

impl FromStr for PublicKeyPin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Self, PinError> {
        let encoded = text.strip_prefix("sha256/").map(|rest| match rest.strip_prefix('/') {
            // The digest itself can begin with a slash.
            Some(digest) if digest.len() == BASE64_LENGTH => digest,
            _ => rest,
        });
        let digest = encoded.and_then(|encoded| STANDARD.decode(encoded).ok()).and_then(|bytes| bytes.try_into().ok());
        digest.map(Self).ok_or_else(|| PinError::Syntax { text: text.to_owned() })
    }
}

impl fmt::Display for PublicKeyPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256/{}", STANDARD.encode(self.0))
    }
}

/// The length of a SHA-256 digest in base64.
const BASE64_LENGTH: usize = 44;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_key_pins_parse_with_one_or_two_slashes_and_display_with_one() {
        // 44 characters, the first of which can be a slash.
        for digest in ["RHFyQxXYKAzGIgy0BsyKNkW92p9UNNFjyhRAX3f5Uow=", "/HFyQxXYKAzGIgy0BsyKNkW92p9UNNFjyhRAX3f5Uow="] {
            let pin: PublicKeyPin = format!("sha256//{digest}").parse().unwrap();
            let shown = pin.to_string();
            assert_eq!(shown, format!("sha256/{digest}"));
            assert_eq!(shown.parse::<PublicKeyPin>().unwrap(), pin);
        }
    }

    #[test]
    fn rejects_text_that_is_not_a_public_key_pin() {
        for text in [
            "",
            "sha256/",
            "sha256//",
            "sha1/2jmj7l5rSw0yVb/vlWAYkK/YBwk=",
            "RHFyQxXYKAzGIgy0BsyKNkW92p9UNNFjyhRAX3f5Uow=",
            "sha256/RHFyQxXYKAzGIgy0BsyKNkW92p9UNNFjyhRAX3f5Uow",
            "sha256/44717243",
        ] {
            let error = text.parse::<PublicKeyPin>().unwrap_err().to_string();
            assert!(error.contains("sha256/ and 32 bytes in base64"), "{error}");
        }
    }

    #[test]
    fn public_key_pin_is_the_sha256_of_the_subject_public_key_info() {
        // FIPS 180-4, the digest of "abc".
        let pin = PublicKeyPin::of_public_key(b"abc");
        assert_eq!(pin.to_string(), "sha256/ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
    }
}
