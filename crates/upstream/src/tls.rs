//! TLS to backends: certificate verification and the client certificate.

mod pin;
mod verifier;

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

pub use self::pin::{PinError, PublicKeyPin};
use self::verifier::BackendVerifier;
use crate::error::BuildError;

/// The TLS settings of an upstream.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsOptions {
    /// The trusted root certificates, or those of the system if empty.
    pub(crate) roots: Vec<CertificateDer<'static>>,
    pub(crate) pins: Vec<PublicKeyPin>,
    /// The server name for TLS, or the backend's host if `None`.
    pub(crate) server_name: Option<ServerName<'static>>,
    pub(crate) identity: Option<Identity>,
}

impl TlsOptions {
    pub(crate) fn is_default(&self) -> bool {
        self.roots.is_empty() && self.pins.is_empty() && self.server_name.is_none() && self.identity.is_none()
    }
}

/// A certificate chain and its private key.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: Arc<PrivateKeyDer<'static>>,
}

/// The TLS client configurations for connections to backends.
#[derive(Clone)]
pub(crate) struct Tls {
    /// The configuration that offers HTTP/2 and HTTP/1.1 (ALPN).
    pub(crate) any: Arc<ClientConfig>,
    /// The configuration that offers only HTTP/1.1, for upgrades.
    pub(crate) http1: Arc<ClientConfig>,
    pub(crate) server_name: Option<ServerName<'static>>,
}

impl Tls {
    pub(crate) fn new(options: TlsOptions) -> Result<Self, BuildError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let is_pinned = !options.pins.is_empty();
        let verifier = BackendVerifier::new(options.roots, options.pins, Arc::clone(&provider), system_roots)
            .map_err(BuildError::Root)?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(BuildError::Root)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match options.identity {
            None => config.with_no_client_auth(),
            Some(Identity { chain, key }) => {
                config.with_client_auth_cert(chain, key.clone_key()).map_err(BuildError::Identity)?
            }
        };
        if is_pinned {
            // A resumed handshake shows no certificate, and a pin is compared on each connection.
            config.resumption = Resumption::disabled();
        }
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let http1 = Arc::new(config.clone());
        config.alpn_protocols.insert(0, b"h2".to_vec());
        Ok(Self { any: Arc::new(config), http1, server_name: options.server_name })
    }
}

/// Returns the root certificates of the system, or those of the web PKI if the system has none.
fn system_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!("cannot read all of the system's root certificates: {error}");
    }
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        tracing::info!(
            "no root certificates found on this system, using the built-in web PKI root certificates for upstream TLS"
        );
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    store
}
