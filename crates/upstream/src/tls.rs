//! TLS with backends: whom to trust, and who this side is.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use crate::builder::BuildError;

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsOptions {
    /// Those of the system when empty.
    pub(crate) roots: Vec<CertificateDer<'static>>,
    /// The backend's own host when `None`.
    pub(crate) server_name: Option<ServerName<'static>>,
    pub(crate) identity: Option<Identity>,
}

/// A chain and its key.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: Arc<PrivateKeyDer<'static>>,
}

/// How to shake hands.
#[derive(Clone)]
pub(crate) struct Tls {
    /// HTTP/2 where the backend prefers it.
    pub(crate) any: Arc<ClientConfig>,
    /// For upgrades, which HTTP/2 does not have.
    pub(crate) http1: Arc<ClientConfig>,
    pub(crate) server_name: Option<ServerName<'static>>,
}

impl Tls {
    pub(crate) fn new(options: TlsOptions) -> Result<Self, BuildError> {
        let roots = match options.roots.is_empty() {
            true => system_roots(),
            false => {
                let mut store = RootCertStore::empty();
                for root in options.roots {
                    store.add(root).map_err(BuildError::Root)?;
                }
                store
            }
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(BuildError::Root)?
            .with_root_certificates(roots);
        let mut config = match options.identity {
            None => config.with_no_client_auth(),
            Some(Identity { chain, key }) => {
                config.with_client_auth_cert(chain, key.clone_key()).map_err(BuildError::Identity)?
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let http1 = Arc::new(config.clone());
        config.alpn_protocols.insert(0, b"h2".to_vec());
        Ok(Self { any: Arc::new(config), http1, server_name: options.server_name })
    }
}

/// Those that the system trusts; in an image that has none, those of the web PKI as they were when this was built.
fn system_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!("can't read all of the system's root certificates: {error}");
    }
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        tracing::info!("the system has no root certificates: upstream TLS trusts the web PKI's");
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    store
}
