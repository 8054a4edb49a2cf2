//! Parsers of listen addresses and ports.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::LazyLock;

use rproxy_server::ListenAddr;

use super::value::ParseError;

/// Parses a listen address.
///
/// Accepts `0.0.0.0:8080`, `[::]:443`, `:8080` and `8080` (all addresses), `localhost:8080`, and `unix:/path`.
pub(crate) fn address(text: &str) -> Result<ListenAddr, ParseError> {
    let error = |reason: &str| ParseError::new("listen address", text, reason);
    if let Some(path) = text.strip_prefix("unix:") {
        return unix_path(path).map(ListenAddr::Unix).map_err(error);
    }
    if text.contains("://") {
        return Err(error("a URL instead of a listen address"));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(ListenAddr::Tcp(address));
    }
    if text.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return Err(error("no port"));
    }
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    let ip = match host {
        "" | "*" => every_address(),
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        _ if self::port(port).is_none() => return Err(error("not an IP address with a port from 0 to 65535")),
        _ => return Err(error("the host is not an IP address")),
    };
    let port = self::port(port).ok_or_else(|| error("the port is not a number from 0 to 65535"))?;
    Ok(ListenAddr::Tcp(SocketAddr::new(ip, port)))
}

/// Returns the wildcard address of this host: `::`, which includes IPv4, or `0.0.0.0` without IPv6 support.
pub(crate) fn every_address() -> IpAddr {
    static EVERY: LazyLock<IpAddr> = LazyLock::new(|| match UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)) {
        Ok(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        Err(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    });
    *EVERY
}

/// Removes each listener on `0.0.0.0:PORT` if there is one on `[::]:PORT`, which also accepts IPv4.
pub(crate) fn without_covered(listeners: &[ListenAddr]) -> Vec<ListenAddr> {
    let is_covered = |listener: &ListenAddr| match listener {
        ListenAddr::Tcp(SocketAddr::V4(address)) if address.ip().is_unspecified() && address.port() != 0 => {
            listeners.contains(&ListenAddr::Tcp(SocketAddr::from((Ipv6Addr::UNSPECIFIED, address.port()))))
        }
        _ => false,
    };
    listeners.iter().filter(|listener| !is_covered(listener)).cloned().collect()
}

/// Parses a listen address; `off` and `0` mean no listener.
pub(crate) fn optional_address(text: &str) -> Result<Option<ListenAddr>, ParseError> {
    if text.eq_ignore_ascii_case("off") || text == "0" {
        return Ok(None);
    }
    super::value::optional(text, address)
}

/// Returns whether two listeners conflict because their addresses overlap.
pub(crate) fn collide(one: &ListenAddr, other: &ListenAddr) -> bool {
    match (one, other) {
        (ListenAddr::Unix(one), ListenAddr::Unix(other)) => one == other,
        (ListenAddr::Tcp(one), ListenAddr::Tcp(other)) => {
            let overlap = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
            one.port() == other.port() && one.port() != 0 && overlap
        }
        _ => false,
    }
}

/// Returns whether a connection from this machine to `address` would reach `listener`.
pub(crate) fn is_reachable_at(listener: &ListenAddr, address: SocketAddr) -> bool {
    let ListenAddr::Tcp(own) = listener else { return false };
    let here = address.ip().is_loopback() || address.ip().is_unspecified();
    own.port() == address.port() && (own.ip() == address.ip() || own.ip().is_unspecified() && here)
}

/// The port of the plain HTTP listener that redirects to HTTPS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpPort {
    /// Port 80 if TLS is enabled, otherwise no listener.
    #[default]
    Auto,
    /// No plain HTTP listener.
    Off,
    /// A plain HTTP listener on this port of every listen address.
    On(NonZeroU16),
}

impl FromStr for HttpPort {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.eq_ignore_ascii_case("off") {
            return Ok(Self::Off);
        }
        match port(text) {
            None => Err(ParseError::new("port", text, "not a number from 0 to 65535")),
            Some(port) => Ok(NonZeroU16::new(port).map_or(Self::Off, Self::On)),
        }
    }
}

