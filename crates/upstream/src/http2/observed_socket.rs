//! A socket wrapper that scans HTTP/2 frames in both directions, for state that h2 does not expose.

use std::collections::HashMap;
use std::io;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, FramePart, FrameScanner, GOAWAY, HEADERS, SETTINGS, WINDOW_UPDATE,
};

/// The observed state of one HTTP/2 connection.
#[derive(Debug)]
pub(super) struct Traffic {
    /// The number of bytes that were received.
    received: AtomicU64,
    /// The number of bytes that were written to the socket.
    sent: AtomicU64,
    has_settings: AtomicBool,
    settings: Notify,
    has_goaway: AtomicBool,
    /// The last stream identifier in a received GOAWAY frame.
    last_stream: AtomicU32,
    has_end_stream: AtomicBool,
    /// The current send window of the connection (RFC 9113 §6.9).
    send_window: AtomicI64,
    largest_send_window: AtomicI64,
    /// The initial send window of each stream in bytes.
    stream_window: AtomicU32,
    /// The number of bytes of the send window that are reserved for in-flight requests.
    reserved: AtomicU64,
    /// The in-flight streams, each with a flag that is set when END_STREAM is received.
    streams: Mutex<HashMap<u32, bool>>,
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            received: AtomicU64::default(),
            sent: AtomicU64::default(),
            has_settings: AtomicBool::default(),
            settings: Notify::default(),
            has_goaway: AtomicBool::default(),
            last_stream: AtomicU32::new(MAX_STREAM_ID),
            has_end_stream: AtomicBool::default(),
            send_window: AtomicI64::new(DEFAULT_WINDOW.into()),
            largest_send_window: AtomicI64::new(DEFAULT_WINDOW.into()),
            stream_window: AtomicU32::new(DEFAULT_WINDOW),
            reserved: AtomicU64::default(),
            streams: Mutex::default(),
        }
    }
}

impl Traffic {
    /// Returns the number of bytes that were received.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Returns the number of bytes that were written to the socket.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Returns whether the first SETTINGS frame of the backend has been received and applied.
    pub(super) fn has_settings(&self) -> bool {
        self.has_settings.load(Relaxed)
    }

    /// Waits until the first SETTINGS frame of the backend has been received and applied.
    pub(super) async fn settings(&self) {
        self.settings.notified().await;
    }

    /// Returns whether END_STREAM was received on any stream.
    pub(super) fn has_end_stream(&self) -> bool {
        self.has_end_stream.load(Relaxed)
    }

    /// Returns whether a GOAWAY frame was received.
    pub(super) fn has_goaway(&self) -> bool {
        self.has_goaway.load(Relaxed)
    }

    /// Returns the number of requests that the backend processed before GOAWAY, if GOAWAY was received.
    pub(super) fn processed(&self) -> Option<NonZeroU32> {
        // A graceful shutdown begins with the largest id (RFC 9113 §6.8).
        let last = Some(self.last_stream.load(Relaxed)).filter(|last| *last < MAX_STREAM_ID)?;
        NonZeroU32::new(last.div_ceil(2))
    }

    /// Opens a stream by calling `open`, and observes the end of its response.
    pub(super) fn observe<T, E>(
        self: &Arc<Self>,
        open: impl FnOnce() -> Result<(u32, T), E>,
    ) -> Result<(ResponseWatch, T), E> {
        // The lock is held while the stream is opened, so that the response cannot arrive before the entry exists.
        let mut streams = self.streams();
        let (id, opened) = open()?;
        streams.insert(id, false);
        Ok((ResponseWatch { traffic: Arc::clone(self), id }, opened))
    }

    fn streams(&self) -> MutexGuard<'_, HashMap<u32, bool>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of send window bytes that a request with `content` bytes can occupy.
    ///
    /// That is the number of bytes that it sends while the backend does not read them.
    pub(super) fn window_use(&self, content: u64) -> u64 {
        let stream = match self.stream_window.load(Relaxed) {
            // Such a backend increases the window of each stream itself.
            0 => DEFAULT_WINDOW,
            window => window,
        };
        content.min(stream.into()).min(self.largest_send_window())
    }

