//! Challenge certificates for ACME orders of other machines behind the same address.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::{crypto::aws_lc_rs::sign::any_supported_type, sign::CertifiedKey};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::challenge::{ChallengeCertificate, Challenges, KeyAuthorizationDigest};

impl Challenges {
    /// Serves the challenge of another machine, unless this machine has a pending challenge for the name.
    pub(crate) fn serve_for_peer(&self, name: &str, digest: KeyAuthorizationDigest) -> Result<(), String> {
        if self.has_own(name) {
            return Ok(());
        }
        let key = Arc::new(certificate(name, digest)?);
        self.insert(name, ChallengeCertificate { key, expires: Some(Instant::now() + LIFETIME) });
        Ok(())
    }
}

/// Creates a challenge certificate with a new key; the ACME server checks only the key authorization digest.
fn certificate(name: &str, digest: KeyAuthorizationDigest) -> Result<CertifiedKey, String> {
    let failed = |error: rcgen::Error| error.to_string();
    let mut params = CertificateParams::new([name.to_owned()]).map_err(failed)?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(&digest)];
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = any_supported_type(&key).map_err(|error| error.to_string())?;
    Ok(CertifiedKey::new(vec![certificate.der().clone()], key))
}

/// The maximum duration of an ACME order, after which its challenge expires.
pub(super) const LIFETIME: Duration = Duration::from_secs(15 * 60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme::challenge::key_authorization_digest;

    #[test]
    fn serves_the_latest_challenge_of_another_machine() {
        let challenges = Challenges::default();
        assert!(challenges.get("a.test").is_none());
        challenges.serve_for_peer("a.test", [7; 32]).unwrap();
        assert_eq!(key_authorization_digest(&challenges.get("a.test").unwrap()), Some([7; 32]));
        challenges.serve_for_peer("a.test", [8; 32]).unwrap();
        assert_eq!(key_authorization_digest(&challenges.get("a.test").unwrap()), Some([8; 32]), "the last one wins");
        assert!(challenges.get("b.test").is_none());
    }

    #[test]
    fn challenge_of_this_machine_takes_precedence_and_is_removed_after_its_order() {
        let challenges = Arc::new(Challenges::default());
        let guard = challenges.serve("a.test", Arc::new(certificate("a.test", [1; 32]).unwrap()));
        challenges.serve_for_peer("a.test", [2; 32]).unwrap();
        assert_eq!(key_authorization_digest(&challenges.get("a.test").unwrap()), Some([1; 32]));
        drop(guard);
        assert!(challenges.get("a.test").is_none());
    }

    #[test]
    fn expired_challenge_of_another_machine_is_not_served_and_is_removed() {
        let challenges = Challenges::default();
        let key = Arc::new(certificate("a.test", [1; 32]).unwrap());
        let past = Instant::now().checked_sub(Duration::from_secs(1));
        challenges.insert("a.test", ChallengeCertificate { key, expires: past });
        assert!(challenges.get("a.test").is_none());
        challenges.serve_for_peer("b.test", [2; 32]).unwrap();
        assert_eq!(challenges.len(), 1);
    }

    #[test]
    fn ordinary_certificate_has_no_key_authorization_digest() {
        let certificate = crate::testing::self_signed(&["a.test"]);
        assert_eq!(key_authorization_digest(&certificate.key), None);
    }
}
