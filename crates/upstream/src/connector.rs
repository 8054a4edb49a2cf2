//! New connections to backends: DNS lookup, TCP connection and TLS handshake.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::CertificateError;
use rustls_pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use crate::addresses::Addresses;
use crate::backend::{Backend, Location, Protocol};
use crate::error::{BuildError, ProxyError, ProxyErrorKind};
use crate::resolver::Resolver;
use crate::socket::Socket;
use crate::tls::{Tls, TlsOptions};

/// A connector that opens connections to backends.
pub(crate) struct Connector {
    /// The TLS configuration, if a backend uses TLS.
    tls: OnceLock<Tls>,
    /// The DNS resolver, if a backend has a host name.
    resolver: OnceLock<Resolver>,
    /// The settings from which both are created. `None` if they are the default.
    options: Option<Box<(TlsOptions, Vec<SocketAddr>)>>,
    /// The combined timeout for DNS lookup, TCP connection and TLS handshake.
    pub(crate) timeout: Duration,
}

/// The protocols that are allowed on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AllowedProtocols {
    /// Any protocol that the backend selects.
    Any,
    /// HTTP/1.1 only.
    Http1,
}

/// An established connection on which no HTTP byte has been sent.
pub(crate) struct Connected {
    pub(crate) socket: Socket,
    /// Whether the negotiated protocol is HTTP/2 instead of HTTP/1.1.
    pub(crate) is_http2: bool,
    /// The time after which no new requests are sent on the connection. `None` means no limit.
    pub(crate) expires: Option<Instant>,
    /// The remote address of the connection, if the backend has a host name.
    pub(crate) address: Option<IpAddr>,
    /// All addresses of the backend's host name.
    pub(crate) addresses: Vec<IpAddr>,
}

impl Connector {
    pub(crate) fn new(tls: TlsOptions, name_servers: Vec<SocketAddr>, timeout: Duration) -> Self {
        let is_default = tls.is_default() && name_servers.is_empty();
        let options = (!is_default).then(|| Box::new((tls, name_servers)));
        Self { tls: OnceLock::new(), resolver: OnceLock::new(), options, timeout }
    }

    /// Creates the TLS configuration and the resolver, if `backends` need them.
    ///
    /// Both are expensive: one reads the root certificates, the other the name servers of the system.
    pub(crate) fn prepare(&self, backends: &[Backend]) -> Result<(), BuildError> {
        if self.tls.get().is_none() && backends.iter().any(|backend| backend.protocol == Protocol::Https) {
            let options = self.options.as_ref().map(|options| options.0.clone());
            // If another thread was faster, its configuration is the same.
            let _ = self.tls.set(Tls::new(options.unwrap_or_default())?);
        }
        if backends.iter().any(Backend::has_name) {
            let name_servers = self.options.as_ref().map_or(&[][..], |options| &options.1);
            self.resolver.get_or_init(|| Resolver::new(name_servers));
        }
        Ok(())
    }

    /// Connects to a backend, preferably to an address that is not in `in_use`.
    pub(crate) async fn connect(
        &self,
        backend: &Backend,
        protocols: AllowedProtocols,
        in_use: &[IpAddr],
    ) -> Result<Connected, ProxyError> {
        let connecting = async {
            let resolved = self.resolve(backend).await?;
            self.connect_to(backend, protocols, resolved, in_use, false).await
        };
        match timeout(self.timeout, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(ProxyError::new(ProxyErrorKind::ConnectionTimeout)),
        }
    }

    /// Connects to an address of the backend that is not in `in_use`. Returns `None` if there is no such address.
    pub(crate) async fn connect_to_new_address(
        &self,
        backend: &Backend,
        in_use: &[IpAddr],
    ) -> Result<Option<Connected>, ProxyError> {
        let resolved = self.resolve(backend).await?;
        match &resolved {
            Some(resolved) if resolved.ips.iter().any(|ip| !in_use.contains(ip)) => {}
            _ => return Ok(None),
        }
        self.connect_to(backend, AllowedProtocols::Any, resolved, in_use, true).await.map(Some)
    }

