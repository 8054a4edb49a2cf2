use std::{path::PathBuf, sync::Arc};

use rustls::{
    ServerConfig,
    crypto::{
        CryptoProvider,
        aws_lc_rs::{self, Ticketer},
    },
    server::ServerSessionMemoryCache,
};

use crate::{CipherSuites, ClientAuth, Error, TlsVersion, key_log::KeyLogFile, shelf::Shelf};

/// The protocol by which an authority asks for a TLS-ALPN-01 challenge (RFC 8737 §6.2).
const ACME_TLS: &[u8] = b"acme-tls/1";

/// Whether the handshake that negotiated this protocol was an authority's validation (RFC 8737). It has got all it
/// came for: the connection is to be closed, no request follows.
///
/// ```
/// assert!(rproxy_tls::is_challenge(Some(b"acme-tls/1")));
/// assert!(!rproxy_tls::is_challenge(Some(b"h2")));
/// assert!(!rproxy_tls::is_challenge(None));
/// ```
pub fn is_challenge(alpn: Option<&[u8]>) -> bool {
    alpn == Some(ACME_TLS)
}

/// How TLS is spoken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Protocol {
    pub(crate) min_version: TlsVersion,
    pub(crate) suites: CipherSuites,
    pub(crate) client_auth: Option<ClientAuth>,
    pub(crate) key_log: Option<PathBuf>,
}

/// One configuration for clients and for challenges. TLS 1.3 and 1.2 with AEAD suites and forward secrecy only;
/// X25519MLKEM768 first.
pub(crate) fn server_config(shelf: Arc<Shelf>, challenges: bool, protocol: Protocol) -> Result<ServerConfig, Error> {
    let Protocol { min_version, suites, client_auth, key_log } = protocol;
    if !suites.serve(min_version) {
        return Err(Error::NoSuite { suites: suites.to_string(), version: min_version });
    }
    let provider = CryptoProvider { cipher_suites: suites.suites.clone(), ..aws_lc_rs::default_provider() };
    let served = |version: &&&'static _| suites.suites.iter().any(|suite| suite.version() == **version);
    let versions: Vec<_> = min_version.and_newer().iter().filter(served).copied().collect();
    let builder = ServerConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(&versions)?;
    let builder = match client_auth {
        None => builder.with_no_client_auth(),
        Some(auth) => builder.with_client_cert_verifier(auth.verifier()?),
    };
    let mut config = builder.with_cert_resolver(shelf);
    config.ignore_client_order = suites.is_ordered;
    if let Some(path) = key_log {
        let file = KeyLogFile::open(&path).map_err(|source| Error::KeyLog { path, source })?;
        config.key_log = Arc::new(file);
    }
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if challenges {
        // Last, and so chosen only when the client offers nothing else.
        config.alpn_protocols.push(ACME_TLS.to_vec());
    }
    // All workers have the same keys, so a client may come back to any of them. They rotate every six hours.
    config.ticketer = Ticketer::new()?;
    // For TLS 1.2 clients without tickets.
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
    Ok(config)
}

/// Named everywhere, because rustls has no default when two providers are linked, and the ACME client links another.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// A number nobody can foresee. Without a random source no handshake would work either; the middle will do then.
pub(crate) fn random() -> u32 {
    let mut bytes = [0; 4];
    match aws_lc_rs::default_provider().secure_random.fill(&mut bytes) {
        Ok(()) => u32::from_ne_bytes(bytes),
        Err(_) => u32::MAX / 2,
    }
}

/// A few hundred bytes each.
const SESSIONS: usize = 4096;