    /// Returns the largest observed send window of the connection in bytes.
    pub(super) fn largest_send_window(&self) -> u64 {
        self.largest_send_window.load(Relaxed).try_into().unwrap_or(0)
    }

    /// Returns whether the unreserved part of the send window has room for a request with `content` bytes.
    pub(super) fn has_room(&self, content: u64) -> bool {
        let (needed, largest) = (self.window_use(content), self.largest_send_window());
        let left: u64 = self.send_window.load(Relaxed).try_into().unwrap_or(0);
        // Many backends send WINDOW_UPDATE only after half of the window was read.
        self.reserved.load(Relaxed) + needed <= largest && left >= needed.min(largest / 2)
    }

    /// Reserves a part of the send window for a request with `content` bytes.
    pub(super) fn reserve(self: &Arc<Self>, content: u64) -> Reservation {
        let bytes = self.window_use(content);
        self.reserved.fetch_add(bytes, Relaxed);
        Reservation { traffic: Arc::clone(self), bytes: AtomicU64::new(bytes) }
    }

    fn change_send_window(&self, by: i64) {
        let window = self.send_window.fetch_add(by, Relaxed) + by;
        self.largest_send_window.fetch_max(window, Relaxed);
    }
}

/// A part of the connection's send window that is reserved for one request.
#[derive(Debug)]
pub(super) struct Reservation {
    traffic: Arc<Traffic>,
    bytes: AtomicU64,
}

impl Reservation {
    /// Reduces the reservation to `bytes`, the number of bytes that the request has sent.
    pub(super) fn shrink(&self, bytes: u64) {
        let before = self.bytes.fetch_min(bytes, Relaxed);
        self.traffic.reserved.fetch_sub(before.saturating_sub(bytes), Relaxed);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

/// A handle that reports whether the end of one response was received.
#[derive(Debug)]
pub(super) struct ResponseWatch {
    traffic: Arc<Traffic>,
    id: u32,
}

impl ResponseWatch {
    /// Returns whether END_STREAM was received on this stream.
    pub(super) fn has_end_stream(&self) -> bool {
        self.traffic.streams().get(&self.id).copied().unwrap_or_default()
    }
}

impl Drop for ResponseWatch {
    fn drop(&mut self) {
        self.traffic.streams().remove(&self.id);
    }
}

/// A socket whose HTTP/2 traffic is observed.
#[derive(Debug)]
pub(super) struct ObservedSocket<T> {
    socket: T,
    traffic: Arc<Traffic>,
    received: FrameScanner,
    sent: FrameScanner,
    settings: Settings,
    /// The received bytes of a 31-bit number that has not arrived completely.
    number: Vec<u8>,
    /// Whether the field block that is being received ends its stream.
    is_last_block: bool,
}

/// The receive state of the first SETTINGS frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settings {
    Awaited,
    Read,
    Applied,
}

impl<T> ObservedSocket<T> {
    pub(super) fn new(socket: T) -> (Self, Arc<Traffic>) {
        let traffic = Arc::<Traffic>::default();
        let wire = Self {
            socket,
            traffic: Arc::clone(&traffic),
            received: FrameScanner::default(),
            sent: FrameScanner::of_client(),
            settings: Settings::Awaited,
            number: Vec::new(),
            is_last_block: false,
        };
        (wire, traffic)
    }

