//! The address, protocol and weight of a backend.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use http::HeaderValue;
use http::uri::Authority;
use tokio::net::{TcpStream, UnixStream};

/// The address of a backend, with its protocol and weight.
///
/// | Text | Backend |
/// |---|---|
/// | `127.0.0.1:3000`, `http://app:3000` | HTTP/1.1 over TCP |
/// | `https://app.example` | HTTP/2 or HTTP/1.1 over TLS |
/// | `h2c://app:50051` | HTTP/2 over TCP |
/// | `unix:/run/app.sock` | HTTP/1.1 over a Unix socket |
/// | `app:3000 weight=3` | any of these with a [weight](Self::weight) |
///
/// The default port is 80 for `http://` and `h2c://`, and 443 for `https://`. Without a scheme, the port is required.
///
/// # Examples
///
/// ```
/// use rproxy_upstream::{Backend, Protocol};
///
/// # fn main() -> Result<(), rproxy_upstream::BackendError> {
/// let backend: Backend = "https://app.example weight=3".parse()?;
/// assert_eq!(backend.protocol(), Protocol::Https);
/// assert_eq!(backend.origin(), "https://app.example:443");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    pub(crate) location: Location,
    pub(crate) protocol: Protocol,
    /// The `Host` value for requests that have no `Host` field.
    pub(crate) host: HeaderValue,
    pub(crate) weight: u16,
}

/// The location of a backend: a TCP address or a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

/// The protocol of the connections to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocol {
    /// HTTP/1.1 without TLS.
    Http1,
    /// HTTP/2 or HTTP/1.1 over TLS, as selected by the backend (ALPN, RFC 7301).
    Https,
    /// HTTP/2 without TLS, with prior knowledge (RFC 9113 §3.3).
    H2c,
}

impl Backend {
    /// Returns the protocol of the connections to the backend.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Sets the backend's share of requests, relative to the weights of the other backends. The default is 1.
    ///
    /// Values outside 1 to [`MAX_WEIGHT`](Self::MAX_WEIGHT) are clamped.
    #[must_use]
    pub fn weight(mut self, weight: u16) -> Self {
        self.weight = weight.clamp(1, Self::MAX_WEIGHT);
        self
    }

    /// The maximum weight of a backend.
    pub const MAX_WEIGHT: u16 = 1000;

    /// Returns the backend's address as a URL, without the weight.
    pub fn origin(&self) -> String {
        let scheme = match self.protocol {
            Protocol::Http1 => "http",
            Protocol::Https => "https",
            Protocol::H2c => "h2c",
        };
        match &self.location {
            Location::Tcp { host, port } if host.contains(':') => format!("{scheme}://[{host}]:{port}"),
            Location::Tcp { host, port } => format!("{scheme}://{host}:{port}"),
            Location::Unix(path) => format!("unix:{}", path.display()),
        }
    }

    /// Connects to the address of the backend and immediately closes the connection.
    ///
    /// # Errors
    ///
    /// Returns the error of the name lookup or of the last connection attempt.
    pub async fn try_connect(&self) -> io::Result<()> {
        match &self.location {
            Location::Tcp { host, port } => TcpStream::connect((host.as_str(), *port)).await.map(drop),
            Location::Unix(path) => UnixStream::connect(path).await.map(drop),
        }
    }

    /// Returns whether the host is a name that requires a DNS lookup.
    pub(crate) fn has_name(&self) -> bool {
        matches!(&self.location, Location::Tcp { host, .. } if host.parse::<IpAddr>().is_err())
    }
}

/// Creates a backend from a socket address, with HTTP/1.1 over TCP and the weight 1.
impl From<SocketAddr> for Backend {
    fn from(address: SocketAddr) -> Self {
        // A socket address is a valid field value.
        let host = HeaderValue::try_from(address.to_string()).unwrap_or(HeaderValue::from_static("localhost"));
        let location = Location::Tcp { host: address.ip().to_string(), port: address.port() };
        Self { location, protocol: Protocol::Http1, host, weight: 1 }
    }
}

impl FromStr for Backend {
    type Err = BackendError;

