use rustls_pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, parse_x509_certificate};

use crate::PemError;

/// The maximum number of certificates in a chain, so that a file with all public roots is rejected.
const MAX_LENGTH: usize = 32;

/// A certificate chain in the order of a handshake: each certificate before its issuer (RFC 8446 §4.4.2).
#[derive(Debug)]
pub(crate) struct OrderedChain {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) is_reordered: bool,
}

/// Orders certificates as a chain that starts with the certificate of the private key.
///
/// Two common mistakes in files are corrected: the root comes first, or there are unrelated certificates. A chain
/// without the issuer of the leaf is rejected, because many clients would reject it.
pub(crate) fn order_chain(
    certificates: Vec<CertificateDer<'static>>,
    matches_key: impl Fn(&CertificateDer<'static>) -> bool,
) -> Result<OrderedChain, PemError> {
    if certificates.is_empty() {
        return Err(PemError::NoCertificate);
    }
    if certificates.len() > MAX_LENGTH {
        return Err(PemError::Certificate {
            position: MAX_LENGTH + 1,
            reason: format!("the certificate chain has more than {MAX_LENGTH} certificates"),
        });
    }
    let parsed = certificates
        .iter()
        .enumerate()
        .map(|(index, der)| match parse_x509_certificate(der) {
            Ok((_, certificate)) => Ok(certificate),
            Err(error) => Err(PemError::Certificate { position: index + 1, reason: error.to_string() }),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let leaf = certificates.iter().position(matches_key).ok_or(PemError::KeyMismatch)?;

    let mut order = vec![leaf];
    let mut last = leaf;
    while !is_self_issued(&parsed[last]) {
        let issuer = (0..parsed.len())
            .filter(|index| !order.contains(index))
            .find(|&index| parsed[index].subject().as_raw() == parsed[last].issuer().as_raw());
        let Some(issuer) = issuer else { break };
        order.push(issuer);
        last = issuer;
    }
    if order.len() == 1 && parsed.len() > 1 && !is_self_issued(&parsed[leaf]) {
        return Err(PemError::Chain {
            subject: parsed[leaf].subject().to_string(),
            issuer: parsed[leaf].issuer().to_string(),
        });
    }

    let is_reordered = !order.iter().copied().eq(0..certificates.len());
    let chain = order.into_iter().map(|index| certificates[index].clone()).collect();
    Ok(OrderedChain { chain, is_reordered })
}

fn is_self_issued(certificate: &X509Certificate<'_>) -> bool {
    certificate.subject().as_raw() == certificate.issuer().as_raw()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_ECDSA_P384_SHA384};

    use super::*;
    use crate::loaded_certificate::LoadedCertificate;

    /// A chain, an unrelated certificate, and the private key of the leaf, each as PEM.
    struct TestChain {
        root: String,
        intermediate: String,
        leaf: String,
        unrelated: String,
        key: String,
    }

    impl TestChain {
        fn new() -> Self {
            let ca = |name: &str| {
                let mut params = CertificateParams::default();
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                params.distinguished_name.push(DnType::CommonName, name);
                params
            };
            let [root_key, intermediate_key, unrelated_key] = std::array::from_fn(|_| KeyPair::generate().unwrap());
            let root = ca("root").self_signed(&root_key).unwrap();
            let root_issuer = Issuer::new(ca("root"), &root_key);
            let intermediate = ca("intermediate").signed_by(&intermediate_key, &root_issuer).unwrap();
            let issuer = Issuer::new(ca("intermediate"), &intermediate_key);
            let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
            let leaf = CertificateParams::new(vec!["a.test".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
            let unrelated = ca("unrelated").self_signed(&unrelated_key).unwrap();
            Self {
                root: root.pem(),
                intermediate: intermediate.pem(),
                leaf: leaf.pem(),
                unrelated: unrelated.pem(),
                key: key.serialize_pem(),
            }
        }
    }

    fn read(parts: &[&String], key: &str) -> Result<Arc<LoadedCertificate>, PemError> {
        let chain: String = parts.iter().map(|part| part.as_str()).collect();
        LoadedCertificate::from_pem(chain.as_bytes(), key.as_bytes()).map(Arc::new)
    }

    #[test]
    fn reorders_a_chain_from_leaf_to_root_and_drops_unrelated_certificates() {
        let chain = TestChain::new();
        let TestChain { root, intermediate, leaf, unrelated, key } = &chain;
        for (given, served, is_reordered) in [
            (vec![leaf], vec![leaf], false),
            (vec![leaf, intermediate], vec![leaf, intermediate], false),
            (vec![leaf, intermediate, root], vec![leaf, intermediate, root], false),
            (vec![root, intermediate, leaf], vec![leaf, intermediate, root], true),
            (vec![intermediate, leaf], vec![leaf, intermediate], true),
            (vec![leaf, root, intermediate], vec![leaf, intermediate, root], true),
            (vec![unrelated, leaf, intermediate, leaf], vec![leaf, intermediate], true),
        ] {
            let certificate = read(&given, key).unwrap();
            let expected = read(&served, key).unwrap();
            assert_eq!(certificate.key.cert, expected.key.cert);
            assert_eq!(certificate.key.cert.len(), served.len());
            assert_eq!(certificate.is_reordered, is_reordered);
        }
    }

    #[test]
    fn error_for_a_chain_without_the_issuer_of_the_leaf_names_the_issuer() {
        let chain = TestChain::new();
        let error = read(&[&chain.leaf, &chain.unrelated], &chain.key).unwrap_err();
        assert!(matches!(error, PemError::Chain { .. }));
        assert!(error.to_string().contains("intermediate"), "{error}");
    }

    #[test]
    fn rejects_a_private_key_that_matches_no_certificate() {
        let chain = TestChain::new();
        let error = read(&[&chain.intermediate, &chain.root], &chain.key).unwrap_err();
        assert!(matches!(error, PemError::KeyMismatch));
    }

    #[test]
    fn rejects_a_file_with_many_root_certificates() {
        let chain = TestChain::new();
        let many = vec![&chain.root; MAX_LENGTH + 1];
        let error = read(&many, &chain.key).unwrap_err();
        assert!(matches!(error, PemError::Certificate { .. }));
    }
}
