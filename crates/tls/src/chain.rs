use rustls_pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, parse_x509_certificate};

use crate::PemError;

/// The longest chain worth a thought; a bundle of all public roots is not a chain.
const LONGEST: usize = 32;

/// A chain in the order that a handshake wants it: the leaf, then each one's issuer (RFC 8446 §4.4.2).
#[derive(Debug)]
pub(crate) struct Ordered {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) mended: bool,
}

/// Puts certificates in order, starting at the one that the key fits.
///
/// Two mistakes are common when files are put together by hand: root first, and something beside the chain.
/// Both can be mended. A chain whose first link is missing can't, and half the clients would refuse it, so it is refused here.
pub(crate) fn order(
    certificates: Vec<CertificateDer<'static>>,
    fits_key: impl Fn(&CertificateDer<'static>) -> bool,
) -> Result<Ordered, PemError> {
    if certificates.is_empty() {
        return Err(PemError::NoCertificate);
    }
    if certificates.len() > LONGEST {
        return Err(PemError::Certificate {
            position: LONGEST + 1,
            reason: format!("a chain of more than {LONGEST} certificates"),
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
    let leaf = certificates.iter().position(fits_key).ok_or(PemError::KeyMismatch)?;

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

    let mended = !order.iter().copied().eq(0..certificates.len());
    let chain = order.into_iter().map(|index| certificates[index].clone()).collect();
    Ok(Ordered { chain, mended })
}

fn is_self_issued(certificate: &X509Certificate<'_>) -> bool {
    certificate.subject().as_raw() == certificate.issuer().as_raw()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_ECDSA_P384_SHA384};

    use super::*;
    use crate::certified::Certified;

    /// A root, an intermediate, a leaf, an unrelated certificate, and the leaf's key, all PEM.
    struct Family {
        root: String,
        intermediate: String,
        leaf: String,
        stranger: String,
        key: String,
    }

    impl Family {
        fn new() -> Self {
            let ca = |name: &str| {
                let mut params = CertificateParams::default();
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                params.distinguished_name.push(DnType::CommonName, name);
                params
            };
            let [root_key, intermediate_key, stranger_key] = std::array::from_fn(|_| KeyPair::generate().unwrap());
            let root = ca("root").self_signed(&root_key).unwrap();
            let root_issuer = Issuer::new(ca("root"), &root_key);
            let intermediate = ca("intermediate").signed_by(&intermediate_key, &root_issuer).unwrap();
            let issuer = Issuer::new(ca("intermediate"), &intermediate_key);
            let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
            let leaf = CertificateParams::new(vec!["a.test".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
            let stranger = ca("stranger").self_signed(&stranger_key).unwrap();
            Self {
                root: root.pem(),
                intermediate: intermediate.pem(),
                leaf: leaf.pem(),
                stranger: stranger.pem(),
                key: key.serialize_pem(),
            }
        }
    }

    fn read(parts: &[&String], key: &str) -> Result<Arc<Certified>, PemError> {
        let chain: String = parts.iter().map(|part| part.as_str()).collect();
        Certified::from_pem(chain.as_bytes(), key.as_bytes()).map(Arc::new)
    }

    #[test]
    fn a_chain_in_any_order_is_served_from_leaf_to_root() {
        let family = Family::new();
        let Family { root, intermediate, leaf, stranger, key } = &family;
        for (given, served, mended) in [
            (vec![leaf], vec![leaf], false),
            (vec![leaf, intermediate], vec![leaf, intermediate], false),
            (vec![leaf, intermediate, root], vec![leaf, intermediate, root], false),
            (vec![root, intermediate, leaf], vec![leaf, intermediate, root], true),
            (vec![intermediate, leaf], vec![leaf, intermediate], true),
            (vec![leaf, root, intermediate], vec![leaf, intermediate, root], true),
            (vec![stranger, leaf, intermediate, leaf], vec![leaf, intermediate], true),
        ] {
            let certified = read(&given, key).unwrap();
            let expected = read(&served, key).unwrap();
            assert_eq!(certified.key.cert, expected.key.cert);
            assert_eq!(certified.key.cert.len(), served.len());
            assert_eq!(certified.mended, mended);
        }
    }

    #[test]
    fn a_chain_without_its_first_link_is_refused_with_the_missing_issuer() {
        let family = Family::new();
        let error = read(&[&family.leaf, &family.stranger], &family.key).unwrap_err();
        assert!(matches!(error, PemError::Chain { .. }));
        assert!(error.to_string().contains("intermediate"), "{error}");
    }

    #[test]
    fn a_key_that_fits_no_certificate_is_refused() {
        let family = Family::new();
        let error = read(&[&family.intermediate, &family.root], &family.key).unwrap_err();
        assert!(matches!(error, PemError::KeyMismatch));
    }

    #[test]
    fn a_bundle_of_roots_is_not_a_chain() {
        let family = Family::new();
        let many = vec![&family.root; LONGEST + 1];
        let error = read(&many, &family.key).unwrap_err();
        assert!(matches!(error, PemError::Certificate { .. }));
    }
}
