//! A test certificate authority that issues certificates to the proxy.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

/// The host name in the certificates.
pub(super) const HOST: &str = "localhost";

pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

impl Authority {
    pub(super) fn new(folder: &Path) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let root = params.self_signed(&key)?.der().clone();
        let issuer = Issuer::new(params, key);
        let this = Self { issuer, root, certificate: folder.join("certificate.pem"), key: folder.join("key.pem") };
        this.issue()?;
        Ok(this)
    }

    /// Replaces the certificate of the proxy with a new certificate.
    pub(super) fn issue(&self) -> Result<()> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec![HOST.to_owned()])?.signed_by(&key, &self.issuer)?;
        for (path, text) in [(&self.key, key.serialize_pem()), (&self.certificate, certificate.pem())] {
            let new = path.with_extension("new");
            fs::write(&new, text)?;
            fs::rename(&new, path)?;
        }
        Ok(())
    }

    /// Returns a TLS client that resumes sessions and negotiates only `protocol`.
    pub(super) fn connector(&self, protocol: &[u8]) -> Result<TlsConnector> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone())?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(TlsConnector::from(Arc::new(config)))
    }
}
