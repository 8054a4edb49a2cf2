//! A new connection to a backend: name, socket, TLS.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::backend::{Backend, Location, Protocol};
use crate::error::{ProxyError, ProxyErrorKind};

/// Connects to backends.
#[derive(Clone)]
pub(crate) struct Connector {
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) timeout: Duration,
}

impl Connector {
    /// A connection on which the backend's protocol may begin.
    pub(crate) async fn connect(&self, backend: &Backend) -> Result<Socket, ProxyError> {
        match timeout(self.timeout, self.connect_untimed(backend)).await {
            Ok(connected) => connected,
            Err(_) => Err(ProxyError::new(ProxyErrorKind::ConnectionTimeout)),
        }
    }

    async fn connect_untimed(&self, backend: &Backend) -> Result<Socket, ProxyError> {
        let (host, port) = match &backend.location {
            Location::Tcp { host, port } => (host.as_str(), *port),
            Location::Unix(path) => {
                return UnixStream::connect(path).await.map(Socket::Unix).map_err(not_connected);
            }
        };
        let stream = tcp(host, port).await?;
        let _ = stream.set_nodelay(true);
        if backend.protocol != Protocol::Https {
            return Ok(Socket::Tcp(stream));
        }
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| ProxyError::caused(ProxyErrorKind::TlsProtocolError, error))?;
        match TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream).await {
            Ok(stream) => Ok(Socket::Tls(Box::new(stream))),
            Err(error) => Err(no_handshake(error)),
        }
    }
}

/// Tries each address that the name has.
async fn tcp(host: &str, port: u16) -> Result<TcpStream, ProxyError> {
    let dns = |error| ProxyError::caused(ProxyErrorKind::DnsError, error);
    let mut last = None;
    for address in tokio::net::lookup_host((host, port)).await.map_err(dns)? {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(|| ProxyError::new(ProxyErrorKind::DnsError), not_connected))
}

fn not_connected(error: io::Error) -> ProxyError {
    let kind = match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => ProxyErrorKind::ConnectionRefused,
        io::ErrorKind::TimedOut => ProxyErrorKind::ConnectionTimeout,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => ProxyErrorKind::DestinationIpUnroutable,
        _ => ProxyErrorKind::ConnectionTerminated,
    };
    ProxyError::caused(kind, error)
}

fn no_handshake(error: io::Error) -> ProxyError {
    let is_certificate = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
        .is_some_and(|error| matches!(error, rustls::Error::InvalidCertificate(_)));
    let kind = if is_certificate { ProxyErrorKind::TlsCertificateError } else { ProxyErrorKind::TlsProtocolError };
    ProxyError::caused(kind, error)
}

/// A connection of any kind.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    // Boxed: a TLS session is large, and the others are most.
    Tls(Box<TlsStream<TcpStream>>),
}

macro_rules! each {
    ($self:expr, $socket:ident => $call:expr) => {
        match $self.get_mut() {
            Socket::Tcp($socket) => $call,
            Socket::Unix($socket) => $call,
            Socket::Tls($socket) => $call,
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, socket => Pin::new(socket).poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, socket => Pin::new(socket).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, socket => Pin::new(socket).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Socket::Tcp(socket) => socket.is_write_vectored(),
            Socket::Unix(socket) => socket.is_write_vectored(),
            Socket::Tls(socket) => socket.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, socket => Pin::new(socket).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, socket => Pin::new(socket).poll_shutdown(cx))
    }
}
