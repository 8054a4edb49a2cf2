use std::{fs, path::Path};

use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, pem::PemObject};

/// Reads the CA certificates in a PEM file, which must contain at least one.
pub(crate) fn read(path: &Path) -> Result<RootCertStore, String> {
    let pem = fs::read(path).map_err(|error| error.to_string())?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    match roots.is_empty() {
        true => Err("no CA certificate found in the PEM file".to_owned()),
        false => Ok(roots),
    }
}
