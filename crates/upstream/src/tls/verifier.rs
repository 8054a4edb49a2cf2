//! The verification of backend certificates.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::parse_x509_certificate;
use x509_parser::x509::X509Version;

use super::pin::PublicKeyPin;

/// Verifies backend certificates against configured pins, certificates and certificate authorities.
///
/// | Given | Requirement |
/// |---|---|
/// | nothing | a chain to an authority of the system, the name, the validity |
/// | certificates | the certificate itself or a chain to it, the name, the validity |
/// | pins | a pinned public key, the validity |
/// | both | all of these |
#[derive(Debug)]
pub(super) struct BackendVerifier {
    /// The chain verifier, or `None` if only end-entity certificates or only pins are configured.
    authorities: Option<Arc<WebPkiServerVerifier>>,
    /// The configured certificates, which are also trusted as end-entity certificates.
    given: Vec<CertificateDer<'static>>,
    pins: Vec<PublicKeyPin>,
    provider: Arc<CryptoProvider>,
}

/// The error for a backend whose public key is not pinned.
#[derive(Debug, thiserror::Error)]
#[error("the public key {0} of the certificate is not pinned")]
struct NotPinned(PublicKeyPin);

impl BackendVerifier {
    /// Creates a verifier from the configured certificates and pins. `system_roots` is called if neither certificates
    /// nor pins are given.
    pub(super) fn new(
        given: Vec<CertificateDer<'static>>,
        pins: Vec<PublicKeyPin>,
        provider: Arc<CryptoProvider>,
        system_roots: impl FnOnce() -> RootCertStore,
    ) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        if given.is_empty() && pins.is_empty() {
            roots = system_roots();
        }
        for certificate in &given {
            // webpki would let an end-entity certificate among the roots issue others (RFC 5280 §6.1.4 (k)).
            if is_authority(&parse(certificate)?) {
                roots.add(certificate.clone())?;
            }
        }
        let authorities = (!roots.is_empty())
            .then(|| WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build())
            .transpose()
            .map_err(|error| Error::General(error.to_string()))?;
        Ok(Self { authorities, given, pins, provider })
    }

    /// Returns whether public key pins replace the verification of chain and name.
    fn has_only_pins(&self) -> bool {
        !self.pins.is_empty() && self.given.is_empty()
    }

    fn verify_pin(&self, certificate: &X509Certificate<'_>) -> Result<(), Error> {
        let pin = PublicKeyPin::of_public_key(certificate.public_key().raw);
        match self.pins.is_empty() || self.pins.contains(&pin) {
            true => Ok(()),
            false => Err(CertificateError::Other(OtherError(Arc::new(NotPinned(pin)))).into()),
        }
    }
}

impl ServerCertVerifier for BackendVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if !self.pins.is_empty() {
            let parsed = parse(end_entity)?;
            self.verify_pin(&parsed)?;
            if self.has_only_pins() {
                verify_validity(&parsed, now)?;
                return Ok(ServerCertVerified::assertion());
            }
        }
        if self.given.contains(end_entity) {
            let parsed = parse(end_entity)?;
            verify_validity(&parsed, now)?;
            verify_purpose(&parsed)?;
            if !has_common_name_only(&parsed, server_name) {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            }
            return Ok(ServerCertVerified::assertion());
        }
        match &self.authorities {
            Some(chain) => chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    match parse_x509_certificate(certificate) {
        Ok((_, parsed)) => Ok(parsed),
        Err(_) => Err(CertificateError::BadEncoding.into()),
    }
}

/// Returns whether a certificate may issue other certificates.
///
/// Certificates of version 1 and those without basic constraints whose key may sign certificates count as authorities:
/// old private authorities are made like this.
fn is_authority(certificate: &X509Certificate<'_>) -> bool {
    if certificate.version() != X509Version::V3 {
        return true;
    }
    match certificate.basic_constraints() {
        Ok(Some(constraints)) => constraints.value.ca,
        Ok(None) => certificate.key_usage().ok().flatten().is_some_and(|usage| usage.value.key_cert_sign()),
        Err(_) => false,
    }
}

fn verify_validity(certificate: &X509Certificate<'_>, now: UnixTime) -> Result<(), Error> {
    let validity = certificate.validity();
    let unix_time =
        |timestamp: i64| UnixTime::since_unix_epoch(Duration::from_secs(timestamp.try_into().unwrap_or_default()));
    let (not_before, not_after) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    let (not_before, not_after) = (unix_time(not_before), unix_time(not_after));
    if now < not_before {
        return Err(CertificateError::NotValidYetContext { time: now, not_before }.into());
    }
    if now > not_after {
        return Err(CertificateError::ExpiredContext { time: now, not_after }.into());
    }
    Ok(())
}

/// Returns whether a certificate without subject alternative names has this common name.
///
/// RFC 9525 §6.3 forbids common names, because an authority may not have verified them. This certificate is trusted itself.
fn has_common_name_only(certificate: &X509Certificate<'_>, server_name: &ServerName<'_>) -> bool {
    let mut common_names = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    matches!(certificate.subject_alternative_name(), Ok(None))
        && common_names.any(|name| name.eq_ignore_ascii_case(&server_name.to_str()))
}

/// Checks the extended key usage, which allows every purpose if it is absent (RFC 5280 §4.2.1.12).
fn verify_purpose(certificate: &X509Certificate<'_>) -> Result<(), Error> {
    match certificate.extended_key_usage() {
        Ok(None) => Ok(()),
        Ok(Some(usage)) if usage.value.server_auth || usage.value.any => Ok(()),
        Ok(Some(_)) => Err(CertificateError::InvalidPurpose.into()),
        Err(_) => Err(CertificateError::BadEncoding.into()),
    }
}
