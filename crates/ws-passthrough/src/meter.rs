//! A socket that tells what came of it, and when.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// What moved, as whoever has the other half sees it.
#[derive(Debug)]
pub(crate) struct Reading {
    since: Instant,
    bytes: AtomicU64,
    /// Milliseconds from `since` to when bytes were last read.
    read: AtomicU64,
    /// Or written.
    written: AtomicU64,
}

impl Reading {
    pub(crate) fn new() -> Arc<Self> {
        let zero = || AtomicU64::new(0);
        Arc::new(Self { since: Instant::now(), bytes: zero(), read: zero(), written: zero() })
    }

    /// How many bytes came.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// When the last of them came.
    pub(crate) fn last_read(&self) -> Instant {
        self.since + Duration::from_millis(self.read.load(Relaxed))
    }

    /// When bytes last came or went.
    pub(crate) fn last_moved(&self) -> Instant {
        self.since + Duration::from_millis(self.read.load(Relaxed).max(self.written.load(Relaxed)))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// A socket, and the reading of it.
#[derive(Debug)]
pub(crate) struct Metered<T> {
    socket: T,
    reading: Arc<Reading>,
}

impl<T> Metered<T> {
    pub(crate) fn new(socket: T, reading: &Arc<Reading>) -> Self {
        Self { socket, reading: Arc::clone(reading) }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Metered<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, buf))?;
        let length = (buf.filled().len() - before) as u64;
        if length > 0 {
            self.reading.bytes.fetch_add(length, Relaxed);
            self.reading.read.store(self.reading.now(), Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Metered<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.socket).poll_write(cx, buf))?;
        self.reading.written.store(self.reading.now(), Relaxed);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
