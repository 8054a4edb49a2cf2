//! A new connection to a backend: name, socket, TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::CertificateError;
use rustls_pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use crate::backend::{Backend, Location, Protocol};
use crate::error::{ProxyError, ProxyErrorKind};
use crate::resolve::{Addresses, Resolver};
use crate::socket::Socket;
use crate::tls::Tls;

/// Connects to backends.
#[derive(Clone)]
pub(crate) struct Connector {
    /// There if a backend speaks TLS.
    pub(crate) tls: Option<Tls>,
    /// There if a backend has a name.
    pub(crate) resolver: Option<Resolver>,
    /// For name, socket and TLS together.
    pub(crate) timeout: Duration,
}

/// What may be spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speak {
    /// Whatever the backend does.
    Any,
    Http1,
}

/// A connection on which the backend's protocol may begin.
pub(crate) struct Connected {
    pub(crate) socket: Socket,
    /// Whether that is HTTP/2.
    pub(crate) is_http2: bool,
    /// Until when it may be used for further requests; `None` for as long as it lasts.
    pub(crate) until: Option<Instant>,
    /// The address that was connected to, and all that the name stands for; of backends that have a name.
    pub(crate) address: Option<IpAddr>,
    pub(crate) addresses: Vec<IpAddr>,
}

impl Connector {
    /// Connects, to an address that is not among `have` if there is one.
    pub(crate) async fn connect(
        &self,
        backend: &Backend,
        speak: Speak,
        have: &[IpAddr],
    ) -> Result<Connected, ProxyError> {
        let connecting = async {
            let found = self.find(backend).await?;
            self.connect_to(backend, speak, found, have, false).await
        };
        match timeout(self.timeout, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(ProxyError::new(ProxyErrorKind::ConnectionTimeout)),
        }
    }

    /// Connects to an address of the backend that is not among `have`; to none if all are.
    pub(crate) async fn connect_elsewhere(
        &self,
        backend: &Backend,
        have: &[IpAddr],
    ) -> Result<Option<Connected>, ProxyError> {
        let found = self.find(backend).await?;
        match &found {
            Some(found) if found.ips.iter().any(|ip| !have.contains(ip)) => {}
            _ => return Ok(None),
        }
        self.connect_to(backend, Speak::Any, found, have, true).await.map(Some)
    }

    /// The addresses of the backend's name, if it has one.
    async fn find(&self, backend: &Backend) -> Result<Option<Addresses>, ProxyError> {
        match &backend.location {
            Location::Tcp { host, .. } if host.parse::<IpAddr>().is_err() => {
                let resolver = self.resolver.as_ref().ok_or_else(|| ProxyError::new(ProxyErrorKind::DnsError))?;
                resolver.lookup(host).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    async fn connect_to(
        &self,
        backend: &Backend,
        speak: Speak,
        found: Option<Addresses>,
        have: &[IpAddr],
        is_strict: bool,
    ) -> Result<Connected, ProxyError> {
        let is_http2 = backend.protocol == Protocol::H2c;
        let (host, port) = match &backend.location {
            Location::Tcp { host, port } => (host.as_str(), *port),
            Location::Unix(path) => {
                let socket = UnixStream::connect(path).await.map(Socket::Unix).map_err(not_connected)?;
                return Ok(Connected { socket, is_http2, until: None, address: None, addresses: Vec::new() });
            }
        };
        let (stream, until, address, addresses) = match found {
            None => {
                let ip = host.parse::<IpAddr>().map_err(|error| ProxyError::caused(ProxyErrorKind::DnsError, error))?;
                let stream = TcpStream::connect(SocketAddr::new(ip, port)).await.map_err(not_connected)?;
                (stream, None, None, Vec::new())
            }
            Some(Addresses { ips, until }) => {
                let (stream, address) = self.tcp(&ips, port, have, is_strict).await?;
                (stream, Some(until), Some(address), ips)
            }
        };
        let _ = stream.set_nodelay(true);
        let Some(tls) = self.tls.as_ref().filter(|_| backend.protocol == Protocol::Https) else {
            return Ok(Connected { socket: Socket::Tcp(stream), is_http2, until, address, addresses });
        };
        let name = match &tls.server_name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.to_owned())
                .map_err(|error| ProxyError::caused(ProxyErrorKind::TlsProtocolError, error))?,
        };
        let config = if speak == Speak::Http1 { &tls.http1 } else { &tls.any };
        match TlsConnector::from(Arc::clone(config)).connect(name, stream).await {
            Ok(stream) => {
                let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                let socket = Socket::Tls(Box::new(stream));
                Ok(Connected { socket, is_http2, until, address, addresses })
            }
            Err(error) => Err(no_handshake(error)),
        }
    }

    /// Connects to one of `ips`, to those that are not among `have` first, or only to those.
    async fn tcp(
        &self,
        ips: &[IpAddr],
        port: u16,
        have: &[IpAddr],
        is_strict: bool,
    ) -> Result<(TcpStream, IpAddr), ProxyError> {
        // Another one first each time, so that all of them have their share. One that does not answer leaves time for
        // the others.
        let (first, within) = (fastrand::usize(..ips.len()), self.timeout / ips.len() as u32);
        let in_turn = || ips[first..].iter().chain(&ips[..first]);
        let missing = in_turn().filter(|ip| !have.contains(ip));
        let others = in_turn().filter(|ip| !is_strict && have.contains(ip));
        let mut error = ProxyError::new(ProxyErrorKind::ConnectionTimeout);
        for ip in missing.chain(others) {
            match timeout(within, TcpStream::connect(SocketAddr::new(*ip, port))).await {
                Ok(Ok(stream)) => return Ok((stream, *ip)),
                Ok(Err(why)) => error = not_connected(why),
                Err(_) => {}
            }
        }
        Err(error)
    }
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
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        // rustls prints the debug representation of this cause.
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(cause))) => {
            ProxyError::caused(ProxyErrorKind::TlsCertificateError, Arc::clone(&cause.0))
        }
        Some(rustls::Error::InvalidCertificate(_)) => ProxyError::caused(ProxyErrorKind::TlsCertificateError, error),
        _ => ProxyError::caused(ProxyErrorKind::TlsProtocolError, error),
    }
}
