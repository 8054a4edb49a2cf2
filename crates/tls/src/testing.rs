//! Test certificates and OCSP responses for unit tests.

use std::{sync::Arc, time::SystemTime};

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, SignatureAlgorithm};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::parse_x509_certificate;

use crate::loaded_certificate::LoadedCertificate;

pub(crate) fn self_signed(names: &[&str]) -> Arc<LoadedCertificate> {
    self_signed_with(names, &PKCS_ECDSA_P256_SHA256)
}

pub(crate) fn self_signed_with(names: &[&str], algorithm: &'static SignatureAlgorithm) -> Arc<LoadedCertificate> {
    let (chain, key) = self_signed_pem_with(names, algorithm);
    Arc::new(LoadedCertificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap())
}

pub(crate) fn self_signed_pem(names: &[&str]) -> (String, String) {
    self_signed_pem_with(names, &PKCS_ECDSA_P256_SHA256)
}

pub(crate) fn self_signed_pem_with(names: &[&str], algorithm: &'static SignatureAlgorithm) -> (String, String) {
    let names: Vec<_> = names.iter().map(|name| name.to_string()).collect();
    let key = KeyPair::generate_for(algorithm).unwrap();
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

/// An OCSP response for one certificate, with a dummy signature.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OcspResponse<'a> {
    pub(crate) leaf: &'a CertificateDer<'a>,
    /// The status in the OCSP response: 0 is good, 1 is revoked, 2 is unknown.
    pub(crate) status: u8,
    pub(crate) this_update: SystemTime,
    pub(crate) next_update: Option<SystemTime>,
}

impl OcspResponse<'_> {
    pub(crate) fn der(&self) -> Vec<u8> {
        let (_, leaf) = parse_x509_certificate(self.leaf).unwrap();
        let algorithm = tlv(0x30, &[&[0x06, 5, 0x2b, 0x0e, 3, 2, 0x1a], &[5, 0]]);
        let id = tlv(0x30, &[&algorithm, &tlv(4, &[&[1; 20]]), &tlv(4, &[&[2; 20]]), &tlv(2, &[leaf.raw_serial()])]);
        let status = match self.status {
            1 => tlv(0xa1, &[&time(self.this_update)]),
            status => vec![0x80 | status, 0],
        };
        let next = self.next_update.map_or(Vec::new(), |next| tlv(0xa0, &[&time(next)]));
        let single = tlv(0x30, &[&id, &status, &time(self.this_update), &next]);
        let responder = tlv(0xa2, &[&tlv(4, &[&[3; 20]])]);
        let data = tlv(0x30, &[&responder, &time(self.this_update), &tlv(0x30, &[&single])]);
        let basic = tlv(0x30, &[&data, &algorithm, &tlv(3, &[&[0; 72]])]);
        let kind = tlv(6, &[&[0x2b, 6, 1, 5, 5, 7, 48, 1, 1]]);
        let bytes = tlv(0x30, &[&kind, &tlv(4, &[&basic])]);
        tlv(0x30, &[&[0x0a, 1, 0], &tlv(0xa0, &[&bytes])])
    }
}

fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = (content.len() as u16).to_be_bytes();
    [&[tag, 0x82], &length[..], &content].concat()
}

fn time(time: SystemTime) -> Vec<u8> {
    let time = OffsetDateTime::from(time);
    let (date, clock) = (time.to_calendar_date(), time.to_hms());
    let text = format!("{:04}{:02}{:02}{:02}{:02}{:02}Z", date.0, u8::from(date.1), date.2, clock.0, clock.1, clock.2);
    tlv(0x18, &[text.as_bytes()])
}
