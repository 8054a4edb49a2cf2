//! The fuzz targets of the TLS crate: PEM files and certificate names. Each function accepts any bytes and panics if an
//! invariant is violated.

use crate::loaded_certificate::LoadedCertificate;
use crate::names::{Host, acme_name, local_name, lowercase, wildcard_parent};

/// Parses a PEM text as a chain and its key, and checks that an accepted chain is not empty.
pub fn pem(bytes: &[u8]) {
    if let Ok(certificate) = LoadedCertificate::from_pem(bytes, bytes) {
        assert!(!certificate.key.cert.is_empty());
        for name in certificate.names.to_strings() {
            let _ = certificate.names.covers(&Host::parse(&name));
        }
    }
}

/// Normalises certificate names, and checks that a normalised name is its own normal form.
pub fn names(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let _ = wildcard_parent(text);
    assert_eq!(lowercase(text), text.to_ascii_lowercase());
    for parse in [acme_name, local_name] {
        if let Ok(name) = parse(text) {
            assert_eq!(parse(&name).ok().as_ref(), Some(&name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rproxy_seeds::run;

    const CRATE: &str = env!("CARGO_MANIFEST_DIR");

    #[test]
    fn pem_fuzz_target_passes_on_the_mutated_corpus() {
        run(CRATE, "pem", pem);
    }

    #[test]
    fn names_fuzz_target_passes_on_the_mutated_corpus() {
        run(CRATE, "names", names);
    }
}
