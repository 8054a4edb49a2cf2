//! Handover of listening sockets from an old to a new process, for zero-downtime upgrades.
//!
//! The listening sockets are sent over a Unix socket (unix(7), `SCM_RIGHTS`). Both processes then share the same sockets,
//! so each connection in their accept queues is accepted by one of them. The old process keeps serving until the new one
//! confirms that it serves. If the new process fails before that, nothing has changed.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg, sockopt::socket_peercred,
};
use rustix::process::geteuid;
use tokio::task::spawn_blocking;

use crate::InheritedSockets;

/// The side of a socket handover that receives the listening sockets, in the new process.
///
/// # Examples
///
/// ```no_run
/// use std::path::Path;
///
/// use rproxy_server::{HandoverClient, InheritedSockets};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (old_process, sockets) = match HandoverClient::receive(Path::new("/run/app/handover.sock"))? {
///     Some((client, sockets)) => (Some(client), sockets),
///     None => (None, InheritedSockets::none()),
/// };
/// // Start a server with `Server::inherit(sockets)`, then:
/// if let Some(client) = old_process {
///     client.confirm()?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct HandoverClient {
    stream: UnixStream,
}

/// The error of a failed socket handover.
#[derive(Debug, thiserror::Error)]
#[error("socket handover at {} failed", path.display())]
#[non_exhaustive]
pub struct HandoverError {
    /// The path of the Unix socket for the handover.
    pub path: PathBuf,
    /// The I/O error that caused the handover to fail.
    pub source: io::Error,
}

impl HandoverClient {
    /// Receives the listening sockets of the old process, or returns `None` if no process listens at `path`.
    ///
    /// # Errors
    ///
    /// Returns an error if the process does not respond, or if it belongs to another user.
    pub fn receive(path: &Path) -> Result<Option<(Self, InheritedSockets)>, HandoverError> {
        Self::receive_from(path, geteuid().as_raw())
    }

    /// Receives the listening sockets like [`receive`](Self::receive), also from a process that runs as `user`.
    ///
    /// A process that is started as root and then changes its user receives the sockets from an old process that has done
    /// so.
    ///
    /// # Errors
    ///
    /// Returns an error if the process does not respond, or if it belongs to a third user.
    pub fn receive_from(path: &Path, user: u32) -> Result<Option<(Self, InheritedSockets)>, HandoverError> {
        let failed = |source| HandoverError { path: path.to_owned(), source };
        let stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            // The connection to a stale socket file is refused.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => return Err(failed(error)),
        };
        let sockets = check_owner(&stream, user)
            .and_then(|()| receive_sockets(&stream))
            .and_then(InheritedSockets::from_descriptors);
        Ok(Some((Self { stream }, sockets.map_err(failed)?)))
    }

    /// Confirms that this process serves connections; the old process then drains and exits.
    ///
    /// # Errors
    ///
    /// Returns an error if the old process has already exited.
    pub fn confirm(mut self) -> io::Result<()> {
        self.stream.write_all(&[CONFIRMED])
    }
}

/// The side of a socket handover that sends the listening sockets, in the old process.
///
/// # Examples
///
/// ```no_run
/// use std::path::Path;
///
/// use rproxy_server::{Handle, HandoverListener};
///
/// # async fn run(handle: Handle) -> Result<(), Box<dyn std::error::Error>> {
/// let listener = HandoverListener::bind(Path::new("/run/app/handover.sock"))?;
/// listener.hand_over(|| handle.listeners()).await;
/// handle.drain();
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct HandoverListener {
    listener: tokio::net::UnixListener,
}

impl HandoverListener {
    /// Listens for a new process on a Unix socket at `path`, replacing an existing socket file.
    ///
    /// # Errors
    ///
    /// Returns an error if the path cannot be bound.
    ///
    /// # Panics
    ///
    /// Panics if it is called outside of a Tokio runtime.
    pub fn bind(path: &Path) -> Result<Self, HandoverError> {
        let listener = bind(path).and_then(tokio::net::UnixListener::from_std);
        listener.map(|listener| Self { listener }).map_err(|source| HandoverError { path: path.to_owned(), source })
    }

    /// Waits until a new process has received the listening sockets and confirmed that it serves connections.
    ///
    /// `sockets` is called for each new process that connects. A failed handover is logged, and the next one awaited.
    pub async fn hand_over(&self, sockets: impl Fn() -> io::Result<Vec<OwnedFd>>) {
        loop {
            let accepted = match self.listener.accept().await {
                Ok((stream, _)) => stream.into_std().and_then(|stream| Ok((stream, sockets()?))),
                Err(error) => Err(error),
            };
            let sent = match accepted {
                Ok((stream, sockets)) => spawn_blocking(move || send_sockets(stream, &sockets)).await,
                Err(error) => Ok(Err(error)),
            };
            match sent.map_err(io::Error::other).flatten() {
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!(%error, "socket handover failed, this process continues to serve connections")
                }
            }
        }
    }
}

