//! A server for tests that use the HTTP/2 client of `frames.rs`.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Request, Response};
use http_body::Body;
use rproxy_server::{Limits, RequestBody, RunningServer, Worker};
use rproxy_tls::{Certificates, LocalCa};
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tower::Service;

#[path = "frames.rs"]
mod frames;
pub(crate) use frames::*;

/// The timeout of all waits in tests, which a passing test never reaches.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A test server on a loopback address.
pub(crate) struct Server {
    running: RunningServer,
    /// The TLS configuration of the server's clients, or `None` if the server has no TLS.
    client: Option<Arc<ClientConfig>>,
    _folder: tempfile::TempDir,
}

impl Server {
    /// Starts a test server with TLS.
    pub(crate) fn start<M, S, B>(limits: impl FnOnce(&mut Limits), make_service: M) -> Self
    where
        M: Fn(Worker) -> S + Clone + Send + 'static,
        S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        S::Future: Send,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let folder = tempfile::tempdir().unwrap();
        let certificates = Certificates::builder().local(LocalCa::new(folder.path())).build().unwrap();
        let client = client(&certificates.local_ca_pem_path().unwrap());
        let mut all = Limits::default();
        limits(&mut all);
        let server = rproxy_server::Server::bind("127.0.0.1:0".parse().unwrap()).workers(1);
        let running = server.tls(certificates).limits(all).start(make_service).unwrap();
        Self { running, client: Some(client), _folder: folder }
    }

    /// Starts a test server without TLS.
    pub(crate) fn start_plaintext<M, S, B>(
        configure: impl FnOnce(rproxy_server::Server) -> rproxy_server::Server,
        make_service: M,
    ) -> Self
    where
        M: Fn(Worker) -> S + Clone + Send + 'static,
        S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        S::Future: Send,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let server = configure(rproxy_server::Server::bind("127.0.0.1:0".parse().unwrap()).workers(1));
        Self { running: server.start(make_service).unwrap(), client: None, _folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.running.local_addr().unwrap()
    }

    /// Connects without starting the HTTP/2 handshake.
    pub(crate) fn connect(&self) -> Client {
        match &self.client {
            Some(config) => Client::connect(self.address(), config),
            None => Client::connect_plaintext(self.address()),
        }
    }

    /// Connects with TLS, and negotiates HTTP/1.1.
    pub(crate) fn http1(&self) -> rustls::StreamOwned<rustls::ClientConnection, std::net::TcpStream> {
        let mut config = (**self.client.as_ref().expect("a server with TLS")).clone();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let session = rustls::ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        let socket = std::net::TcpStream::connect(self.address()).unwrap();
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        rustls::StreamOwned::new(session, socket)
    }

    /// Connects, and performs the HTTP/2 handshake with these client settings.
    pub(crate) fn client(&self, with: &[(u16, u32)]) -> Client {
        self.connect().handshake(with)
    }

    /// Waits until all connections are closed, and returns the number of connections open at the timeout.
    pub(crate) fn connections(&self) -> usize {
        // The client notices the end before the server updates its count.
        let deadline = Instant::now() + TIMEOUT;
        while self.running.handle().connections() > 0 && Instant::now() < deadline {
            std::thread::yield_now();
        }
        self.running.handle().connections()
    }

    pub(crate) fn drain(&self) {
        self.running.handle().drain();
    }
}

/// Returns the TLS configuration of an HTTP/2 client that trusts the CA in this file.
pub(crate) fn client(ca: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(PemObject::from_pem_file(ca).unwrap()).unwrap();
    config(roots)
}
