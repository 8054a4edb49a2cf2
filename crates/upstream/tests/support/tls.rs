//! Test backends with TLS, and certificates for these backends.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, Issuer, KeyPair};
use rproxy_upstream::{Builder, ProxyError, ProxyErrorKind, Upstream};
use rustls::server::WebPkiClientVerifier;
use rustls::{ALL_VERSIONS, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::support::{Body, get};

/// A certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn root(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    pub(crate) fn issue(&self, name: &str) -> Pair {
        Pair::issued(name, &self.0)
    }
}

/// An end-entity certificate and its key.
pub(crate) struct Pair {
    pub(crate) certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
}

impl Pair {
    fn new(certificate: &rcgen::Certificate, key: &KeyPair) -> Self {
        Self { certificate: certificate.der().clone(), key: PrivatePkcs8KeyDer::from(key.serialize_der()) }
    }

    pub(crate) fn issued(name: &str, issuer: &Issuer<'_, KeyPair>) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, issuer).unwrap();
        Self::new(&certificate, &key)
    }

    pub(crate) fn self_signed(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        Self::self_signed_with(&KeyPair::generate().unwrap(), name, change)
    }

    pub(crate) fn self_signed_with(key: &KeyPair, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        Self::new(&params.self_signed(key).unwrap(), key)
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key().into()
    }
}

/// The TLS configuration of a test backend.
pub(crate) struct Server<'a> {
    pub(crate) pair: &'a Pair,
    pub(crate) alpn: &'a [&'a str],
    pub(crate) versions: &'a [&'static SupportedProtocolVersion],
    /// The certificate authority that must have issued the client certificate; `None` requires none.
    pub(crate) client_authority: Option<&'a Authority>,
}

impl<'a> Server<'a> {
    pub(crate) fn new(pair: &'a Pair) -> Self {
        Self { pair, alpn: &["http/1.1"], versions: ALL_VERSIONS, client_authority: None }
    }
}

/// The counters of a test backend.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) connections: AtomicUsize,
    /// The number of completed handshakes that resumed a TLS session.
    pub(crate) resumed: AtomicUsize,
    pub(crate) requests: AtomicUsize,
}

/// Starts a backend that responds with the HTTP version and the server name (SNI).
pub(crate) async fn serve(server: Server<'_>) -> (SocketAddr, Arc<Counters>) {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(server.versions);
    let config = match server.client_authority {
        None => config.unwrap().with_no_client_auth(),
        Some(authority) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(authority.root()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
            config.unwrap().with_client_cert_verifier(verifier)
        }
    };
    let mut config = config.with_single_cert(vec![server.pair.certificate.clone()], server.pair.key()).unwrap();
    config.alpn_protocols = server.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let counters = Arc::<Counters>::default();
    let counted = Arc::clone(&counters);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.connections.fetch_add(1, Ordering::SeqCst);
            let (acceptor, counted) = (acceptor.clone(), Arc::clone(&counted));
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let connection = stream.get_ref().1;
                if connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed) {
                    counted.resumed.fetch_add(1, Ordering::SeqCst);
                }
                let name = connection.server_name().unwrap_or("nobody").to_owned();
                let answer = service_fn(move |request: Request<Incoming>| {
                    counted.requests.fetch_add(1, Ordering::SeqCst);
                    let body = format!("{:?} {name}", request.version());
                    let mut response = Response::new(Full::<Bytes>::from(body));
                    if *request.method() == Method::CONNECT {
                        *response.status_mut() = StatusCode::FORBIDDEN;
                    }
                    if request.uri().path() == "/close" {
                        response.headers_mut().insert("connection", "close".parse().unwrap());
                    }
                    async move { Ok::<_, Infallible>(response) }
                });
                let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                builder.http2().enable_connect_protocol();
                let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), answer).await;
            });
        }
    });
    (address, counters)
}

pub(crate) fn to(address: SocketAddr) -> Builder {
    Upstream::builder().backend(&format!("https://{address}")).unwrap()
}

/// Sends `GET target`, and returns the body of the response or the kind of the proxy error.
pub(crate) async fn ask(upstream: &Upstream<Body>, target: &str) -> Result<String, ProxyErrorKind> {
    let response = upstream.clone().oneshot(get(target)).await.unwrap();
    if let Some(error) = response.extensions().get::<ProxyError>() {
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
        return Err(error.kind());
    }
    Ok(String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
}
