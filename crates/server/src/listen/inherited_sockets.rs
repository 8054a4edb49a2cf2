//! Listening sockets that this process receives from a service manager or from the old process.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use listenfd::ListenFd;

use crate::ListenAddr;
use crate::listen::address::BoundSocket;

/// Inherited listening sockets, which a server uses instead of binding their addresses again.
///
/// # Examples
///
/// ```
/// use rproxy_server::{InheritedSockets, Server};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let inherited = InheritedSockets::from_env()?;
/// let server = Server::bind("0.0.0.0:443".parse()?).inherit(inherited);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct InheritedSockets {
    sockets: Mutex<Vec<BoundSocket>>,
}

impl InheritedSockets {
    /// Returns an empty set of sockets.
    pub fn none() -> Self {
        Self::default()
    }

    /// Returns the sockets that systemd socket activation passes in `LISTEN_FDS` (sd_listen_fds(3)).
    ///
    /// The set is empty if there are no sockets for this process, or if they have already been taken.
    ///
    /// # Errors
    ///
    /// Returns an error if one of the descriptors is not a listening socket.
    pub fn from_env() -> io::Result<Self> {
        let mut passed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..passed.len() {
            let socket = match passed.take_tcp_listener(index) {
                Ok(tcp) => tcp.map(BoundSocket::Tcp),
                Err(_) => passed.take_unix_listener(index)?.map(BoundSocket::Unix),
            };
            sockets.extend(socket);
        }
        Ok(Self { sockets: Mutex::new(sockets) })
    }

    /// Creates a set from the descriptors of listening sockets. Returns an error if one of them is not a listening
    /// socket.
    pub(crate) fn from_descriptors(descriptors: impl IntoIterator<Item = OwnedFd>) -> io::Result<Self> {
        let sockets = descriptors.into_iter().map(BoundSocket::try_from).collect::<Result<_, _>>()?;
        Ok(Self { sockets: Mutex::new(sockets) })
    }

    /// Returns a set with the sockets of `self` and `other`.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        self.sockets().append(&mut other.sockets());
        self
    }

    /// Returns the addresses of the inherited sockets that no server uses yet.
    pub fn addresses(&self) -> Vec<ListenAddr> {
        self.sockets().iter().filter_map(|socket| socket.address().ok()).collect()
    }

    /// Removes the sockets that match a listen address from the set, and returns them.
    pub(crate) fn take(&self, listen: &ListenAddr) -> Vec<BoundSocket> {
        let is_match = |socket: &mut BoundSocket| socket.address().is_ok_and(|address| listen.matches(&address));
        self.sockets().extract_if(.., is_match).collect()
    }

    fn sockets(&self) -> MutexGuard<'_, Vec<BoundSocket>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
