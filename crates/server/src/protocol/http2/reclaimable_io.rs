//! A socket for hyper that can be reclaimed from hyper without closing the connection.
//!
//! hyper cannot return the socket of a connection with upgrades. But it shuts down and drops the socket when the connection
//! is closed. After a reclaim, the shutdown does nothing, and the dropped socket is returned to its owner.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Wraps a socket, and returns a handle that can reclaim it.
pub(crate) fn reclaimable<T>(io: T) -> (ReclaimableIo<T>, ReclaimHandle<T>) {
    let state = Arc::new(ReclaimState { is_reclaimed: AtomicBool::new(false), returned: Mutex::new(None) });
    (ReclaimableIo { io: Some(io), state: Arc::clone(&state) }, ReclaimHandle { state })
}

/// A socket that is returned to its handle on drop, after a call of [`ReclaimHandle::reclaim`].
#[derive(Debug)]
pub(crate) struct ReclaimableIo<T> {
    /// The wrapped socket, or `None` while `drop` runs.
    io: Option<T>,
    state: Arc<ReclaimState<T>>,
}

/// A handle that reclaims a [`ReclaimableIo`].
#[derive(Debug)]
pub(crate) struct ReclaimHandle<T> {
    state: Arc<ReclaimState<T>>,
}

#[derive(Debug)]
struct ReclaimState<T> {
    is_reclaimed: AtomicBool,
    returned: Mutex<Option<T>>,
}

impl<T> ReclaimHandle<T> {
    /// Disables the shutdown of the socket, so that dropping the [`ReclaimableIo`] moves the socket to this handle.
    pub(crate) fn reclaim(&self) {
        self.state.is_reclaimed.store(true, Relaxed);
    }

    /// Returns the reclaimed socket, if the [`ReclaimableIo`] has been dropped.
    pub(crate) fn take(&self) -> Option<T> {
        self.state.returned.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<T> ReclaimableIo<T> {
    fn is_reclaimed(&self) -> bool {
        self.state.is_reclaimed.load(Relaxed)
    }
}

impl<T: Unpin> ReclaimableIo<T> {
    fn io(self: Pin<&mut Self>) -> io::Result<Pin<&mut T>> {
        self.get_mut().io.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl<T> Drop for ReclaimableIo<T> {
    fn drop(&mut self) {
        if self.is_reclaimed() {
            *self.state.returned.lock().unwrap_or_else(PoisonError::into_inner) = self.io.take();
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for ReclaimableIo<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.io()?.poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for ReclaimableIo<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.io()?.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.io()?.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_reclaimed() {
            return Poll::Ready(Ok(()));
        }
        self.io()?.poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[tokio::test]
    async fn socket_reclaimed_from_hyper_stays_open() {
        let (near, mut far) = duplex(64);
        let (mut reclaimable, reclaim) = reclaimable(near);
        reclaimable.write_all(b"a").await.unwrap();
        reclaim.reclaim();
        reclaimable.shutdown().await.unwrap();
        drop(reclaimable);
        reclaim.take().unwrap().write_all(b"b").await.unwrap();
        let mut read = [0; 2];
        far.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"ab");
    }

    #[tokio::test]
    async fn socket_not_reclaimed_from_hyper_is_shut_down() {
        let (near, mut far) = duplex(64);
        let (mut reclaimable, reclaim) = reclaimable(near);
        reclaimable.shutdown().await.unwrap();
        assert_eq!(far.read(&mut [0; 1]).await.unwrap(), 0);
        drop(reclaimable);
        assert!(reclaim.take().is_none());
    }
}