/// Binds a Unix socket and moves it to `path` atomically, so that a process is reachable there at any time.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", std::process::id()));
    let _ = fs::remove_file(&temporary);
    let listener = UnixListener::bind(&temporary)?;
    fs::set_permissions(&temporary, Permissions::from_mode(0o600))?;
    fs::rename(&temporary, path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Sends the listening sockets one by one, then an end marker, and waits for the new process's confirmation.
fn send_sockets(mut stream: UnixStream, sockets: &[OwnedFd]) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    check_owner(&stream, geteuid().as_raw())?;
    for socket in sockets {
        let descriptors = [socket.as_fd()];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        sendmsg(&stream, &[IoSlice::new(&[SOCKET])], &mut control, SendFlags::NOSIGNAL)?;
    }
    stream.write_all(&[END])?;
    stream.set_read_timeout(Some(CONFIRM_TIMEOUT))?;
    let mut reply = [0];
    stream.read_exact(&mut reply)?;
    match reply {
        [CONFIRMED] => Ok(()),
        _ => {
            Err(io::Error::new(ErrorKind::InvalidData, "unknown reply from the new process during the socket handover"))
        }
    }
}

fn receive_sockets(stream: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    stream.set_read_timeout(Some(RECEIVE_TIMEOUT))?;
    let mut sockets = Vec::new();
    loop {
        let mut byte = [0];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                sockets.extend(descriptors);
            }
        }
        match byte {
            _ if received.bytes == 0 => return Err(ErrorKind::UnexpectedEof.into()),
            [SOCKET] => {}
            [END] => return Ok(sockets),
            _ => {
                return Err(io::Error::new(
                    ErrorKind::InvalidData,
                    "the process at the handover socket is not an rproxy server",
                ));
            }
        }
    }
}

/// Checks that the peer process runs as the same user as this process, as `user` or as root.
///
/// The mode of the socket file is not enough, because other users may be able to replace files in its folder.
fn check_owner(stream: &UnixStream, user: u32) -> io::Result<()> {
    let peer = socket_peercred(stream)?.uid;
    match peer == geteuid() || peer.is_root() || peer.as_raw() == user {
        true => Ok(()),
        false => Err(io::Error::new(
            ErrorKind::PermissionDenied,
            "the process at the handover socket belongs to another user",
        )),
    }
}

const SOCKET: u8 = b'S';
const END: u8 = b'E';
const CONFIRMED: u8 = b'R';

/// The timeout for receiving the sockets of the old process.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// The timeout for the new process to start and to confirm that it serves connections.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{SocketAddr, TcpListener, TcpStream};

    /// Returns two duplicates of a listening socket, as a server with two workers would.
    fn duplicates(listener: &TcpListener) -> io::Result<Vec<OwnedFd>> {
        Ok(vec![listener.try_clone()?.into(), listener.try_clone()?.into()])
    }

    #[tokio::test]
    async fn handover_ends_only_when_a_new_process_confirms_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("handover");
        assert!(HandoverClient::receive(&path).unwrap().is_none(), "no process listens yet");

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let handover = HandoverListener::bind(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let handed_over = tokio::spawn({
            let listener = listener.try_clone().unwrap();
            async move { handover.hand_over(|| duplicates(&listener)).await }
        });

        let receive = {
            let path = path.clone();
            move || HandoverClient::receive(&path).unwrap().unwrap()
        };
        // A new process that exits without a confirmation changes nothing.
        let (failed, inherited) = spawn_blocking(receive.clone()).await.unwrap();
        assert_eq!(inherited.addresses(), [address.into(), address.into()]);
        drop((failed, inherited));
        let (client, inherited) = spawn_blocking(receive).await.unwrap();
        assert!(!handed_over.is_finished());
        client.confirm().unwrap();
        handed_over.await.unwrap();

        drop(listener);
        TcpStream::connect(address).expect("the received socket still listens");
        assert_eq!(inherited.take(&SocketAddr::from(([127, 0, 0, 1], 1)).into()).len(), 0);
        assert_eq!(inherited.take(&address.into()).len(), 2);
        assert_eq!(inherited.addresses(), []);
    }

    #[tokio::test]
    async fn stale_handover_socket_file_is_ignored_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("handover");
        drop(HandoverListener::bind(&path).unwrap());
        assert!(HandoverClient::receive(&path).unwrap().is_none());
        drop(HandoverListener::bind(&path).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn unrelated_process_at_the_handover_path_causes_an_error_with_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("handover");
        let other = UnixListener::bind(&path).unwrap();
        let received = std::thread::spawn({
            let path = path.clone();
            move || HandoverClient::receive(&path).unwrap_err()
        });
        other.accept().unwrap().0.write_all(b"HTTP").unwrap();
        let error = received.join().unwrap();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert!(error.source.to_string().contains("not an rproxy server"), "{}", error.source);
    }
}