    /// Looks up the addresses of the backend's host name, if it has one.
    async fn resolve(&self, backend: &Backend) -> Result<Option<Addresses>, ProxyError> {
        match &backend.location {
            Location::Tcp { host, .. } if host.parse::<IpAddr>().is_err() => {
                let resolver = self.resolver.get().ok_or_else(|| ProxyError::new(ProxyErrorKind::DnsError))?;
                resolver.lookup(host).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    async fn connect_to(
        &self,
        backend: &Backend,
        protocols: AllowedProtocols,
        resolved: Option<Addresses>,
        in_use: &[IpAddr],
        only_new: bool,
    ) -> Result<Connected, ProxyError> {
        let is_http2 = backend.protocol == Protocol::H2c;
        let (host, port) = match &backend.location {
            Location::Tcp { host, port } => (host.as_str(), *port),
            Location::Unix(path) => {
                let socket = UnixStream::connect(path).await.map(Socket::Unix).map_err(connect_error)?;
                return Ok(Connected { socket, is_http2, expires: None, address: None, addresses: Vec::new() });
            }
        };
        let (stream, expires, address, addresses) = match resolved {
            None => {
                let ip = host.parse::<IpAddr>().map_err(|error| ProxyError::caused(ProxyErrorKind::DnsError, error))?;
                let stream = TcpStream::connect(SocketAddr::new(ip, port)).await.map_err(connect_error)?;
                (stream, None, None, Vec::new())
            }
            Some(Addresses { ips, expires }) => {
                let (stream, address) = self.connect_tcp(&ips, port, in_use, only_new).await?;
                (stream, Some(expires), Some(address), ips)
            }
        };
        let _ = stream.set_nodelay(true);
        let Some(tls) = self.tls.get().filter(|_| backend.protocol == Protocol::Https) else {
            return Ok(Connected { socket: Socket::Tcp(stream), is_http2, expires, address, addresses });
        };
        let name = match &tls.server_name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.to_owned())
                .map_err(|error| ProxyError::caused(ProxyErrorKind::TlsProtocolError, error))?,
        };
        let config = if protocols == AllowedProtocols::Http1 { &tls.http1 } else { &tls.any };
        match TlsConnector::from(Arc::clone(config)).connect(name, stream).await {
            Ok(stream) => {
                let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                let socket = Socket::Tls(Box::new(stream));
                Ok(Connected { socket, is_http2, expires, address, addresses })
            }
            Err(error) => Err(handshake_error(error)),
        }
    }

    /// Connects to one of `ips`: tries addresses not in `in_use` first, then the others unless `only_new` is set.
    async fn connect_tcp(
        &self,
        ips: &[IpAddr],
        port: u16,
        in_use: &[IpAddr],
        only_new: bool,
    ) -> Result<(TcpStream, IpAddr), ProxyError> {
        // The order starts at a random address to distribute the load. Each attempt has a part of the timeout, so
        // that an unreachable address leaves time for the others.
        let (first, within) = (fastrand::usize(..ips.len()), self.timeout / ips.len() as u32);
        let rotated = || ips[first..].iter().chain(&ips[..first]);
        let missing = rotated().filter(|ip| !in_use.contains(ip));
        let others = rotated().filter(|ip| !only_new && in_use.contains(ip));
        let mut error = ProxyError::new(ProxyErrorKind::ConnectionTimeout);
        for ip in missing.chain(others) {
            match timeout(within, TcpStream::connect(SocketAddr::new(*ip, port))).await {
                Ok(Ok(stream)) => return Ok((stream, *ip)),
                Ok(Err(cause)) => error = connect_error(cause),
                Err(_) => {}
            }
        }
        Err(error)
    }
}

fn connect_error(error: io::Error) -> ProxyError {
    let kind = match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => ProxyErrorKind::ConnectionRefused,
        io::ErrorKind::TimedOut => ProxyErrorKind::ConnectionTimeout,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => ProxyErrorKind::DestinationIpUnroutable,
        _ => ProxyErrorKind::ConnectionTerminated,
    };
    ProxyError::caused(kind, error)
}

fn handshake_error(error: io::Error) -> ProxyError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        // rustls prints the debug representation of this cause.
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(cause))) => {
            ProxyError::caused(ProxyErrorKind::TlsCertificateError, Arc::clone(&cause.0))
        }
        Some(rustls::Error::InvalidCertificate(_)) => ProxyError::caused(ProxyErrorKind::TlsCertificateError, error),
        _ => ProxyError::caused(ProxyErrorKind::TlsProtocolError, error),
    }
}
