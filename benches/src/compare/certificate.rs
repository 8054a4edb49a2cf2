//! The certificate for all compared proxies: ECDSA P-256, generated for each benchmark.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

/// The host in requests. rproxy sends `Strict-Transport-Security` for public names, and not for `localhost`.
pub(crate) const HOST: &str = "compare.example";
/// The host in the URLs of load generators, which resolve it. The certificate contains both.
pub(crate) const LOOPBACK: &str = "localhost";

#[derive(Debug)]
pub(crate) struct Certificate {
    der: CertificateDer<'static>,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// The certificate and private key in one file, for HAProxy.
    pub(crate) both: PathBuf,
}

impl Certificate {
    pub(crate) fn write_into(folder: &Path) -> Result<Self> {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed([HOST.to_owned(), LOOPBACK.to_owned()])?;
        let path = |name| folder.join(name);
        let this = Self {
            der: cert.der().clone(),
            certificate: path("certificate.pem"),
            key: path("key.pem"),
            both: path("both.pem"),
        };
        fs::write(&this.certificate, cert.pem())?;
        fs::write(&this.key, signing_key.serialize_pem())?;
        fs::write(&this.both, cert.pem() + &signing_key.serialize_pem())?;
        Ok(this)
    }

    /// Returns a TLS 1.3 client with X25519 as the only group, so that all proxies have the same TLS cost.
    pub(crate) fn connector(&self, resumption: Resumption) -> Result<TlsConnector> {
        self.connector_for(b"http/1.1", resumption)
    }

    /// Returns a TLS client like [`connector`](Self::connector), except that it negotiates `protocol` by ALPN.
    pub(crate) fn connector_for(&self, protocol: &[u8], resumption: Resumption) -> Result<TlsConnector> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone())?;
        let kx_groups = vec![aws_lc_rs::kx_group::X25519];
        let provider = CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() };
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = resumption;
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(TlsConnector::from(Arc::new(config)))
    }
}
