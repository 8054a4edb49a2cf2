//! Serves an accepted connection: PROXY protocol, TLS handshake, then HTTP/1.1 or HTTP/2 by ALPN or HTTP/2 preface.

use std::error::Error;
use std::sync::Arc;

#[cfg(feature = "tls")]
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use rproxy_client_ip::PeerAddr;
use rproxy_core::TlsInfo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
#[cfg(feature = "tls")]
use tokio_rustls::TlsAcceptor;
use tower_service::Service;

use crate::box_error::BoxError;
use crate::connection_config::ConnectionConfig;
use crate::connection_counts::TooManyConnections;
use crate::drain::OpenConnection;
use crate::listen::proxy_protocol;
use crate::protocol::ConnectionService;
use crate::protocol::RequestBody;
use crate::protocol::http1::{self, Http1End, PriorKnowledge};
use crate::protocol::http2;
use crate::transport::client_socket::ClientSocket;
#[cfg(feature = "tls")]
use crate::transport::tls::{self, Session};

/// An accepted connection and the service for its requests.
pub(crate) struct Connection<S> {
    pub(crate) peer: PeerAddr,
    /// Whether the client and the listener both have a loopback address.
    pub(crate) is_loopback: bool,
    pub(crate) service: S,
    pub(crate) config: Arc<ConnectionConfig>,
    pub(crate) draining: watch::Receiver<bool>,
    /// A guard that counts the connection as open until it is dropped.
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
        let config = Arc::clone(&self.config);
        let Some((_, versions)) = config.proxy_protocol.as_ref().filter(|(trusted, _)| {
            // Connections from other peers have no header.
            trusted.contains(self.peer.0.ip())
        }) else {
            return self.serve_counted(stream);
        };
        let versions = *versions;
        tokio::spawn(async move {
            let peer = self.peer.0;
            // Behind a load balancer, the client is somewhere else.
            self.is_loopback = false;
            let header = proxy_protocol::read(&mut stream, versions);
            match timeout(self.config.limits.handshake_timeout, header).await {
                Ok(Ok(Some(source))) => {
                    self.peer = PeerAddr(source);
                    self.serve_counted(stream);
                }
                // The load balancer's own connection, such as a health check.
                Ok(Ok(None)) => self.serve(stream),
                Ok(Err(error)) => tracing::debug!(%peer, %error, "bad PROXY protocol header, closing the connection"),
                Err(_) => {
                    tracing::debug!(%peer, "timed out waiting for a PROXY protocol header, closing the connection")
                }
            }
        });
    }

    /// Serves a connection, unless its client already has the maximum number of connections.
    fn serve_counted(mut self, stream: TcpStream) {
        let ip = self.peer.0.ip();
        if self.config.proxies.contains(ip) {
            return self.serve(stream);
        }
        match self.open.count_for_client(ip, self.config.limits.connections_per_client) {
            Ok(()) => self.serve(stream),
            Err(TooManyConnections) => {
                tracing::debug!(peer = %self.peer.0, "too many connections from one client, closing the connection");
            }
        }
    }

    /// Serves a connection of any socket type.
    pub(crate) fn serve<T>(self, socket: T)
    where
        T: ClientSocket + Send + 'static,
    {
        #[cfg(feature = "tls")]
        if let Some(acceptor) = self.config.tls.clone() {
            return self.serve_tls(socket, acceptor);
        }
        self.serve_http1(socket, None);
    }

    #[cfg(feature = "tls")]
    fn serve_tls<T>(self, socket: T, acceptor: TlsAcceptor)
    where
        T: ClientSocket + Send + 'static,
    {
        // A separate task, so that a slow handshake does not delay other connections.
        tokio::spawn(async move {
            match tls::accept(socket, acceptor, &self.config.handshakes, self.config.limits.handshake_timeout).await {
                Ok(Some(Session { stream, info, is_http2: true })) => self.serve_http2(stream, Some(info)),
                Ok(Some(Session { stream, info, is_http2: false })) => {
                    self.serve_http1(stream, Some(info));
                }
                Ok(None) => {}
                Err(error) => log(self.peer, &error),
            }
        });
    }

    // The functions below spawn a new task, because a task keeps the size of its largest state, and that of the handshake
    // is large.

    fn serve_http1<T>(self, socket: T, tls: Option<Box<TlsInfo>>)
    where
        T: ClientSocket + Send + 'static,
    {
        let Self { peer, is_loopback, service, config, draining, open } = self;
        let service = ConnectionService { inner: service, peer, is_loopback, tls, client_connection: Arc::default() };
        let connection = http1::serve(socket, service, config, draining, move |end| match end {
            Http1End::Closed => drop(open),
            Http1End::Http2(connection) => spawn_http2(connection, open),
            Http1End::Failed(peer, error) => log(peer, &*error),
        });
        tokio::spawn(connection);
    }

    #[cfg(feature = "tls")]
    fn serve_http2<T>(self, socket: T, tls: Option<Box<TlsInfo>>)
    where
        T: ClientSocket + Send + 'static,
    {
        let Self { peer, is_loopback, service, config, draining, open } = self;
        let service = ConnectionService { inner: service, peer, is_loopback, tls, client_connection: Arc::default() };
        spawn_http2(PriorKnowledge { socket, first: Bytes::new(), service, config, draining }, open);
    }
}

fn spawn_http2<T, S, B>(connection: PriorKnowledge<T, S>, open: OpenConnection)
where
    T: ClientSocket + Send + 'static,
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let PriorKnowledge { socket, first, service, config, draining } = connection;
    let peer = service.peer;
    tokio::spawn(async move {
        let _open = open;
        if let Err(error) = http2::serve(socket, first, service, &config, draining).await {
            log(peer, &error);
        }
    });
}

/// Logs a failed connection at debug level, because clients cause most of these failures.
fn log(peer: PeerAddr, error: &(dyn Error + 'static)) {
    let source = error.source().map(tracing::field::display);
    tracing::debug!(peer = %peer.0, %error, source, "connection failed");
}
