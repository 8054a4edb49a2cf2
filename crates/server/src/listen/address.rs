//! Listen addresses and listening sockets.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// An address to listen on: `0.0.0.0:8080`, `[::]:8080`, or `unix:/run/rproxy.sock`.
///
/// # Examples
///
/// ```
/// use std::net::SocketAddr;
///
/// use rproxy_server::ListenAddr;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let address: ListenAddr = "127.0.0.1:8080".parse()?;
/// assert_eq!(address, ListenAddr::from(SocketAddr::from(([127, 0, 0, 1], 8080))));
/// # Ok(())
/// # }
/// ```
///
/// # Examples
///
/// ```
/// use std::net::SocketAddr;
///
/// use rproxy_server::ListenAddr;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let address: ListenAddr = "127.0.0.1:8080".parse()?;
/// assert_eq!(address, ListenAddr::from(SocketAddr::from(([127, 0, 0, 1], 8080))));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ListenAddr {
    /// The address and port of a TCP socket. With port 0, the system chooses the port.
    Tcp(SocketAddr),
    /// The path of a Unix socket. A stale socket file is replaced.
    Unix(PathBuf),
}

/// The error for an invalid [`ListenAddr`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad listen address {0:?}: expected ADDRESS:PORT, [IPV6]:PORT or unix:/path")]
pub struct ListenAddrError(String);

impl FromStr for ListenAddr {
    type Err = ListenAddrError;

    fn from_str(text: &str) -> Result<Self, ListenAddrError> {
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Ok(ListenAddr::Unix(path.into())),
            Some(_) => Err(ListenAddrError(text.to_owned())),
            None => text.parse().map(ListenAddr::Tcp).map_err(|_| ListenAddrError(text.to_owned())),
        }
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddr::Tcp(address) => address.fmt(f),
            ListenAddr::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl From<SocketAddr> for ListenAddr {
    fn from(address: SocketAddr) -> Self {
        ListenAddr::Tcp(address)
    }
}

/// A bound listening socket.
#[derive(Debug)]
pub(crate) enum BoundSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl ListenAddr {
    /// Binds the address, or uses inherited sockets, and returns the listening sockets of each worker.
    ///
    /// For TCP, each worker has a separate socket, among which the kernel distributes connections. A Unix socket, or one
    /// from a service manager, has a single accept queue, which all workers share.
    pub(crate) fn bind(
        &self,
        workers: usize,
        send_timeout: Duration,
        inherited: Vec<BoundSocket>,
    ) -> io::Result<Vec<Vec<BoundSocket>>> {
        let mut sockets = inherited;
        for socket in &sockets {
            socket.prepare(send_timeout)?;
        }
        if sockets.is_empty() {
            sockets.push(self.bind_first(send_timeout)?);
        }
        while sockets.len() < workers {
            let another = sockets[0].another(send_timeout)?;
            sockets.push(another);
        }
        let mut per_worker: Vec<_> = (0..workers).map(|_| Vec::new()).collect();
        // An old process may have had more workers, and the accept queue of each inherited socket must be served.
        for (index, socket) in sockets.into_iter().enumerate() {
            per_worker[index % workers].push(socket);
        }
        Ok(per_worker)
    }

    fn bind_first(&self, send_timeout: Duration) -> io::Result<BoundSocket> {
        match self {
            ListenAddr::Tcp(address) => {
                // With SO_REUSEPORT, another process of this user could already listen on the port without an error.
                // Binding once without the option detects that.
                drop(tcp(*address, false, send_timeout)?);
                tcp(*address, true, send_timeout).map(BoundSocket::Tcp)
            }
            ListenAddr::Unix(path) => {
                remove_stale(path)?;
                let listener = UnixListener::bind(path)?;
                listener.set_nonblocking(true)?;
                Ok(BoundSocket::Unix(listener))
            }
        }
    }

