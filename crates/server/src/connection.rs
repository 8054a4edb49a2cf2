//! One accepted connection: PROXY protocol, TLS handshake, then HTTP/2 or HTTP/1.1, by ALPN or by the client's preface.

use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use http::uri::Scheme;
use http::{Request, Response};
use http_body::Body;
use hyper::server::conn::http1;
use rproxy_client_ip::{PeerAddr, TrustedProxies};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
#[cfg(feature = "tls")]
use tokio_rustls::TlsAcceptor;
use tower_service::Service;

#[cfg(feature = "tls")]
use crate::ClientCertificate;
use crate::clients::TooMany;
use crate::drain::OpenConnection;
#[cfg(feature = "tls")]
use crate::handshakes::Handshakes;
use crate::http1::{HeadLimits, PriorKnowledge};
use crate::limits::{Limits, http1_buffer};
use crate::server::Server;
use crate::service::ConnectionService;
use crate::socket::ClientSocket;
use crate::{HalfClose, ProxyVersions, RequestBody, TlsInfo, http2, proxy_protocol};

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// What all connections of a worker share.
pub(crate) struct Settings {
    pub(crate) limits: Limits,
    pub(crate) head_limits: HeadLimits,
    pub(crate) half_close: HalfClose,
    pub(crate) http1: http1::Builder,
    /// Whether clients may speak HTTP/2 without TLS.
    pub(crate) h2c: bool,
    #[cfg(feature = "tls")]
    tls: Option<TlsAcceptor>,
    #[cfg(feature = "tls")]
    handshakes: Arc<Handshakes>,
    proxy_protocol: Option<(TrustedProxies, ProxyVersions)>,
    proxies: TrustedProxies,
}

impl Settings {
    /// Whether the peer is a proxy with many clients: one that is trusted, or one behind a Unix socket, which has no port.
    pub(crate) fn is_proxy(&self, peer: PeerAddr) -> bool {
        peer.0.port() == 0 || self.proxies.contains(peer.0.ip())
    }

    pub(crate) fn new(server: &Server) -> Self {
        let limits = server.limits.clone();
        let mut http1 = http1::Builder::new();
        http1.max_headers(limits.fields).max_buf_size(http1_buffer(&limits));
        Self {
            head_limits: HeadLimits { size: limits.head_size, target: limits.target_size, fields: limits.fields },
            limits,
            half_close: server.half_close,
            http1,
            h2c: server.h2c,
            #[cfg(feature = "tls")]
            tls: server.tls.as_ref().map(|certificates| TlsAcceptor::from(certificates.server_config())),
            #[cfg(feature = "tls")]
            handshakes: Handshakes::new(server.limits.handshakes.div_ceil(server.workers)),
            proxy_protocol: server.proxy_protocol.clone(),
            proxies: server.uncounted.clone(),
        }
    }
}

/// A connection that was accepted, with all that serving it takes.
pub(crate) struct Connection<S> {
    pub(crate) peer: PeerAddr,
    pub(crate) service: S,
    pub(crate) settings: Arc<Settings>,
    pub(crate) draining: watch::Receiver<bool>,
    /// Counts it until it ends.
    pub(crate) open: OpenConnection,
}

