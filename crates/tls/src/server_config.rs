use std::{path::PathBuf, sync::Arc};

use rustls::{
    ServerConfig,
    crypto::{
        CryptoProvider,
        aws_lc_rs::{self, Ticketer},
    },
    server::ServerSessionMemoryCache,
};

use crate::{CipherSuites, ClientAuth, Error, TlsVersion, key_log::KeyLogFile, resolver::CertificateResolver};

/// The ALPN protocol identifier of a TLS-ALPN-01 challenge (RFC 8737 §6.2).
const ACME_TLS: &[u8] = b"acme-tls/1";

/// Returns whether a handshake with this ALPN protocol was an ACME validation (TLS-ALPN-01, RFC 8737).
///
/// The handshake itself completes the validation. The server should close the connection, as no request follows.
///
/// # Examples
///
/// ```
/// assert!(rproxy_tls::is_challenge(Some(b"acme-tls/1")));
/// assert!(!rproxy_tls::is_challenge(Some(b"h2")));
/// assert!(!rproxy_tls::is_challenge(None));
/// ```
pub fn is_challenge(alpn: Option<&[u8]>) -> bool {
    alpn == Some(ACME_TLS)
}

/// The TLS settings of a server other than its certificates.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsOptions {
    pub(crate) min_version: TlsVersion,
    pub(crate) suites: CipherSuites,
    pub(crate) client_auth: Option<ClientAuth>,
    pub(crate) key_log: Option<PathBuf>,
}

/// Builds the rustls configuration for clients and, if `challenges` is true, for ACME validations.
pub(crate) fn server_config(
    resolver: Arc<CertificateResolver>,
    challenges: bool,
    options: TlsOptions,
) -> Result<ServerConfig, Error> {
    let TlsOptions { min_version, suites, client_auth, key_log } = options;
    if !suites.supports(min_version) {
        return Err(Error::NoUsableCipherSuite { suites: suites.to_string(), version: min_version });
    }
    let provider = CryptoProvider { cipher_suites: suites.suites.clone(), ..aws_lc_rs::default_provider() };
    let has_suite = |version: &&&'static _| suites.suites.iter().any(|suite| suite.version() == **version);
    let versions: Vec<_> = min_version.and_newer().iter().filter(has_suite).copied().collect();
    let builder = ServerConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(&versions)?;
    let builder = match client_auth {
        None => builder.with_no_client_auth(),
        Some(auth) => builder.with_client_cert_verifier(auth.verifier()?),
    };
    let mut config = builder.with_cert_resolver(resolver);
    config.ignore_client_order = suites.is_ordered;
    if let Some(path) = key_log {
        let file = KeyLogFile::open(&path).map_err(|source| Error::KeyLog { path, source })?;
        config.key_log = Arc::new(file);
    }
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if challenges {
        // Last, so that it is chosen only if the client offers nothing else.
        config.alpn_protocols.push(ACME_TLS.to_vec());
    }
    // All workers share the keys, so a client can resume with any of them. The keys rotate every six hours.
    config.ticketer = Ticketer::new()?;
    // For TLS 1.2 clients without ticket support.
    config.session_storage = ServerSessionMemoryCache::new(MAX_SESSIONS);
    Ok(config)
}

/// The maximum number of stored TLS sessions, each of a few hundred bytes.
const MAX_SESSIONS: usize = 4096;
