//! Answers to TLS-ALPN-01 challenges (RFC 8737).

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Instant,
};

use rustls::sign::CertifiedKey;
use x509_parser::{der_parser::oid, parse_x509_certificate};

/// What a challenge proves: the digest of its key authorization (RFC 8737 §3). It is no secret, for the directory's
/// handshake shows it to everybody who asks.
pub(crate) type Proof = [u8; 32];

/// The challenges that are answered now.
#[derive(Debug, Default)]
pub(crate) struct Challenges {
    answers: RwLock<HashMap<String, Answer>>,
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) certified: Arc<CertifiedKey>,
    /// When the one who asked for it has forgotten it; `None` for our own, which are taken back.
    pub(super) until: Option<Instant>,
}

impl Challenges {
    /// While what is returned lives, challenges for `name` get this answer.
    pub(crate) fn answer(self: &Arc<Self>, name: &str, certified: Arc<CertifiedKey>) -> Answering {
        self.insert(name, Answer { certified, until: None });
        Answering { challenges: self.clone(), name: name.to_owned() }
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let answers = self.answers.read().unwrap_or_else(PoisonError::into_inner);
        let answer = answers.get(name)?;
        (!answer.is_over(Instant::now())).then(|| answer.certified.clone())
    }

    #[cfg(any(feature = "redis", test))]
    pub(super) fn has_our_own(&self, name: &str) -> bool {
        let answers = self.answers.read().unwrap_or_else(PoisonError::into_inner);
        answers.get(name).is_some_and(|answer| answer.until.is_none())
    }

    pub(super) fn insert(&self, name: &str, answer: Answer) {
        let now = Instant::now();
        let mut answers = self.answers.write().unwrap_or_else(PoisonError::into_inner);
        answers.retain(|_, answer| !answer.is_over(now));
        answers.insert(name.to_owned(), answer);
    }
}

#[cfg(test)]
impl Challenges {
    pub(super) fn len(&self) -> usize {
        self.answers.read().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Answer {
    fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until < now)
    }
}

/// Stops answering a challenge when the order is over, however it ended.
#[must_use]
pub(crate) struct Answering {
    challenges: Arc<Challenges>,
    name: String,
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.challenges.answers.write().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

/// What the certificate of a challenge proves.
pub(crate) fn proof(certified: &CertifiedKey) -> Option<Proof> {
    let (_, certificate) = parse_x509_certificate(certified.cert.first()?).ok()?;
    // RFC 8737 §6.1: id-pe-acmeIdentifier.
    let extension = certificate.extensions().iter().find(|extension| extension.oid == oid!(1.3.6.1.5.5.7.1.31))?;
    // An OCTET STRING of 32 bytes.
    extension.value.strip_prefix(&[0x04, 0x20])?.try_into().ok()
}