    /// Returns whether this configured address matches the bound address of an inherited socket.
    ///
    /// All unspecified addresses match each other, because the port `443` in a unit file is bound to `[::]:443`.
    pub(crate) fn matches(&self, address: &ListenAddr) -> bool {
        match (self, address) {
            (ListenAddr::Tcp(configured), ListenAddr::Tcp(bound)) => {
                let are_unspecified = configured.ip().is_unspecified() && bound.ip().is_unspecified();
                configured.port() == bound.port() && (configured.ip() == bound.ip() || are_unspecified)
            }
            _ => self == address,
        }
    }
}

impl BoundSocket {
    pub(crate) fn address(&self) -> io::Result<ListenAddr> {
        match self {
            BoundSocket::Tcp(listener) => listener.local_addr().map(ListenAddr::Tcp),
            BoundSocket::Unix(listener) => {
                let address = listener.local_addr()?;
                let path = address.as_pathname().ok_or(io::ErrorKind::AddrNotAvailable)?;
                Ok(ListenAddr::Unix(path.to_owned()))
            }
        }
    }

    /// Duplicates the file descriptor of this socket.
    pub(crate) fn duplicate(&self) -> io::Result<OwnedFd> {
        Ok(match self {
            BoundSocket::Tcp(listener) => listener.try_clone()?.into(),
            BoundSocket::Unix(listener) => listener.try_clone()?.into(),
        })
    }

    /// Binds another socket to the same address if the address is reusable, else duplicates this socket.
    fn another(&self, send_timeout: Duration) -> io::Result<Self> {
        match self {
            BoundSocket::Tcp(listener) if SockRef::from(listener).reuse_port()? => {
                tcp(listener.local_addr()?, true, send_timeout).map(BoundSocket::Tcp)
            }
            BoundSocket::Tcp(listener) => listener.try_clone().map(BoundSocket::Tcp),
            BoundSocket::Unix(listener) => listener.try_clone().map(BoundSocket::Unix),
        }
    }

    /// Sets the options of an inherited socket to the values for a new socket.
    fn prepare(&self, send_timeout: Duration) -> io::Result<()> {
        match self {
            BoundSocket::Tcp(listener) => {
                set_send_timeout(SockRef::from(listener), send_timeout)?;
                listener.set_nonblocking(true)
            }
            BoundSocket::Unix(listener) => listener.set_nonblocking(true),
        }
    }
}

impl TryFrom<OwnedFd> for BoundSocket {
    type Error = io::Error;

    fn try_from(descriptor: OwnedFd) -> io::Result<Self> {
        let socket = Socket::from(descriptor);
        let address = socket.local_addr()?;
        match socket.is_listener()? {
            true if address.is_unix() => Ok(BoundSocket::Unix(OwnedFd::from(socket).into())),
            true if address.as_socket().is_some() => Ok(BoundSocket::Tcp(socket.into())),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the inherited file descriptor is not a listening socket",
            )),
        }
    }
}

fn tcp(address: SocketAddr, reuse_port: bool, send_timeout: Duration) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    if address.is_ipv6() {
        // `[::]` also accepts IPv4, regardless of the system's default.
        socket.set_only_v6(false)?;
    }
    set_send_timeout(SockRef::from(&socket), send_timeout)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Sets `TCP_USER_TIMEOUT` (tcp(7)), which accepted connections inherit.
///
/// The kernel then closes the connection of a client that acknowledges no data, without a timer in this process.
pub(crate) fn set_send_timeout(socket: SockRef<'_>, timeout: Duration) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(timeout))?;
    #[cfg(not(target_os = "linux"))]
    let _ = (socket, timeout);
    Ok(())
}