    fn from_str(text: &str) -> Result<Self, BackendError> {
        let error = |reason| BackendError { input: text.to_owned(), reason };
        // The path of a socket can contain spaces.
        if let Some((origin, weight)) = text.rsplit_once([' ', '\t'])
            && (weight.starts_with("weight=") || !text.starts_with("unix:"))
        {
            let weight = weight
                .strip_prefix("weight=")
                .ok_or_else(|| error("unknown option after the address; expected weight=N"))?;
            let weight = weight.parse().ok().filter(|weight| (1..=Self::MAX_WEIGHT).contains(weight));
            let weight = weight.ok_or_else(|| error("the weight is not a whole number from 1 to 1000"))?;
            return match origin.trim_end().parse::<Self>() {
                Ok(backend) => Ok(backend.weight(weight)),
                Err(BackendError { reason, .. }) => Err(error(reason)),
            };
        }
        if let Some(path) = text.strip_prefix("unix:") {
            if !path.starts_with('/') {
                return Err(error("the path of a Unix socket does not start with /"));
            }
            let host = HeaderValue::from_static("localhost");
            return Ok(Self { location: Location::Unix(path.into()), protocol: Protocol::Http1, host, weight: 1 });
        }
        let (protocol, rest, default_port) = match text.split_once("://") {
            None => (Protocol::Http1, text, None),
            Some(("http", rest)) => (Protocol::Http1, rest, Some(80)),
            Some(("https", rest)) => (Protocol::Https, rest, Some(443)),
            Some(("h2c", rest)) => (Protocol::H2c, rest, Some(80)),
            Some(_) => {
                return Err(error("unknown scheme; expected host:port, http://, https://, h2c:// or unix:/path"));
            }
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('/') {
            return Err(error("a path is not allowed: requests are forwarded with their original path"));
        }
        let authority: Authority = rest.parse().map_err(|_| error("not a host and port"))?;
        if authority.as_str().contains('@') {
            return Err(error("user information is not allowed"));
        }
        let port = match authority.port() {
            Some(port) => port.as_str().parse().map_err(|_| error("the port is not a number up to 65535"))?,
            None if authority.as_str() != authority.host() => {
                return Err(error("the port is not a number up to 65535"));
            }
            None => default_port.ok_or_else(|| error("the port is missing"))?,
        };
        if port == 0 || authority.host().is_empty() {
            return Err(error("not a host and port"));
        }
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| error("not a host and port"))?;
        let name = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { location: Location::Tcp { host: name, port }, protocol, host, weight: 1 })
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin())?;
        if self.weight != 1 {
            write!(f, " weight={}", self.weight)?;
        }
        Ok(())
    }
}

/// The error for an invalid [`Backend`] address. Its message contains the input and the reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad backend {input:?}: {reason}")]
pub struct BackendError {
    input: String,
    reason: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backend_addresses_parse_and_format_as_urls() {
        for (text, shown) in [
            ("127.0.0.1:3000", "http://127.0.0.1:3000"),
            ("app:3000", "http://app:3000"),
            ("http://app", "http://app:80"),
            ("http://app/", "http://app:80"),
            ("https://app.example", "https://app.example:443"),
            ("h2c://[::1]:50051", "h2c://[::1]:50051"),
            ("unix:/run/app.sock", "unix:/run/app.sock"),
            ("app:3000 weight=3", "http://app:3000 weight=3"),
            ("unix:/run/app.sock  weight=1", "unix:/run/app.sock"),
        ] {
            assert_eq!(text.parse::<Backend>().unwrap().to_string(), shown);
            assert_eq!(shown.parse::<Backend>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn creates_backends_from_socket_addresses() {
        for address in ["127.0.0.1:3000", "[::1]:3000"] {
            assert_eq!(Backend::from(address.parse::<SocketAddr>().unwrap()), address.parse().unwrap());
        }
    }

    #[test]
    fn backend_address_errors_contain_the_input_and_the_reason() {
        for (text, reason) in [
            ("app", "the port is missing"),
            ("", "not a host and port"),
            ("http://", "not a host and port"),
            ("app:80 weight=0", "the weight is not a whole number from 1 to 1000"),
            ("app:80 weight=1001", "the weight is not a whole number from 1 to 1000"),
            ("app:80 backup", "unknown option after the address; expected weight=N"),
            ("app weight=2", "the port is missing"),
            ("ftp://app", "unknown scheme; expected host:port, http://, https://, h2c:// or unix:/path"),
            ("http://app/base", "a path is not allowed: requests are forwarded with their original path"),
            ("http://user@app", "user information is not allowed"),
            ("app:99999", "the port is not a number up to 65535"),
            ("app:0", "not a host and port"),
            ("unix:app.sock", "the path of a Unix socket does not start with /"),
        ] {
            let error = text.parse::<Backend>().unwrap_err().to_string();
            assert_eq!(error, format!("bad backend {text:?}: {reason}"));
        }
    }
}
