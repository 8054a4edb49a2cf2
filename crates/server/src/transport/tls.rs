//! The TLS handshake of a connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rproxy_core::{ClientCertificate, TlsInfo};
use rproxy_tls::Identity;
use rustls::pki_types::CertificateDer;
use thiserror::Error;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::client_socket::ClientSocket;
use super::handshake_limit::HandshakeLimit;
use super::tls_parameters::tls_parameters;

/// A TLS session for HTTP.
pub(crate) struct Session<T> {
    /// Boxed, because a TLS session is large and moved several times.
    pub(crate) stream: Box<TlsStream<T>>,
    pub(crate) info: Box<TlsInfo>,
    pub(crate) is_http2: bool,
}

/// The error of a TLS handshake.
#[derive(Debug, Error)]
pub(crate) enum HandshakeError {
    #[error("too many TLS handshakes in progress, closing the connection with the oldest one")]
    Evicted,
    #[error("TLS handshake failed: {0}")]
    Failed(io::Error),
    #[error("TLS handshake timed out")]
    TimedOut,
}

/// Performs the TLS handshake. Returns `None` for the validation connection of a certificate authority, which carries no
/// HTTP.
pub(crate) async fn accept<T: ClientSocket>(
    socket: T,
    acceptor: TlsAcceptor,
    handshakes: &Arc<HandshakeLimit>,
    handshake_timeout: Duration,
) -> Result<Option<Session<T>>, HandshakeError> {
    let mut handshake = handshakes.begin();
    let accepted = tokio::select! {
        biased;
        accepted = timeout(handshake_timeout, acceptor.accept(socket)) => accepted,
        () = handshake.evicted() => return Err(HandshakeError::Evicted),
    };
    drop(handshake);
    let stream = Box::new(accepted.map_err(|_| HandshakeError::TimedOut)?.map_err(HandshakeError::Failed)?);
    let (_, session) = stream.get_ref();
    if rproxy_tls::is_challenge(session.alpn_protocol()) {
        // RFC 8737 §3: the handshake completes the validation, and no HTTP follows.
        return Ok(None);
    }
    let is_http2 = session.alpn_protocol() == Some(b"h2");
    let mut info = Box::<TlsInfo>::default();
    info.server_name = session.server_name().map(|name| name.to_ascii_lowercase().into());
    info.parameters = tls_parameters(session);
    info.client_certificate = session.peer_certificates().and_then(client_certificate);
    Ok(Some(Session { stream, info, is_http2 }))
}

/// Returns the certificate of the client, or `None` if it sent an empty chain.
fn client_certificate(chain: &[CertificateDer<'_>]) -> Option<ClientCertificate> {
    let certificate = ClientCertificate::new(chain)?;
    Some(match chain.first().and_then(Identity::from_certificate) {
        Some(identity) => certificate.with_identity(&identity.subject, &identity.fingerprint),
        None => certificate,
    })
}
