//! Where a server listens.

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

use crate::Inherited;

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

/// A bound socket.
#[derive(Debug)]
pub(crate) enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listen {
    /// The sockets of each worker. For TCP each has one of its own, over which the kernel spreads connections; a Unix
    /// socket, and one from a service manager, has one queue, which all workers take from.
    pub(crate) fn bind(
        &self,
        workers: usize,
        send_timeout: Duration,
        inherited: &Inherited,
    ) -> io::Result<Vec<Vec<Bound>>> {
        let mut sockets = inherited.take(self);
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
        let mut dealt: Vec<_> = (0..workers).map(|_| Vec::new()).collect();
        // A predecessor may have had more workers, and each of its sockets has a queue that somebody has to take from.
        for (index, socket) in sockets.into_iter().enumerate() {
            dealt[index % workers].push(socket);
        }
        Ok(dealt)
    }

    fn bind_first(&self, send_timeout: Duration) -> io::Result<Bound> {
        match self {
            Listen::Tcp(address) => {
                // SO_REUSEPORT lets a second process of this user share the port in silence.
                // Binding once without it makes a port that is taken an error, as users expect.
                drop(tcp(*address, false, send_timeout)?);
                tcp(*address, true, send_timeout).map(Bound::Tcp)
            }
            Listen::Unix(path) => {
                remove_stale(path)?;
                let listener = UnixListener::bind(path)?;
                listener.set_nonblocking(true)?;
                Ok(Bound::Unix(listener))
            }
        }
    }

    /// Whether a socket that is bound to `address` is one to listen on. Service managers write `443` and mean every
    /// address, as `[::]:443`.
    pub(crate) fn means(&self, address: &Listen) -> bool {
        match (self, address) {
            (Listen::Tcp(wanted), Listen::Tcp(bound)) => {
                let every = wanted.ip().is_unspecified() && bound.ip().is_unspecified();
                wanted.port() == bound.port() && (wanted.ip() == bound.ip() || every)
            }
            _ => self == address,
        }
    }
}

impl Bound {
    pub(crate) fn address(&self) -> io::Result<Listen> {
        match self {
            Bound::Tcp(listener) => listener.local_addr().map(Listen::Tcp),
            Bound::Unix(listener) => {
                let address = listener.local_addr()?;
                let path = address.as_pathname().ok_or(io::ErrorKind::AddrNotAvailable)?;
                Ok(Listen::Unix(path.to_owned()))
            }
        }
    }

    /// Another descriptor of this socket.
    pub(crate) fn descriptor(&self) -> io::Result<OwnedFd> {
        Ok(match self {
            Bound::Tcp(listener) => listener.try_clone()?.into(),
            Bound::Unix(listener) => listener.try_clone()?.into(),
        })
    }

    /// A socket at the same address, where that can be, else this one again.
    fn another(&self, send_timeout: Duration) -> io::Result<Self> {
        match self {
            Bound::Tcp(listener) if SockRef::from(listener).reuse_port()? => {
                tcp(listener.local_addr()?, true, send_timeout).map(Bound::Tcp)
            }
            Bound::Tcp(listener) => listener.try_clone().map(Bound::Tcp),
            Bound::Unix(listener) => listener.try_clone().map(Bound::Unix),
        }
    }

    /// Makes of an inherited socket what our own are.
    fn prepare(&self, send_timeout: Duration) -> io::Result<()> {
        match self {
            Bound::Tcp(listener) => {
                set_send_timeout(SockRef::from(listener), send_timeout)?;
                listener.set_nonblocking(true)
            }
            Bound::Unix(listener) => listener.set_nonblocking(true),
        }
    }
}

impl TryFrom<OwnedFd> for Bound {
    type Error = io::Error;

    fn try_from(descriptor: OwnedFd) -> io::Result<Self> {
        let socket = Socket::from(descriptor);
        let address = socket.local_addr()?;
        match socket.is_listener()? {
            true if address.is_unix() => Ok(Bound::Unix(OwnedFd::from(socket).into())),
            true if address.as_socket().is_some() => Ok(Bound::Tcp(socket.into())),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a listening socket")),
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
    set_send_timeout(SockRef::from(&socket), send_timeout)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Connections inherit it. A client that takes no bytes is given up by the kernel (tcp(7), `TCP_USER_TIMEOUT`), which
/// costs us nothing.
fn set_send_timeout(socket: SockRef<'_>, timeout: Duration) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(timeout))?;
    #[cfg(not(target_os = "linux"))]
    let _ = (socket, timeout);
    Ok(())
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
        assert_eq!(taken.bind(2, SEND_TIMEOUT, &Inherited::none()).err().unwrap().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn workers_share_one_port() {
        let sockets = Listen::from("127.0.0.1:0".parse::<SocketAddr>().unwrap())
            .bind(3, SEND_TIMEOUT, &Inherited::none())
            .unwrap();
        let addresses: Vec<_> = sockets.iter().flatten().map(|socket| socket.address().unwrap()).collect();
        assert_eq!(addresses.len(), 3);
        assert!(addresses.iter().all(|address| *address == addresses[0]), "{addresses:?}");
    }

    #[test]
    fn a_stale_unix_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let listen = Listen::Unix(folder.path().join("s"));
        drop(listen.bind(1, SEND_TIMEOUT, &Inherited::none()).unwrap());
        let live = listen.bind(1, SEND_TIMEOUT, &Inherited::none()).unwrap();
        assert_eq!(listen.bind(1, SEND_TIMEOUT, &Inherited::none()).err().unwrap().kind(), io::ErrorKind::AddrInUse);
        drop(live);
    }

    #[test]
    fn inherited_sockets_are_all_in_use_whatever_the_number_of_workers() {
        let any = Listen::from("127.0.0.1:0".parse::<SocketAddr>().unwrap());
        for (before, after) in [(1, 3), (3, 1), (2, 2)] {
            let old: Vec<_> =
                any.bind(before, SEND_TIMEOUT, &Inherited::none()).unwrap().into_iter().flatten().collect();
            let listen = old[0].address().unwrap();
            let passed = old.iter().map(|socket| socket.descriptor().unwrap());
            let inherited = Inherited::from_descriptors(passed).unwrap();
            let new = listen.bind(after, SEND_TIMEOUT, &inherited).unwrap();
            assert!(new.iter().all(|sockets| !sockets.is_empty()));
            assert_eq!(new.iter().flatten().count(), before.max(after));
            assert!(new.iter().flatten().all(|socket| socket.address().unwrap() == listen));
            assert_eq!(inherited.addresses(), []);
        }
    }

    #[test]
    fn a_socket_is_meant_by_its_address_and_every_address_is_every_address() {
        for (wanted, bound, is_meant) in [
            ("127.0.0.1:443", "127.0.0.1:443", true),
            ("127.0.0.1:443", "127.0.0.1:80", false),
            ("127.0.0.1:443", "0.0.0.0:443", false),
            ("0.0.0.0:443", "[::]:443", true),
            ("unix:/run/a", "unix:/run/a", true),
            ("unix:/run/a", "unix:/run/b", false),
            ("unix:/run/a", "[::]:443", false),
        ] {
            let [wanted, bound] = [wanted, bound].map(|text| text.parse::<Listen>().unwrap());
            assert_eq!(wanted.means(&bound), is_meant, "{wanted} {bound}");
        }
    }

    #[test]
    fn what_does_not_listen_is_no_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(Inherited::from_descriptors([OwnedFd::from(stream)]).is_err());
        assert!(Inherited::from_descriptors([OwnedFd::from(std::fs::File::open("/dev/null").unwrap())]).is_err());
    }
}
