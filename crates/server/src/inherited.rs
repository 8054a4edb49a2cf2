//! Listening sockets that were open before this server was: a service manager's, or a predecessor's.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use listenfd::ListenFd;

use crate::Listen;
use crate::listen::Bound;

/// Sockets that wait for a server that listens on their address.
///
/// ```
/// use rproxy_server::{Inherited, Server};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let inherited = Inherited::from_env()?;
/// let server = Server::bind("0.0.0.0:443".parse()?).inherit(inherited);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Mutex<Vec<Bound>>,
}

impl Inherited {
    /// No sockets.
    pub fn none() -> Self {
        Self::default()
    }

    /// Those of systemd's socket activation: `LISTEN_FDS` (sd_listen_fds(3)). None, where there are none for this
    /// process. What was taken here once is not there a second time.
    ///
    /// # Errors
    ///
    /// A descriptor that is no listening socket.
    pub fn from_env() -> io::Result<Self> {
        let mut passed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..passed.len() {
            let socket = match passed.take_tcp_listener(index) {
                Ok(tcp) => tcp.map(Bound::Tcp),
                Err(_) => passed.take_unix_listener(index)?.map(Bound::Unix),
            };
            sockets.extend(socket);
        }
        Ok(Self { sockets: Mutex::new(sockets) })
    }

    /// These sockets, of which each has to be one that listens.
    pub(crate) fn from_descriptors(descriptors: impl IntoIterator<Item = OwnedFd>) -> io::Result<Self> {
        let sockets = descriptors.into_iter().map(Bound::try_from).collect::<Result<_, _>>()?;
        Ok(Self { sockets: Mutex::new(sockets) })
    }

    /// These, and the other ones.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        self.sockets().append(&mut other.sockets());
        self
    }

    /// The addresses of those that no server has taken.
    pub fn addresses(&self) -> Vec<Listen> {
        self.sockets().iter().filter_map(|socket| socket.address().ok()).collect()
    }

    /// Those that `listen` means.
    pub(crate) fn take(&self, listen: &Listen) -> Vec<Bound> {
        let is_meant = |socket: &mut Bound| socket.address().is_ok_and(|address| listen.means(&address));
        self.sockets().extract_if(.., is_meant).collect()
    }

    fn sockets(&self) -> MutexGuard<'_, Vec<Bound>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
