use std::sync::Arc;

use rustls::{
    ServerConfig,
    crypto::{
        CryptoProvider,
        aws_lc_rs::{self, Ticketer},
    },
    server::ServerSessionMemoryCache,
};

use crate::{Error, shelf::Shelf};

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

/// One configuration for clients and for challenges. TLS 1.3 and 1.2 with AEAD suites and forward secrecy only;
/// X25519MLKEM768 first.
pub(crate) fn server_config(shelf: Arc<Shelf>, challenges: bool) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(shelf);
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
