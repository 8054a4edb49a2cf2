//! One process takes the listening sockets of another, which then ends: no connection is refused meanwhile.
//!
//! The sockets go over a Unix socket (unix(7), `SCM_RIGHTS`). They are the same sockets in both processes, so whatever
//! waits in their queues is accepted by the one or the other. The older process goes on until the younger one says that
//! it serves; one that fails before it has said so has changed nothing.

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

use crate::Inherited;

/// The process that served before this one, and still does.
#[derive(Debug)]
pub struct Predecessor {
    stream: UnixStream,
}

/// A process that can't be succeeded, or can't succeed.
#[derive(Debug, thiserror::Error)]
#[error("socket handover at {} failed", path.display())]
#[non_exhaustive]
pub struct HandoverError {
    /// The Unix socket.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl Predecessor {
    /// Asks the process at `path` for its listening sockets. `None`: there is no such process.
    ///
    /// # Errors
    ///
    /// A process that is there and does not answer, or belongs to somebody else.
    pub fn find(path: &Path) -> Result<Option<(Self, Inherited)>, HandoverError> {
        let failed = |source| HandoverError { path: path.to_owned(), source };
        let stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            // A file that is left over is nobody.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => return Err(failed(error)),
        };
        let sockets = is_ours(&stream).and_then(|()| receive(&stream)).and_then(Inherited::from_descriptors);
        Ok(Some((Self { stream }, sockets.map_err(failed)?)))
    }

    /// Says that this process serves: the predecessor drains and ends.
    ///
    /// # Errors
    ///
    /// It is gone already.
    pub fn dismiss(mut self) -> io::Result<()> {
        self.stream.write_all(&[SERVES])
    }
}

/// Waits for a process that is to take over from this one.
#[derive(Debug)]
pub struct Successor {
    listener: tokio::net::UnixListener,
}

impl Successor {
    /// Listens at `path`, in the place of whoever did before. Wants to be called inside a runtime.
    ///
    /// # Errors
    ///
    /// A path that can't be listened on.
    pub fn listen(path: &Path) -> Result<Self, HandoverError> {
        let listener = listen(path).and_then(tokio::net::UnixListener::from_std);
        listener.map(|listener| Self { listener }).map_err(|source| HandoverError { path: path.to_owned(), source })
    }

    /// Resolves when another process has taken `sockets()` and serves.
    pub async fn takes_over(&self, sockets: impl Fn() -> io::Result<Vec<OwnedFd>>) {
        loop {
            let asked = match self.listener.accept().await {
                Ok((stream, _)) => stream.into_std().and_then(|stream| Ok((stream, sockets()?))),
                Err(error) => Err(error),
            };
            let given = match asked {
                Ok((stream, sockets)) => spawn_blocking(move || give(stream, &sockets)).await,
                Err(error) => Ok(Err(error)),
            };
            match given.map_err(io::Error::other).flatten() {
                Ok(()) => return,
                Err(error) => tracing::warn!(%error, "another process did not take over"),
            }
        }
    }
}

/// A socket file is replaced in one step, so that there is always one: a stale one, or the predecessor's.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(format!(".{}", std::process::id()));
    let _ = fs::remove_file(&fresh);
    let listener = UnixListener::bind(&fresh)?;
    fs::set_permissions(&fresh, Permissions::from_mode(0o600))?;
    fs::rename(&fresh, path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The sockets, one with each byte, then the end; and the answer.
fn give(mut stream: UnixStream, sockets: &[OwnedFd]) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    is_ours(&stream)?;
    for socket in sockets {
        let descriptors = [socket.as_fd()];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        sendmsg(&stream, &[IoSlice::new(&[SOCKET])], &mut control, SendFlags::NOSIGNAL)?;
    }
    stream.write_all(&[END])?;
    stream.set_read_timeout(Some(START))?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    match answer {
        [SERVES] => Ok(()),
        _ => Err(io::Error::new(ErrorKind::InvalidData, "unknown answer")),
    }
}

fn receive(stream: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    stream.set_read_timeout(Some(ANSWER))?;
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
            _ => return Err(io::Error::new(ErrorKind::InvalidData, "not a predecessor")),
        }
    }
}

/// The socket's file is for its owner alone, but the folder it is in may be anybody's.
fn is_ours(stream: &UnixStream) -> io::Result<()> {
    let peer = socket_peercred(stream)?.uid;
    match peer == geteuid() || peer.is_root() {
        true => Ok(()),
        false => Err(io::Error::new(ErrorKind::PermissionDenied, "the process belongs to another user")),
    }
}

const SOCKET: u8 = b'S';
const END: u8 = b'E';
const SERVES: u8 = b'R';

/// How long a predecessor may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// How long a successor may take to start.
const START: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{SocketAddr, TcpListener, TcpStream};

    fn sockets(of: &TcpListener) -> io::Result<Vec<OwnedFd>> {
        Ok(vec![of.try_clone()?.into(), of.try_clone()?.into()])
    }

    #[tokio::test]
    async fn sockets_go_from_one_to_the_next_when_it_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("take-over");
        assert!(Predecessor::find(&path).unwrap().is_none(), "nobody was here before");

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let successor = Successor::listen(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let taken = tokio::spawn({
            let listener = listener.try_clone().unwrap();
            async move { successor.takes_over(|| sockets(&listener)).await }
        });

        let find = {
            let path = path.clone();
            move || Predecessor::find(&path).unwrap().unwrap()
        };
        // One that gives up has changed nothing.
        let (failed, inherited) = spawn_blocking(find.clone()).await.unwrap();
        assert_eq!(inherited.addresses(), [address.into(), address.into()]);
        drop((failed, inherited));
        let (predecessor, inherited) = spawn_blocking(find).await.unwrap();
        assert!(!taken.is_finished());
        predecessor.dismiss().unwrap();
        taken.await.unwrap();

        drop(listener);
        TcpStream::connect(address).expect("the successor's copy is the same socket");
        assert_eq!(inherited.take(&SocketAddr::from(([127, 0, 0, 1], 1)).into()).len(), 0);
        assert_eq!(inherited.take(&address.into()).len(), 2);
        assert_eq!(inherited.addresses(), []);
    }

    #[tokio::test]
    async fn a_file_that_is_left_over_is_nobody_and_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("take-over");
        drop(Successor::listen(&path).unwrap());
        assert!(Predecessor::find(&path).unwrap().is_none());
        drop(Successor::listen(&path).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn somebody_else_at_the_path_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("take-over");
        let other = UnixListener::bind(&path).unwrap();
        let asked = std::thread::spawn({
            let path = path.clone();
            move || Predecessor::find(&path).unwrap_err()
        });
        other.accept().unwrap().0.write_all(b"HTTP").unwrap();
        let error = asked.join().unwrap();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert!(error.source.to_string().contains("not a predecessor"), "{}", error.source);
    }
}