/// Removes a socket file on which no process listens.
///
/// A socket in use, or another type of file, is kept, so that binding fails.
fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if metadata.file_type().is_socket() && std::os::unix::net::UnixStream::connect(path).is_err() {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

/// The length of the accept queue, which the kernel limits to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::InheritedSockets;

    const SEND_TIMEOUT: Duration = Duration::from_secs(60);

    #[test]
    fn listen_addr_round_trips_and_rejects_invalid_addresses() {
        for text in ["0.0.0.0:8080", "[::1]:443", "unix:/run/rproxy.sock"] {
            assert_eq!(text.parse::<ListenAddr>().unwrap().to_string(), text);
        }
        for text in ["8080", "localhost:80", "unix:relative", "1.2.3.4:99999", ""] {
            assert!(text.parse::<ListenAddr>().is_err(), "{text}");
        }
    }

    #[test]
    fn bind_returns_an_error_if_the_port_is_in_use() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = ListenAddr::from(other.local_addr().unwrap());
        assert_eq!(taken.bind(2, SEND_TIMEOUT, Vec::new()).err().unwrap().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn sockets_of_several_workers_share_one_port() {
        let sockets =
            ListenAddr::from("127.0.0.1:0".parse::<SocketAddr>().unwrap()).bind(3, SEND_TIMEOUT, Vec::new()).unwrap();
        let addresses: Vec<_> = sockets.iter().flatten().map(|socket| socket.address().unwrap()).collect();
        assert_eq!(addresses.len(), 3);
        assert!(addresses.iter().all(|address| *address == addresses[0]), "{addresses:?}");
    }

    #[test]
    fn bind_replaces_a_stale_unix_socket_but_not_one_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let listen = ListenAddr::Unix(folder.path().join("s"));
        drop(listen.bind(1, SEND_TIMEOUT, Vec::new()).unwrap());
        let live = listen.bind(1, SEND_TIMEOUT, Vec::new()).unwrap();
        assert_eq!(listen.bind(1, SEND_TIMEOUT, Vec::new()).err().unwrap().kind(), io::ErrorKind::AddrInUse);
        drop(live);
    }

    #[test]
    fn all_inherited_sockets_are_used_for_any_number_of_workers() {
        let any = ListenAddr::from("127.0.0.1:0".parse::<SocketAddr>().unwrap());
        for (before, after) in [(1, 3), (3, 1), (2, 2)] {
            let old: Vec<_> = any.bind(before, SEND_TIMEOUT, Vec::new()).unwrap().into_iter().flatten().collect();
            let listen = old[0].address().unwrap();
            let passed = old.iter().map(|socket| socket.duplicate().unwrap());
            let inherited = InheritedSockets::from_descriptors(passed).unwrap();
            let new = listen.bind(after, SEND_TIMEOUT, inherited.take(&listen)).unwrap();
            assert!(new.iter().all(|sockets| !sockets.is_empty()));
            assert_eq!(new.iter().flatten().count(), before.max(after));
            assert!(new.iter().flatten().all(|socket| socket.address().unwrap() == listen));
            assert_eq!(inherited.addresses(), []);
        }
    }

    #[test]
    fn inherited_sockets_match_by_address_and_unspecified_addresses_match_each_other() {
        for (configured, bound, is_match) in [
            ("127.0.0.1:443", "127.0.0.1:443", true),
            ("127.0.0.1:443", "127.0.0.1:80", false),
            ("127.0.0.1:443", "0.0.0.0:443", false),
            ("0.0.0.0:443", "[::]:443", true),
            ("unix:/run/a", "unix:/run/a", true),
            ("unix:/run/a", "unix:/run/b", false),
            ("unix:/run/a", "[::]:443", false),
        ] {
            let [configured, bound] = [configured, bound].map(|text| text.parse::<ListenAddr>().unwrap());
            assert_eq!(configured.matches(&bound), is_match, "{configured} {bound}");
        }
    }

    #[test]
    fn rejects_inherited_descriptors_that_are_not_listening_sockets() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(InheritedSockets::from_descriptors([OwnedFd::from(stream)]).is_err());
        assert!(
            InheritedSockets::from_descriptors([OwnedFd::from(std::fs::File::open("/dev/null").unwrap())]).is_err()
        );
    }
}