    /// Scans the bytes that were received.
    fn receive(&mut self, mut bytes: &[u8]) {
        self.traffic.received.fetch_add(bytes.len() as u64, Relaxed);
        while let Some(part) = self.received.next(&mut bytes) {
            match part.kind {
                DATA if part.is_last() && part.flags & END_STREAM != 0 => self.end_response(part.stream),
                HEADERS | CONTINUATION if part.is_last() => self.receive_field_block(&part),
                SETTINGS => self.receive_settings(&part),
                WINDOW_UPDATE if part.stream == 0 => {
                    if let Some(increment) = self.receive_number(&part) {
                        self.traffic.change_send_window(increment.into());
                    }
                }
                GOAWAY => {
                    if let Some(last_stream) = self.receive_number(&part) {
                        self.traffic.last_stream.store(last_stream, Relaxed);
                        self.traffic.has_goaway.store(true, Relaxed);
                    }
                }
                _ => {}
            }
        }
    }

    /// Scans a part of a received SETTINGS frame.
    fn receive_settings(&mut self, part: &FramePart<'_>) {
        if part.is_first() {
            self.number.clear();
        }
        for &byte in part.payload {
            self.number.push(byte);
            if let [high, low, value @ ..] = &self.number[..]
                && let Ok(value) = <[u8; 4]>::try_from(value)
            {
                if u16::from_be_bytes([*high, *low]) == INITIAL_WINDOW_SIZE {
                    self.traffic.stream_window.store(u32::from_be_bytes(value), Relaxed);
                }
                self.number.clear();
            }
        }
        if part.is_last() && part.flags & ACK == 0 && self.settings == Settings::Awaited {
            self.settings = Settings::Read;
        }
    }

    /// Returns the 31-bit number at the start of a frame, once the frame is complete.
    fn receive_number(&mut self, part: &FramePart<'_>) -> Option<u32> {
        if part.is_first() {
            self.number.clear();
        }
        self.number.extend_from_slice(&part.payload[..part.payload.len().min(4 - self.number.len())]);
        // h2 rejects shorter frames.
        let number = <[u8; 4]>::try_from(&self.number[..]).ok().filter(|_| part.is_last())?;
        Some(u32::from_be_bytes(number) & MAX_STREAM_ID)
    }

    /// Records the end of a response whose last frame is a field block (RFC 9113 §6.2, §6.10).
    fn receive_field_block(&mut self, part: &FramePart<'_>) {
        if part.kind == HEADERS {
            self.is_last_block = part.flags & END_STREAM != 0;
        }
        if self.is_last_block && part.flags & END_HEADERS != 0 {
            self.end_response(part.stream);
        }
    }

    /// Records that END_STREAM was received on a stream.
    fn end_response(&self, stream: u32) {
        self.traffic.has_end_stream.store(true, Relaxed);
        if let Some(has_end_stream) = self.traffic.streams().get_mut(&stream) {
            *has_end_stream = true;
        }
    }

    /// Scans the bytes that were sent.
    fn send(&mut self, mut bytes: &[u8]) {
        self.traffic.sent.fetch_add(bytes.len() as u64, Relaxed);
        while let Some(part) = self.sent.next(&mut bytes) {
            if part.kind == DATA && part.is_first() {
                self.traffic.change_send_window(-(part.length as i64));
            }
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for ObservedSocket<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        // h2 reads again only after it has applied all frames of the previous read.
        if this.settings == Settings::Read {
            this.settings = Settings::Applied;
            this.traffic.has_settings.store(true, Relaxed);
            this.traffic.settings.notify_one();
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.socket).poll_read(cx, buf))?;
        this.receive(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for ObservedSocket<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.socket).poll_write(cx, buf))?;
        self.send(&buf[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.socket).poll_write_vectored(cx, bufs))?;
        let mut left = written;
        for buf in bufs {
            let length = left.min(buf.len());
            self.send(&buf[..length]);
            left -= length;
        }
        Poll::Ready(Ok(written))
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

/// The initial flow-control window of a connection and of its streams in bytes (RFC 9113 §6.9.2).
const DEFAULT_WINDOW: u32 = 65_535;
/// The identifier of SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113 §6.5.2).
const INITIAL_WINDOW_SIZE: u16 = 4;
/// The largest stream identifier (RFC 9113 §5.1.1).
const MAX_STREAM_ID: u32 = 0x7fff_ffff;
