//! A socket that records the bytes it read and the times of reads and writes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// The activity of a [`MeteredSocket`], shared with the relay.
#[derive(Debug)]
pub(crate) struct SocketActivity {
    since: Instant,
    bytes: AtomicU64,
    /// The time of the last read from the socket, in milliseconds after `since`.
    last_read: AtomicU64,
    /// The time of the last write to the socket, in milliseconds after `since`.
    last_write: AtomicU64,
}

impl SocketActivity {
    pub(crate) fn new() -> Arc<Self> {
        let zero = || AtomicU64::new(0);
        Arc::new(Self { since: Instant::now(), bytes: zero(), last_read: zero(), last_write: zero() })
    }

    /// Returns the number of bytes that were read from the socket.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Returns the time of the last read from the socket.
    pub(crate) fn last_read(&self) -> Instant {
        self.since + Duration::from_millis(self.last_read.load(Relaxed))
    }

    /// Returns the time of the last read from or write to the socket.
    pub(crate) fn last_active(&self) -> Instant {
        self.since + Duration::from_millis(self.last_read.load(Relaxed).max(self.last_write.load(Relaxed)))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// A socket wrapper that records reads and writes in a [`SocketActivity`].
#[derive(Debug)]
pub(crate) struct MeteredSocket<T> {
    socket: T,
    activity: Arc<SocketActivity>,
}

impl<T> MeteredSocket<T> {
    pub(crate) fn new(socket: T, activity: &Arc<SocketActivity>) -> Self {
        Self { socket, activity: Arc::clone(activity) }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for MeteredSocket<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, buf))?;
        let length = (buf.filled().len() - before) as u64;
        if length > 0 {
            self.activity.bytes.fetch_add(length, Relaxed);
            self.activity.last_read.store(self.activity.now(), Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for MeteredSocket<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.socket).poll_write(cx, buf))?;
        self.activity.last_write.store(self.activity.now(), Relaxed);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
