//! TLS with backends: whom to trust, which name, which version of HTTP, and who asks.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rproxy_upstream::{Builder, ProxyError, ProxyErrorKind, Upstream};
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use self::support::{Body, get};

/// An authority of the test's own.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn root(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    fn issue(&self, name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        (vec![certificate.der().clone()], key.into())
    }
}

/// What a backend is like.
struct Server<'a> {
    authority: &'a Authority,
    name: &'a str,
    alpn: &'a [&'a str],
    /// Whether clients have to show a certificate of the authority.
    asks: bool,
}

/// Answers with the version of HTTP and the SNI; counts connections.
async fn serve(server: Server<'_>) -> (SocketAddr, Arc<AtomicUsize>) {
    let (chain, key) = server.authority.issue(server.name);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let config = match server.asks {
        false => config.unwrap().with_no_client_auth(),
        true => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(server.authority.root()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
            config.unwrap().with_client_cert_verifier(verifier)
        }
    };
    let mut config = config.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = server.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let name = stream.get_ref().1.server_name().unwrap_or("nobody").to_owned();
                let answer = service_fn(move |request: Request<Incoming>| {
                    let body = format!("{:?} {name}", request.version());
                    let mut response = Response::new(Full::<Bytes>::from(body));
                    if *request.method() == Method::CONNECT {
                        *response.status_mut() = StatusCode::FORBIDDEN;
                    }
                    async move { Ok::<_, Infallible>(response) }
                });
                let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                builder.http2().enable_connect_protocol();
                let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), answer).await;
            });
        }
    });
    (address, connections)
}

fn to(address: SocketAddr) -> Builder {
    Upstream::builder().backend(&format!("https://{address}")).unwrap()
}

async fn asked(upstream: &Upstream<Body>) -> Result<String, ProxyErrorKind> {
    let response = upstream.clone().oneshot(get("/")).await.unwrap();
    if let Some(error) = response.extensions().get::<ProxyError>() {
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
        return Err(error.kind());
    }
    Ok(String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
}

#[tokio::test]
async fn only_who_is_vouched_for_by_name_is_spoken_to() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = Server { authority: &authority, name: "app.internal", alpn: &["http/1.1"], asks: false };
    let (address, _) = serve(server).await;
    let trusting = |authority: &Authority, name: &str| {
        to(address).root_certificates([authority.root()]).server_name(name).unwrap().build().unwrap()
    };
    assert_eq!(asked(&trusting(&authority, "app.internal")).await.unwrap(), "HTTP/1.1 app.internal");
    for (upstream, why) in [
        (trusting(&authority, "other.internal"), "another name"),
        (trusting(&stranger, "app.internal"), "another authority"),
        (to(address).root_certificates([authority.root()]).build().unwrap(), "the address is not in the certificate"),
        (to(address).server_name("app.internal").unwrap().build().unwrap(), "the system does not know it"),
    ] {
        assert_eq!(asked(&upstream).await, Err(ProxyErrorKind::TlsCertificateError), "{why}");
    }
}

#[tokio::test]
async fn a_backend_that_asks_for_a_certificate_is_shown_one() {
    let authority = Authority::new();
    let server = Server { authority: &authority, name: "127.0.0.1", alpn: &[], asks: true };
    let (address, _) = serve(server).await;
    let builder = to(address).root_certificates([authority.root()]);
    let (chain, key) = authority.issue("rproxy");
    let known = builder.clone().client_certificate(chain, key).build().unwrap();
    assert_eq!(asked(&known).await.unwrap(), "HTTP/1.1 nobody");
    assert!(asked(&builder.build().unwrap()).await.is_err());
}

#[tokio::test]
async fn a_key_that_is_not_the_certificates_is_refused_when_it_is_built() {
    let authority = Authority::new();
    let ((chain, _), (_, key)) = (authority.issue("a"), authority.issue("a"));
    let builder = to(([127, 0, 0, 1], 1).into()).client_certificate(chain, key);
    let error = builder.build_backends().unwrap_err();
    assert_eq!(error.to_string(), "bad client certificate for upstream TLS");
    assert!(std::error::Error::source(&error).is_some(), "the cause is the source");
}

#[tokio::test]
async fn http2_is_spoken_where_the_backend_prefers_it_on_one_connection() {
    let authority = Authority::new();
    for (alpn, answer, most) in [
        (&["h2", "http/1.1"][..], "HTTP/2.0 nobody", 1),
        (&["http/1.1", "h2"], "HTTP/1.1 nobody", 4),
        (&[], "HTTP/1.1 nobody", 4),
    ] {
        let server = Server { authority: &authority, name: "127.0.0.1", alpn, asks: false };
        let (address, connections) = serve(server).await;
        let upstream: Upstream<Body> = to(address).root_certificates([authority.root()]).build().unwrap();
        assert_eq!(asked(&upstream).await.unwrap(), answer, "{alpn:?}");
        let (a, b, c, d) = tokio::join!(asked(&upstream), asked(&upstream), asked(&upstream), asked(&upstream));
        for answered in [a, b, c, d] {
            assert_eq!(answered.unwrap(), answer, "{alpn:?}");
        }
        assert!((1..=most).contains(&connections.load(Ordering::SeqCst)), "{alpn:?}");
    }
}

#[tokio::test]
async fn an_upgrade_is_asked_for_over_http1_unless_the_backend_has_only_http2() {
    for (alpn, answer) in [(&["h2", "http/1.1"][..], "HTTP/1.1 nobody"), (&["h2"], "HTTP/2.0 nobody")] {
        let authority = Authority::new();
        let server = Server { authority: &authority, name: "127.0.0.1", alpn, asks: false };
        let (address, _) = serve(server).await;
        let upstream: Upstream<Body> = to(address).root_certificates([authority.root()]).build().unwrap();
        let mut request = get("/");
        request.extensions_mut().insert(hyper::ext::Protocol::from_static("websocket"));
        let response = upstream.oneshot(request).await.unwrap();
        // The version is of the other hop (RFC 9110 §2.5).
        assert_eq!(response.version(), Version::HTTP_11);
        // The backend does not switch, which is its answer.
        let body: Bytes = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, answer);
    }
}
