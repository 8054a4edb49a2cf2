//! Certificates for pending TLS-ALPN-01 challenges (RFC 8737).

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Instant,
};

use rustls::sign::CertifiedKey;
use x509_parser::{der_parser::oid, parse_x509_certificate};

/// The SHA-256 digest of a key authorization, which a TLS-ALPN-01 challenge certificate contains (RFC 8737 §3).
///
/// It is not secret: every TLS-ALPN-01 handshake reveals it.
pub(crate) type KeyAuthorizationDigest = [u8; 32];

/// The pending challenge certificates by name.
#[derive(Debug, Default)]
pub(crate) struct Challenges {
    certificates: RwLock<HashMap<String, ChallengeCertificate>>,
}

#[derive(Debug)]
pub(super) struct ChallengeCertificate {
    pub(super) key: Arc<CertifiedKey>,
    /// The expiry time of a challenge of another machine, or `None` for a challenge of this machine. A
    /// [`ChallengeGuard`] removes the challenges of this machine.
    pub(super) expires: Option<Instant>,
}

impl Challenges {
    /// Serves a challenge certificate for `name` until the guard is dropped.
    pub(crate) fn serve(self: &Arc<Self>, name: &str, key: Arc<CertifiedKey>) -> ChallengeGuard {
        self.insert(name, ChallengeCertificate { key, expires: None });
        ChallengeGuard { challenges: self.clone(), name: name.to_owned() }
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let certificates = self.certificates.read().unwrap_or_else(PoisonError::into_inner);
        let certificate = certificates.get(name)?;
        (!certificate.is_expired(Instant::now())).then(|| certificate.key.clone())
    }

    /// Returns whether this machine has a pending challenge for `name`.
    #[cfg(any(feature = "redis", test))]
    pub(super) fn has_own(&self, name: &str) -> bool {
        let certificates = self.certificates.read().unwrap_or_else(PoisonError::into_inner);
        certificates.get(name).is_some_and(|certificate| certificate.expires.is_none())
    }

    pub(super) fn insert(&self, name: &str, certificate: ChallengeCertificate) {
        let now = Instant::now();
        let mut certificates = self.certificates.write().unwrap_or_else(PoisonError::into_inner);
        certificates.retain(|_, certificate| !certificate.is_expired(now));
        certificates.insert(name.to_owned(), certificate);
    }
}

#[cfg(test)]
impl Challenges {
    pub(super) fn len(&self) -> usize {
        self.certificates.read().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl ChallengeCertificate {
    fn is_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|expires| expires < now)
    }
}

/// A guard that removes a challenge certificate on drop, after its order has succeeded or failed.
#[must_use]
pub(crate) struct ChallengeGuard {
    challenges: Arc<Challenges>,
    name: String,
}

impl Drop for ChallengeGuard {
    fn drop(&mut self) {
        self.challenges.certificates.write().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

/// Returns the key authorization digest in a challenge certificate, or `None` for other certificates.
pub(crate) fn key_authorization_digest(key: &CertifiedKey) -> Option<KeyAuthorizationDigest> {
    let (_, certificate) = parse_x509_certificate(key.cert.first()?).ok()?;
    // RFC 8737 §6.1: id-pe-acmeIdentifier.
    let extension = certificate.extensions().iter().find(|extension| extension.oid == oid!(1.3.6.1.5.5.7.1.31))?;
    // An OCTET STRING of 32 bytes.
    extension.value.strip_prefix(&[0x04, 0x20])?.try_into().ok()
}