impl<S, B> Connection<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    /// Serves a TCP connection, which may begin with a PROXY protocol header.
    pub(crate) fn serve_tcp(mut self, mut stream: TcpStream) {
        let settings = Arc::clone(&self.settings);
        let Some((_, versions)) = settings.proxy_protocol.as_ref().filter(|(trusted, _)| {
            // Others are served as they are.
            trusted.contains(self.peer.0.ip())
        }) else {
            return self.serve_counted(stream);
        };
        let versions = *versions;
        tokio::spawn(async move {
            let peer = self.peer.0;
            let header = proxy_protocol::read(&mut stream, versions);
            match timeout(self.settings.limits.handshake_timeout, header).await {
                Ok(Ok(Some(source))) => {
                    self.peer = PeerAddr(source);
                    self.serve_counted(stream);
                }
                // The balancer speaks for itself.
                Ok(Ok(None)) => self.serve(stream),
                Ok(Err(error)) => tracing::debug!(%peer, %error, "bad PROXY protocol header"),
                Err(_) => tracing::debug!(%peer, "no PROXY protocol header in time"),
            }
        });
    }

    /// Serves a connection of a client that may have so many only.
    fn serve_counted(mut self, stream: TcpStream) {
        match self.open.enter(self.peer.0.ip()) {
            Ok(()) => self.serve(stream),
            Err(TooMany) => tracing::debug!(peer = %self.peer.0, "too many connections of one client"),
        }
    }

    /// Serves a connection of any kind.
    pub(crate) fn serve<T>(self, socket: T)
    where
        T: ClientSocket + Send + 'static,
    {
        #[cfg(feature = "tls")]
        if let Some(acceptor) = self.settings.tls.clone() {
            return self.serve_tls(socket, acceptor);
        }
        self.serve_http1(socket, Scheme::HTTP, None);
    }

    #[cfg(feature = "tls")]
    fn serve_tls<T>(self, socket: T, acceptor: TlsAcceptor)
    where
        T: ClientSocket + Send + 'static,
    {
        // The handshake is this connection's own task: a slow one holds up nobody else.
        tokio::spawn(async move {
            let peer = self.peer.0;
            let mut handshake = self.settings.handshakes.begin();
            let accepted = tokio::select! {
                biased;
                accepted = timeout(self.settings.limits.handshake_timeout, acceptor.accept(socket)) => accepted,
                () = handshake.given_up() => return tracing::debug!(%peer, "TLS handshake given up for others"),
            };
            drop(handshake);
            let stream = match accepted {
                // Boxed: a TLS session is large, and moved more than once.
                Ok(Ok(stream)) => Box::new(stream),
                Ok(Err(error)) => return tracing::debug!(%peer, %error, "TLS handshake failed"),
                Err(_) => return tracing::debug!(%peer, "TLS handshake too slow"),
            };
            let (_, session) = stream.get_ref();
            if rproxy_tls::is_challenge(session.alpn_protocol()) {
                // The handshake was the answer (RFC 8737 §3); there is no HTTP on this connection.
                return;
            }
            let is_http2 = session.alpn_protocol() == Some(b"h2");
            let server_name = session.server_name().map(|name| name.to_ascii_lowercase().into());
            let client_certificate = session.peer_certificates().and_then(ClientCertificate::new);
            let tls = Some(TlsInfo { server_name, client_certificate });
            match is_http2 {
                true => self.serve_http2(stream, tls),
                false => self.serve_http1(stream, Scheme::HTTPS, tls),
            }
        });
    }

    // A task keeps the size of the largest that it ever was, so what serves requests is not the one of the handshake.

    fn serve_http1<T>(self, socket: T, scheme: Scheme, tls: Option<TlsInfo>)
    where
        T: ClientSocket + Send + 'static,
    {
        let Self { peer, service, settings, draining, open } = self;
        let service =
            ConnectionService { inner: service, peer, scheme, tls, watch: Arc::default(), kept: Arc::default() };
        tokio::spawn(async move {
            match crate::http1::serve(socket, service, &settings, draining).await {
                Ok(None) => {}
                Ok(Some(PriorKnowledge { socket, first, service, draining })) => {
                    spawn_http2(socket, first, service, settings, draining, open);
                }
                Err((peer, error)) => log(peer, &*error),
            }
        });
    }

    #[cfg(feature = "tls")]
    fn serve_http2<T>(self, socket: T, tls: Option<TlsInfo>)
    where
        T: ClientSocket + Send + 'static,
    {
        let Self { peer, service, settings, draining, open } = self;
        let scheme = Scheme::HTTPS;
        let service =
            ConnectionService { inner: service, peer, scheme, tls, watch: Arc::default(), kept: Arc::default() };
        spawn_http2(socket, Bytes::new(), service, settings, draining, open);
    }
}

fn spawn_http2<T, S, B>(
    socket: T,
    first: Bytes,
    service: ConnectionService<S>,
    settings: Arc<Settings>,
    draining: watch::Receiver<bool>,
    open: OpenConnection,
) where
    T: ClientSocket + Send + 'static,
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let peer = service.peer;
    tokio::spawn(async move {
        let _open = open;
        if let Err(error) = http2::serve(socket, first, service, &settings, draining).await {
            log(peer, &error);
        }
    });
}

/// A connection that ended badly is the peer's business more often than ours.
fn log(peer: PeerAddr, error: &(dyn Error + 'static)) {
    let source = error.source().map(tracing::field::display);
    tracing::debug!(peer = %peer.0, %error, source, "connection ended");
}