/// Parses a port number for use in URLs, from 1 to 65535.
pub(crate) fn public_port(text: &str) -> Result<NonZeroU16, ParseError> {
    let error = || ParseError::new("port", text, "not a number from 1 to 65535");
    port(text).and_then(NonZeroU16::new).ok_or_else(error)
}

/// Parses a port number, which must consist of digits; `u16::from_str` would accept `+80`.
pub(crate) fn port(text: &str) -> Option<u16> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Parses the path of a Unix socket; the kernel limits its length.
pub(crate) fn unix_path(text: &str) -> Result<PathBuf, &'static str> {
    const MAX_LENGTH: usize = 107;
    // `unix:///run/app.sock` is the spelling of a URL.
    let path = match text.strip_prefix("//") {
        Some(rest) if rest.starts_with('/') => rest,
        _ => text,
    };
    match path {
        "" => Err("no path after unix:"),
        _ if !path.starts_with('/') => Err("the path is not absolute"),
        _ if path.contains('\0') => Err("the path contains a NUL byte"),
        _ if path.len() > MAX_LENGTH => Err("the path is longer than 107 bytes"),
        _ => Ok(PathBuf::from(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_common_spellings_of_listen_addresses() {
        for (text, canonical) in [
            ("0.0.0.0:8080", "0.0.0.0:8080"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("[::]:443", "[::]:443"),
            ("[::1]:8443", "[::1]:8443"),
            (":8080", "[::]:8080"),
            ("*:8080", "[::]:8080"),
            ("8080", "[::]:8080"),
            ("localhost:8080", "127.0.0.1:8080"),
            ("unix:/run/rproxy.sock", "unix:/run/rproxy.sock"),
            ("unix:///run/rproxy.sock", "unix:/run/rproxy.sock"),
        ] {
            let read = address(text).unwrap();
            assert_eq!(read.to_string(), canonical, "{text}");
            assert_eq!(address(canonical), Ok(read), "{text}");
        }
    }

    #[test]
    fn rejects_invalid_listen_address_with_reason() {
        let long = format!("unix:/{}", "x".repeat(107));
        for (text, reason) in [
            ("", "the port is not a number from 0 to 65535"),
            ("127.0.0.1", "no port"),
            ("::1", "no port"),
            ("[::1]", "no port"),
            ("127.0.0.1:99999", "not an IP address with a port from 0 to 65535"),
            (":99999", "the port is not a number from 0 to 65535"),
            (":+80", "the port is not a number from 0 to 65535"),
            ("example.com:80", "the host is not an IP address"),
            ("http://0.0.0.0:80", "a URL instead of a listen address"),
            ("unix:", "no path after unix:"),
            ("unix:rproxy.sock", "the path is not absolute"),
            (&long, "the path is longer than 107 bytes"),
        ] {
            let error = address(text).unwrap_err();
            assert!(error.to_string().ends_with(&format!(": {reason}")), "{text}: {error}");
        }
    }

    #[test]
    fn http_port_can_be_off() {
        assert_eq!("0".parse(), Ok(HttpPort::Off));
        assert_eq!("off".parse(), Ok(HttpPort::Off));
        assert_eq!("80".parse(), Ok(HttpPort::On(NonZeroU16::new(80).unwrap())));
        assert_eq!(
            "70000".parse::<HttpPort>().unwrap_err().to_string(),
            "bad port \"70000\": not a number from 0 to 65535",
        );
    }

    #[test]
    fn rejects_zero_as_public_port() {
        assert_eq!(public_port("8443").unwrap().get(), 8443);
        for text in ["0", "70000", "+443", ":443", ""] {
            assert_eq!(
                public_port(text).unwrap_err().to_string(),
                format!("bad port {text:?}: not a number from 1 to 65535")
            );
        }
    }

    #[test]
    fn overlapping_listen_addresses_conflict() {
        for (one, other, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("[::]:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("unix:/a", "unix:/a", true),
            ("unix:/a", "unix:/b", false),
            ("unix:/a", "0.0.0.0:80", false),
        ] {
            let (one, other) = (address(one).unwrap(), address(other).unwrap());
            assert_eq!(collide(&one, &other), expected, "{one} and {other}");
            assert_eq!(collide(&other, &one), expected, "{other} and {one}");
        }
    }
}
