//! A socket that hyper has for a time.
//!
//! hyper's connection with upgrades can't be taken apart. It can be closed, though, and closing goes through the
//! socket: one that was recalled only pretends to shut down, and goes back where it came from when hyper drops it.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Lends `io`.
pub(crate) fn lease<T>(io: T) -> (Lease<T>, Lessor<T>) {
    let shared = Arc::new(Shared { is_recalled: AtomicBool::new(false), returned: Mutex::new(None) });
    (Lease { io: Some(io), shared: Arc::clone(&shared) }, Lessor { shared })
}

/// What is lent.
#[derive(Debug)]
pub(crate) struct Lease<T> {
    /// There until this is dropped.
    io: Option<T>,
    shared: Arc<Shared<T>>,
}

/// Who gets it back.
#[derive(Debug)]
pub(crate) struct Lessor<T> {
    shared: Arc<Shared<T>>,
}

#[derive(Debug)]
struct Shared<T> {
    is_recalled: AtomicBool,
    returned: Mutex<Option<T>>,
}

impl<T> Lessor<T> {
    /// From now on, a shutdown does nothing, and what is dropped comes back.
    pub(crate) fn recall(&self) {
        self.shared.is_recalled.store(true, Relaxed);
    }

    /// What has come back.
    pub(crate) fn returned(&self) -> Option<T> {
        self.shared.returned.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<T> Lease<T> {
    fn is_recalled(&self) -> bool {
        self.shared.is_recalled.load(Relaxed)
    }
}

impl<T: Unpin> Lease<T> {
    fn io(self: Pin<&mut Self>) -> io::Result<Pin<&mut T>> {
        self.get_mut().io.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl<T> Drop for Lease<T> {
    fn drop(&mut self) {
        if self.is_recalled() {
            *self.shared.returned.lock().unwrap_or_else(PoisonError::into_inner) = self.io.take();
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Lease<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.io()?.poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Lease<T> {
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
        if self.is_recalled() {
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
    async fn what_was_recalled_comes_back_open() {
        let (near, mut far) = duplex(64);
        let (mut lease, lessor) = lease(near);
        lease.write_all(b"a").await.unwrap();
        lessor.recall();
        lease.shutdown().await.unwrap();
        drop(lease);
        lessor.returned().unwrap().write_all(b"b").await.unwrap();
        let mut read = [0; 2];
        far.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"ab");
    }

    #[tokio::test]
    async fn what_was_not_is_shut_down_and_gone() {
        let (near, mut far) = duplex(64);
        let (mut lease, lessor) = lease(near);
        lease.shutdown().await.unwrap();
        assert_eq!(far.read(&mut [0; 1]).await.unwrap(), 0);
        drop(lease);
        assert!(lessor.returned().is_none());
    }
}
