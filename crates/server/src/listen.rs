//! Where a server listens.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// An address to listen on: `0.0.0.0:8080`, `[::]:8080`, or `unix:/run/rproxy.sock`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Listen {
    /// A TCP address; port 0 lets the system pick one.
    Tcp(SocketAddr),
    /// The path of a Unix socket. A stale socket file is replaced.
    Unix(PathBuf),
}

/// Text that is no address to [`Listen`] on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad listen address {0:?}: expected ADDRESS:PORT, [IPV6]:PORT or unix:/path")]
pub struct ListenError(String);

impl FromStr for Listen {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Ok(Listen::Unix(path.into())),
            Some(_) => Err(ListenError(text.to_owned())),
            None => text.parse().map(Listen::Tcp).map_err(|_| ListenError(text.to_owned())),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Tcp(address) => address.fmt(f),
            Listen::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Self {
        Listen::Tcp(address)
    }
}

/// A bound socket, one per worker.
pub(crate) enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listen {
    /// Binds one socket per worker. For TCP the kernel spreads connections over them; a Unix socket
    /// has one queue, which all workers take from.
    pub(crate) fn bind(&self, workers: usize, send_timeout: Duration) -> io::Result<Vec<Bound>> {
        match self {
            Listen::Tcp(address) => {
                // SO_REUSEPORT lets a second process of this user share the port in silence.
                // Binding once without it makes a port that is taken an error, as users expect.
                drop(tcp(*address, false, send_timeout)?);
                let first = tcp(*address, true, send_timeout)?;
                let address = first.local_addr()?;
                let rest = (1..workers).map(|_| tcp(address, true, send_timeout));
                std::iter::once(Ok(first)).chain(rest).map(|socket| socket.map(Bound::Tcp)).collect()
            }
            Listen::Unix(path) => {
                remove_stale(path)?;
                let listener = UnixListener::bind(path)?;
                listener.set_nonblocking(true)?;
                (0..workers).map(|_| listener.try_clone().map(Bound::Unix)).collect()
            }
        }
    }
}

fn tcp(address: SocketAddr, reuse_port: bool, send_timeout: Duration) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    if address.is_ipv6() {
        // `[::]` takes IPv4 too, whatever the system's default is.
        socket.set_only_v6(false)?;
    }
    // Connections inherit it. A client that takes no bytes is given up by the kernel, which costs us nothing.
    socket.set_tcp_user_timeout(Some(send_timeout))?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A socket file whose server is gone is removed; one that answers, or another kind of file, stays
/// and makes binding fail.
fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if metadata.file_type().is_socket() && std::os::unix::net::UnixStream::connect(path).is_err() {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

/// The kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    const SEND_TIMEOUT: Duration = Duration::from_secs(60);

    #[test]
    fn addresses_parse_and_print() {
        for text in ["0.0.0.0:8080", "[::1]:443", "unix:/run/rproxy.sock"] {
            assert_eq!(text.parse::<Listen>().unwrap().to_string(), text);
        }
        for text in ["8080", "localhost:80", "unix:relative", "1.2.3.4:99999", ""] {
            assert!(text.parse::<Listen>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_port_that_is_taken_is_an_error() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = Listen::from(other.local_addr().unwrap());
        assert_eq!(taken.bind(2, SEND_TIMEOUT).err().unwrap().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn workers_share_one_port() {
        let sockets = Listen::from("127.0.0.1:0".parse::<SocketAddr>().unwrap()).bind(3, SEND_TIMEOUT).unwrap();
        let ports: Vec<_> = sockets
            .iter()
            .map(|socket| match socket {
                Bound::Tcp(tcp) => tcp.local_addr().unwrap().port(),
                Bound::Unix(_) => unreachable!("bound to TCP"),
            })
            .collect();
        assert!(ports[0] != 0 && ports.iter().all(|port| *port == ports[0]), "{ports:?}");
    }

    #[test]
    fn a_stale_unix_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let listen = Listen::Unix(folder.path().join("s"));
        drop(listen.bind(1, SEND_TIMEOUT).unwrap());
        let live = listen.bind(1, SEND_TIMEOUT).unwrap();
        assert_eq!(listen.bind(1, SEND_TIMEOUT).err().unwrap().kind(), io::ErrorKind::AddrInUse);
        drop(live);
    }
}
