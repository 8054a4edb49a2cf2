//! Certificates for unit tests.

use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};

use crate::certified::Certified;

pub(crate) fn self_signed(names: &[&str]) -> Arc<Certified> {
    let (chain, key) = self_signed_pem(names);
    Arc::new(Certified::from_pem(chain.as_bytes(), key.as_bytes()).unwrap())
}

pub(crate) fn self_signed_pem(names: &[&str]) -> (String, String) {
    let names: Vec<_> = names.iter().map(|name| name.to_string()).collect();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}
