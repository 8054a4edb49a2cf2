//! Reads certificates in PEM format.

use std::path::Path;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{self, PemObject};

use super::StackError;

/// Reads the certificates from a PEM file. Fails if there are none.
pub(super) fn certificate_chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, StackError> {
    let bad = |error| StackError::Pem { file: file.to_owned(), error };
    let chain: Vec<_> = CertificateDer::pem_file_iter(file).and_then(Iterator::collect).map_err(bad)?;
    match chain.is_empty() {
        true => Err(bad(pem::Error::NoItemsFound)),
        false => Ok(chain),
    }
}
