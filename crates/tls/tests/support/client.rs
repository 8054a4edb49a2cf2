//! A rustls client for tests, configured like a browser.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use std::{io, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, HandshakeKind, NamedGroup, ProtocolVersion, RootCertStore, ServerConfig,
    SignatureScheme, SupportedProtocolVersion,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    version,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The parameters that a client negotiated in a successful TLS handshake.
#[derive(Clone, Debug)]
pub struct Handshake {
    pub version: ProtocolVersion,
    pub alpn: Option<Vec<u8>>,
    pub group: Option<NamedGroup>,
    pub kind: HandshakeKind,
    pub leaf: CertificateDer<'static>,
    pub suite: String,
}

pub fn roots(pems: &[&str]) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for pem in pems {
        for root in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            roots.add(root.unwrap()).unwrap();
        }
    }
    roots
}

pub fn client(
    roots: RootCertStore,
    versions: &[&'static SupportedProtocolVersion],
    alpn: &[&[u8]],
) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}

pub fn modern(roots: RootCertStore) -> Arc<ClientConfig> {
    client(roots, &[&version::TLS13, &version::TLS12], &[b"h2", b"http/1.1"])
}

/// Returns the configuration of a client that accepts any certificate.
pub fn trusting() -> Arc<ClientConfig> {
    let all = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes();
    trusting_with(&[&version::TLS13, &version::TLS12], &all)
}

/// Returns the configuration of a client that accepts any certificate and offers these signature algorithms.
pub fn trusting_with(versions: &[&'static SupportedProtocolVersion], schemes: &[SignatureScheme]) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(NoVerification { schemes: schemes.to_vec() }))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

#[derive(Debug)]
struct NoVerification {
    schemes: Vec<SignatureScheme>,
}

impl ServerCertVerifier for NoVerification {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

/// Performs a handshake in memory, then exchanges a byte in each direction to receive session tickets.
pub async fn handshake(client: &Arc<ClientConfig>, server: Arc<ServerConfig>, name: &str) -> io::Result<Handshake> {
    let (near, far) = tokio::io::duplex(16 * 1024);
    let server = async move {
        let mut stream = TlsAcceptor::from(server).accept(far).await?;
        echo(&mut stream).await
    };
    let (server, handshake) = tokio::join!(server, connect(client, near, name));
    let handshake = handshake?;
    server?;
    Ok(handshake)
}

/// Performs the client's side of a handshake with a server that echoes one byte.
pub async fn connect<S>(client: &Arc<ClientConfig>, socket: S, name: &str) -> io::Result<Handshake>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut stream = TlsConnector::from(client.clone()).connect(name, socket).await?;
    stream.write_all(b"x").await?;
    stream.read_exact(&mut [0]).await?;
    let connection = stream.get_ref().1;
    let handshake = Handshake {
        version: connection.protocol_version().unwrap(),
        alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
        group: connection.negotiated_key_exchange_group().map(|group| group.name()),
        kind: connection.handshake_kind().unwrap(),
        leaf: connection.peer_certificates().unwrap()[0].clone(),
        suite: format!("{:?}", connection.negotiated_cipher_suite().unwrap()),
    };
    // Fails if the server has already closed the connection.
    let _ = stream.shutdown().await;
    Ok(handshake)
}

pub async fn echo<S>(stream: &mut S) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut byte = [0];
    stream.read_exact(&mut byte).await?;
    stream.write_all(&byte).await?;
    stream.flush().await
}
