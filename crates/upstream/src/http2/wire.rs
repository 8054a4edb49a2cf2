//! A socket that observes the frames in both directions, for all that h2 does not report.

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

/// The observed state of one connection.
#[derive(Debug)]
pub(super) struct Traffic {
    /// Bytes from the backend.
    received: AtomicU64,
    /// Bytes that the kernel took for the backend.
    sent: AtomicU64,
    has_settings: AtomicBool,
    settings: Notify,
    has_goaway: AtomicBool,
    /// The last stream that the backend has processed, by GOAWAY.
    last_stream: AtomicU32,
    has_end_stream: AtomicBool,
    /// The send window of the connection (RFC 9113 §6.9), and the largest that it has been.
    send_window: AtomicI64,
    largest_send_window: AtomicI64,
    /// The initial send window of each stream.
    stream_window: AtomicU32,
    /// How much of the send window the requests in flight may use up.
    reserved: AtomicU64,
    /// The streams in flight, and whether END_STREAM has been received on them.
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
            last_stream: AtomicU32::new(MAX_STREAM),
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

    /// Waits for the first SETTINGS frame of the backend.
    pub(super) async fn settings(&self) {
        self.settings.notified().await;
    }

    /// Whether any stream was ended by END_STREAM.
    pub(super) fn has_end_stream(&self) -> bool {
        self.has_end_stream.load(Relaxed)
    }

    /// Whether the backend has sent GOAWAY.
    pub(super) fn has_goaway(&self) -> bool {
        self.has_goaway.load(Relaxed)
    }

    /// Returns how many requests the backend has processed, if it has ended the connection after them.
    pub(super) fn processed(&self) -> Option<NonZeroU32> {
        // A graceful shutdown begins with the largest id (RFC 9113 §6.8).
        let last = Some(self.last_stream.load(Relaxed)).filter(|last| *last < MAX_STREAM)?;
        NonZeroU32::new(last.div_ceil(2))
    }

    /// Opens a stream by `open`, which returns its id along with the result, and observes the end of its response.
    pub(super) fn observe<T, E>(
        self: &Arc<Self>,
        open: impl FnOnce() -> Result<(u32, T), E>,
    ) -> Result<(ResponseWatch, T), E> {
        // Locked while the stream is opened, so that no response can come first.
        let mut streams = self.streams();
        let (id, opened) = open()?;
        streams.insert(id, false);
        Ok((ResponseWatch { traffic: Arc::clone(self), id }, opened))
    }

    fn streams(&self) -> MutexGuard<'_, HashMap<u32, bool>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much of the send window a request with `content` bytes can use up, however slowly the backend reads it.
    pub(super) fn window_use(&self, content: u64) -> u64 {
        let stream = match self.stream_window.load(Relaxed) {
            // Such a backend opens the window of each stream by itself.
            0 => DEFAULT_WINDOW,
            window => window,
        };
        content.min(stream.into()).min(self.largest_send_window())
    }

    /// How many bytes the backend takes at most before it reads any.
    pub(super) fn largest_send_window(&self) -> u64 {
        self.largest_send_window.load(Relaxed).try_into().unwrap_or(0)
    }

    /// Whether a request with `content` bytes leaves room for the requests in flight, and they for it.
    pub(super) fn has_room(&self, content: u64) -> bool {
        let (needed, largest) = (self.window_use(content), self.largest_send_window());
        let left: u64 = self.send_window.load(Relaxed).try_into().unwrap_or(0);
        // Many backends open the window again only when half of it has been read.
        self.reserved.load(Relaxed) + needed <= largest && left >= needed.min(largest / 2)
    }

    /// Reserves what a request with `content` bytes may use up of the send window.
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

/// A part of a connection's send window that is kept for one request.
#[derive(Debug)]
pub(super) struct Reservation {
    traffic: Arc<Traffic>,
    bytes: AtomicU64,
}

impl Reservation {
    /// Keeps no more than `bytes`: all that the request has sent.
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

/// A handle on the observed end of one response.
#[derive(Debug)]
pub(super) struct ResponseWatch {
    traffic: Arc<Traffic>,
    id: u32,
}

impl ResponseWatch {
    /// Whether END_STREAM has been received.
    pub(super) fn has_end_stream(&self) -> bool {
        self.traffic.streams().get(&self.id).copied().unwrap_or_default()
    }
}

impl Drop for ResponseWatch {
    fn drop(&mut self) {
        self.traffic.streams().remove(&self.id);
    }
}

/// A socket whose traffic is observed.
#[derive(Debug)]
pub(super) struct Wire<T> {
    socket: T,
    traffic: Arc<Traffic>,
    received: FrameScanner,
    sent: FrameScanner,
    settings: Settings,
    /// A number that has come in part.
    number: Vec<u8>,
    /// Whether the field block that is being received ends its stream.
    is_last_block: bool,
}

/// The progress of the first SETTINGS frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settings {
    Awaited,
    Read,
    Applied,
}

impl<T> Wire<T> {
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

    /// Returns the number that a frame begins with, when the frame is complete: 31 bits after a reserved one.
    fn receive_number(&mut self, part: &FramePart<'_>) -> Option<u32> {
        if part.is_first() {
            self.number.clear();
        }
        self.number.extend_from_slice(&part.payload[..part.payload.len().min(4 - self.number.len())]);
        // h2 rejects shorter frames.
        let number = <[u8; 4]>::try_from(&self.number[..]).ok().filter(|_| part.is_last())?;
        Some(u32::from_be_bytes(number) & MAX_STREAM)
    }

    /// Notes the end of a response that ends with a field block (RFC 9113 §6.2, §6.10).
    fn receive_field_block(&mut self, part: &FramePart<'_>) {
        if part.kind == HEADERS {
            self.is_last_block = part.flags & END_STREAM != 0;
        }
        if self.is_last_block && part.flags & END_HEADERS != 0 {
            self.end_response(part.stream);
        }
    }

    fn end_response(&self, stream: u32) {
        self.traffic.has_end_stream.store(true, Relaxed);
        if let Some(has_end_stream) = self.traffic.streams().get_mut(&stream) {
            *has_end_stream = true;
        }
    }

    fn send(&mut self, mut bytes: &[u8]) {
        self.traffic.sent.fetch_add(bytes.len() as u64, Relaxed);
        while let Some(part) = self.sent.next(&mut bytes) {
            if part.kind == DATA && part.is_first() {
                self.traffic.change_send_window(-(part.length as i64));
            }
        }
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
        this.receive(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Wire<T> {
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

/// The windows of a connection and of its streams before anything else is agreed (RFC 9113 §6.9.2).
const DEFAULT_WINDOW: u32 = 65_535;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_STREAM: u32 = 0x7fff_ffff;
