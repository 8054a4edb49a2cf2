//! A socket that notices the frames of the backend that concern the whole connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

/// The traffic of one connection, as far as h2 does not report it.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// Bytes from the backend.
    received: AtomicU64,
    /// Bytes that the kernel took for the backend.
    sent: AtomicU64,
    has_settings: AtomicBool,
    settings: Notify,
    has_goaway: AtomicBool,
    has_end_stream: AtomicBool,
}

impl Traffic {
    pub(super) fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Whether the first SETTINGS frame of the backend has arrived, and been applied.
    pub(super) fn has_settings(&self) -> bool {
        self.has_settings.load(Relaxed)
    }

    /// Waits until it has.
    pub(super) async fn settings(&self) {
        self.settings.notified().await;
    }

    /// Whether a stream was ended by END_STREAM; of use where there is but one.
    pub(super) fn has_end_stream(&self) -> bool {
        self.has_end_stream.load(Relaxed)
    }

    /// Whether the backend has sent GOAWAY.
    pub(super) fn has_goaway(&self) -> bool {
        self.has_goaway.load(Relaxed)
    }
}

/// A socket whose traffic is observed.
#[derive(Debug)]
pub(super) struct Wire<T> {
    socket: T,
    traffic: Arc<Traffic>,
    frames: Frames,
    settings: Settings,
}

/// How far the first SETTINGS frame has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settings {
    Awaited,
    Read,
    Applied,
}

impl<T> Wire<T> {
    pub(super) fn new(socket: T) -> (Self, Arc<Traffic>) {
        let traffic = Arc::<Traffic>::default();
        (
            Self { socket, traffic: Arc::clone(&traffic), frames: Frames::default(), settings: Settings::Awaited },
            traffic,
        )
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Wire<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        // h2 reads again only when it has applied every frame that it has read.
        if this.settings == Settings::Read {
            this.settings = Settings::Applied;
            this.traffic.has_settings.store(true, Relaxed);
            this.traffic.settings.notify_one();
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.socket).poll_read(cx, buf))?;
        let bytes = &buf.filled()[before..];
        this.traffic.received.fetch_add(bytes.len() as u64, Relaxed);
        this.frames.pass(bytes, |kind, flags| match kind {
            SETTINGS if this.settings == Settings::Awaited => this.settings = Settings::Read,
            GOAWAY => this.traffic.has_goaway.store(true, Relaxed),
            DATA | HEADERS if flags & END_STREAM != 0 => this.traffic.has_end_stream.store(true, Relaxed),
            _ => {}
        });
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> Wire<T> {
    fn count(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(length)) = &written {
            self.traffic.sent.fetch_add(*length as u64, Relaxed);
        }
        written
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Wire<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.count(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.count(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// The frame headers (RFC 9113 §4.1) in a stream of bytes that comes in pieces.
#[derive(Debug, Default)]
struct Frames {
    header: [u8; HEADER],
    /// How much of the header has come.
    filled: usize,
    /// How much of the payload is to come.
    payload: usize,
}

impl Frames {
    /// Reports the type and the flags of each frame that is complete.
    fn pass(&mut self, mut bytes: &[u8], mut complete: impl FnMut(u8, u8)) {
        while !bytes.is_empty() {
            if self.filled < HEADER {
                let length = bytes.len().min(HEADER - self.filled);
                let (header, rest) = bytes.split_at(length);
                self.header[self.filled..self.filled + length].copy_from_slice(header);
                self.filled += length;
                bytes = rest;
                if self.filled < HEADER {
                    return;
                }
                let [high, middle, low, ..] = self.header;
                self.payload = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
            }
            let length = bytes.len().min(self.payload);
            self.payload -= length;
            bytes = &bytes[length..];
            if self.payload == 0 {
                self.filled = 0;
                complete(self.header[3], self.header[4]);
            }
        }
    }
}

const HEADER: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, payload: usize) -> Vec<u8> {
        let length = payload.to_be_bytes();
        let mut frame = vec![length[5], length[6], length[7], kind, 0, 0, 0, 0, 1];
        frame.extend(vec![kind; payload]);
        frame
    }

    proptest! {
        #[test]
        fn reports_every_frame_once_however_the_bytes_are_split(
            frames in prop::collection::vec((0_u8..12, 0_usize..300), 0..20),
            pieces in prop::collection::vec(1_usize..40, 1..20),
        ) {
            let bytes: Vec<u8> = frames.iter().flat_map(|(kind, payload)| frame(*kind, *payload)).collect();
            let (mut found, mut reader, mut rest, mut sizes) = (Vec::new(), Frames::default(), &bytes[..], pieces.iter().cycle());
            while !rest.is_empty() {
                let length = rest.len().min(*sizes.next().unwrap());
                reader.pass(&rest[..length], |kind, _| found.push(kind));
                rest = &rest[length..];
            }
            prop_assert_eq!(found, frames.iter().map(|(kind, _)| *kind).collect::<Vec<_>>());
        }
    }
}
