//! Answers to challenges that machines behind the same address have asked for.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::{crypto::aws_lc_rs::sign::any_supported_type, sign::CertifiedKey};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::challenge::{Answer, Challenges, Proof};

impl Challenges {
    /// Answers a challenge that another machine has asked for. Our own for the same name goes first.
    pub(crate) fn answer_for_another(&self, name: &str, proof: Proof) -> Result<(), String> {
        if self.has_our_own(name) {
            return Ok(());
        }
        let certified = Arc::new(certificate(name, proof)?);
        self.insert(name, Answer { certified, until: Some(Instant::now() + LIFETIME) });
        Ok(())
    }
}

/// A certificate that proves the same with a key of our own: the directory looks at the proof alone.
fn certificate(name: &str, proof: Proof) -> Result<CertifiedKey, String> {
    let failed = |error: rcgen::Error| error.to_string();
    let mut params = CertificateParams::new([name.to_owned()]).map_err(failed)?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(&proof)];
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = any_supported_type(&key).map_err(|error| error.to_string())?;
    Ok(CertifiedKey::new(vec![certificate.der().clone()], key))
}

/// As long as an order may take.
pub(super) const LIFETIME: Duration = Duration::from_secs(15 * 60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme::challenge::proof;

    #[test]
    fn what_another_machine_proves_is_proven_here_too() {
        let challenges = Challenges::default();
        assert!(challenges.get("a.test").is_none());
        challenges.answer_for_another("a.test", [7; 32]).unwrap();
        assert_eq!(proof(&challenges.get("a.test").unwrap()), Some([7; 32]));
        challenges.answer_for_another("a.test", [8; 32]).unwrap();
        assert_eq!(proof(&challenges.get("a.test").unwrap()), Some([8; 32]), "the last one counts");
        assert!(challenges.get("b.test").is_none());
    }

    #[test]
    fn our_own_challenge_goes_first_and_ends_with_its_order() {
        let challenges = Arc::new(Challenges::default());
        let answering = challenges.answer("a.test", Arc::new(certificate("a.test", [1; 32]).unwrap()));
        challenges.answer_for_another("a.test", [2; 32]).unwrap();
        assert_eq!(proof(&challenges.get("a.test").unwrap()), Some([1; 32]));
        drop(answering);
        assert!(challenges.get("a.test").is_none());
    }

    #[test]
    fn what_is_over_is_answered_no_more_and_forgotten() {
        let challenges = Challenges::default();
        let certified = Arc::new(certificate("a.test", [1; 32]).unwrap());
        let past = Instant::now().checked_sub(Duration::from_secs(1));
        challenges.insert("a.test", Answer { certified, until: past });
        assert!(challenges.get("a.test").is_none());
        challenges.answer_for_another("b.test", [2; 32]).unwrap();
        assert_eq!(challenges.len(), 1);
    }

    #[test]
    fn a_certificate_of_another_kind_proves_nothing() {
        let (chain, key) = crate::testing::self_signed_pem(&["a.test"]);
        let certified = crate::certified::Certified::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(proof(&certified.key), None);
    }
}
