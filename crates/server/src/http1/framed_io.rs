//! The socket for hyper, from which hyper reads only complete heads and bodies with valid framing.

use std::io;
use std::mem::MaybeUninit;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::HalfClose;
use super::connection_state::ConnectionState;
use super::framing::{HeadLimits, encoded_target};
use super::scanner::{Scan, Scanner};
use crate::RejectedHead;
use crate::client_socket::ClientSocket;

/// A socket that scans the HTTP/1.1 messages it reads.
///
/// Bytes are read directly into the reader's buffer, one message at a time. Bytes after a message are held back until the
/// message has its response, and an incomplete head until it is complete. While a response is pending, the socket is still
/// read within a limit, to detect when the client closes the connection.
#[derive(Debug)]
pub(crate) struct FramedIo<T> {
    socket: T,
    scanner: Scanner,
    state: Arc<ConnectionState>,
    /// The bytes that were read from the socket but not yet passed to the reader.
    held: Vec<u8>,
    /// The number of held bytes that may be passed to the reader.
    released: usize,
    stage: Stage,
    half_close: HalfClose,
    /// The ordinal number of the last HTTP/1.0 request whose response has begun.
    http10_responded: u64,
    /// Whether the connection is reset if it is dropped without a shutdown.
    resets: bool,
    /// The time of the last read that returned bytes.
    read_at: Instant,
    /// The timer for the next check of a client that sends no data, or for the end of lingering.
    timer: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// A request head was rejected; `held` contains its placeholder, and no more bytes are read.
    Rejected,
    /// The framing of a request body is invalid, and reads return an error.
    Broken,
    /// The client has half-closed the connection and waits for the response.
    HalfClosed,
    Ended,
    /// The write half is shut down, and up to this number of received bytes is discarded.
    Lingers(usize),
}

impl<T> FramedIo<T> {
    pub(crate) fn new(socket: T, limits: HeadLimits, half_close: HalfClose, state: Arc<ConnectionState>) -> Self {
        Self {
            socket,
            scanner: Scanner::new(limits),
            state,
            held: Vec::new(),
            released: 0,
            stage: Stage::Open,
            half_close,
            http10_responded: 0,
            resets: false,
            read_at: Instant::now(),
            timer: None,
        }
    }

    /// Returns whether bytes are held back from the reader.
    pub(crate) fn has_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// Returns whether all bytes read belong to the first `responded` requests, and another request may follow.
    pub(crate) fn is_between_requests(&self, responded: u64) -> bool {
        self.stage == Stage::Open && self.scanner.is_at_head() && self.scanner.heads() == responded
    }

    /// Returns whether the client has half-closed the connection.
    pub(crate) fn is_half_closed(&self) -> bool {
        self.stage == Stage::HalfClosed
    }

    /// Reads the next bytes of an idle connection into an allocation of exactly their size. Returns `None` at the end.
    pub(crate) fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>>
    where
        T: AsyncRead + Unpin,
    {
        if self.stage != Stage::Open {
            return Poll::Ready(None);
        }
        // A buffer on the stack, so that an idle connection has none.
        let mut bytes = [const { MaybeUninit::uninit() }; FIRST_READ];
        let mut first = ReadBuf::uninit(&mut bytes);
        let read = ready!(Pin::new(&mut self.socket).poll_read(cx, &mut first));
        let has_read = read.is_ok() && !first.filled().is_empty();
        if has_read {
            self.read_at = Instant::now();
        }
        Poll::Ready(has_read.then(|| Bytes::copy_from_slice(first.filled())))
    }

    /// Takes all held bytes, which must be scanned again after [`put_back`](Self::put_back).
    pub(crate) fn take_held(&mut self) -> Option<Bytes> {
        if self.held.is_empty() {
            return None;
        }
        self.released = 0;
        self.scanner.restart_head();
        self.state.set_incomplete_head(None);
        Some(std::mem::take(&mut self.held).into())
    }

    /// Appends bytes to the held bytes without scanning them.
    pub(crate) fn put_back(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// Returns the bytes that were read but not yet passed to the reader.
    pub(crate) fn held(&self) -> &[u8] {
        &self.held
    }

    /// Returns the socket, and the bytes that were read but not yet passed to the reader.
    pub(crate) fn into_parts(self) -> (T, Bytes) {
        (self.socket, self.held.into())
    }

    /// Appends bytes to the held bytes, and scans them.
    pub(crate) fn hold(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
        self.scan_held();
    }

    /// Moves the released part of the held bytes to the reader's buffer.
    fn read_released(&mut self, buf: &mut ReadBuf<'_>) {
        let taken = self.released.min(buf.remaining());
        buf.put_slice(&self.held[..taken]);
        self.held.drain(..taken);
        self.released -= taken;
        if self.held.is_empty() {
            // Frees the buffer, because incomplete heads are rare.
            self.held = Vec::new();
        }
    }

    /// Replaces a rejected request head with a placeholder, after the first `passed` held bytes.
    fn reject(&mut self, passed: usize, rejected: RejectedHead) {
        self.state.reject_head(self.scanner.heads(), rejected);
        self.state.set_incomplete_head(None);
        self.held.truncate(passed);
        self.held.extend_from_slice(PLACEHOLDER);
        self.released = self.held.len();
        self.stage = Stage::Rejected;
    }

    /// Scans the held bytes that may not be forwarded yet, up to the end of a message.
    fn scan_held(&mut self) {
        loop {
            match self.scanner.scan(&self.held[self.released..]) {
                Scan::Pass(passed) => self.released += passed,
                Scan::Encode(passed) => {
                    self.released += passed;
                    if self.encode_target() {
                        continue;
                    }
                    self.reject(self.released, RejectedHead::Malformed);
                }
                Scan::Reject(passed, rejected) => self.reject(self.released + passed, rejected),
                Scan::Broken(passed) => {
                    self.released += passed;
                    self.stage = Stage::Broken;
                }
            }
            return self.update_incomplete_head();
        }
    }

    /// Scans the bytes in `buf` from position `before`, and holds back the bytes that may not be forwarded yet.
    fn scan_read(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        let read = &buf.filled()[before..];
        let passed = match self.scanner.scan(read) {
            Scan::Pass(passed) if passed == read.len() => return,
            Scan::Pass(passed) => {
                self.held.extend_from_slice(&read[passed..]);
                self.update_incomplete_head();
                passed
            }
            Scan::Encode(passed) => {
                self.held.extend_from_slice(&read[passed..]);
                self.scan_held();
                passed
            }
            Scan::Reject(passed, rejected) => {
                self.reject(0, rejected);
                passed
            }
            Scan::Broken(passed) => {
                self.stage = Stage::Broken;
                passed
            }
        };
        buf.set_filled(before + passed);
    }

    /// Percent-encodes the request target in the first held head that is not released.
    fn encode_target(&mut self) -> bool {
        let Some((target, encoded)) = encoded_target(&self.held[self.released..]) else { return false };
        self.held.splice(self.released + target.start..self.released + target.end, encoded);
        true
    }

    /// Updates the number of the incomplete head, to which the head timeout applies.
    fn update_incomplete_head(&self) {
        let has_begun = self.stage == Stage::Open
            && self.held.len() > self.released
            && self.scanner.is_at_head()
            && self.state.calls() == self.scanner.heads()
            && !self.state.is_in_flight();
        self.state.set_incomplete_head(NonZeroU64::new(self.scanner.heads() + 1).filter(|_| has_begun));
    }

    /// Returns whether the response to a completely forwarded request has not ended yet.
    fn is_after_request(&self) -> bool {
        let is_complete = self.scanner.is_at_head() || self.scanner.awaits_upgrade();
        is_complete && self.scanner.heads() > 0 && !self.state.has_ended(self.scanner.heads())
    }
}

impl<T: ClientSocket> FramedIo<T> {
    /// Reads more bytes, appends them to the held bytes, and returns the number of bytes read.
    fn poll_read_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let before = self.held.len();
        self.held.resize(before + READ_MORE, 0);
        let mut more = ReadBuf::new(&mut self.held[before..]);
        let polled = Pin::new(&mut self.socket).poll_read(cx, &mut more);
        let read = more.filled().len();
        self.held.truncate(before + read);
        if read > 0 {
            self.read_at = Instant::now();
        }
        polled.map_ok(|()| read)
    }

    /// Returns whether the client closed the connection while a response is pending.
    ///
    /// Pipelined bytes are held, up to a limit. A half-close is subject to [`HalfClose`].
    pub(crate) fn is_closed(&mut self, cx: &mut Context<'_>) -> bool {
        // A buffer on the stack, so that a waiting connection has none.
        let mut bytes = [const { MaybeUninit::uninit() }; READ_MORE];
        while self.stage == Stage::Open && self.held.len() < MAX_AHEAD {
            let mut ahead = ReadBuf::uninit(&mut bytes);
            match Pin::new(&mut self.socket).poll_read(cx, &mut ahead) {
                Poll::Pending => return false,
                Poll::Ready(Ok(())) if !ahead.filled().is_empty() => {
                    self.read_at = Instant::now();
                    self.held.extend_from_slice(ahead.filled());
                }
                Poll::Ready(Ok(())) if self.allows_half_close() => {
                    self.stage = Stage::HalfClosed;
                    if self.held.is_empty() {
                        self.state.set_half_closed();
                    }
                    self.socket.enable_keepalive();
                }
                Poll::Ready(_) => self.stage = Stage::Ended,
            }
        }
        match self.stage {
            Stage::Ended => return true,
            // The client has sent more than is held.
            Stage::Open if self.socket.closed().read && !self.allows_half_close() => return true,
            _ if self.socket.closed().write => return true,
            _ => {}
        }
        // The socket is not read any more, so a timer causes the next check.
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(CHECK_INTERVAL)));
        while timer.as_mut().poll(cx).is_ready() {
            timer.as_mut().reset(Instant::now() + CHECK_INTERVAL);
        }
        false
    }

    /// Makes the connection reset if it is dropped without a shutdown.
    ///
    /// A truncated body that ends with the connection would otherwise appear complete.
    pub(crate) fn reset_unless_shut_down(&mut self) {
        self.resets = true;
        self.socket.reset_on_drop(true);
    }

    /// Returns whether the half-close policy allows the client to half-close at this time.
    fn allows_half_close(&self) -> bool {
        let is_allowed = match self.half_close {
            HalfClose::WithRequest => self.read_at.elapsed() <= HALF_CLOSE_WINDOW,
            HalfClose::Always => true,
            HalfClose::Never => false,
        };
        // An upgraded protocol needs both directions.
        is_allowed && !self.scanner.awaits_upgrade() && !self.socket.closed().write
    }
}

impl<T: ClientSocket> AsyncRead for FramedIo<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.released > 0 {
                this.read_released(buf);
                return Poll::Ready(Ok(()));
            }
            match this.stage {
                Stage::Open | Stage::HalfClosed => {}
                // hyper closes the connection after the response to the placeholder. An end here would truncate it.
                Stage::Rejected => return Poll::Pending,
                Stage::Broken => return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "bad chunk"))),
                Stage::Ended | Stage::Lingers(_) => return Poll::Ready(Ok(())),
            }
            if this.scanner.awaits_upgrade()
                // The response comes from the same task, which is then polled again.
                && let Some(is_switched) = this.state.upgrade_response(this.scanner.heads())
            {
                this.scanner.complete_upgrade(is_switched);
                if is_switched {
                    this.scan_held();
                }
            } else if this.is_after_request() {
                match this.is_closed(cx) {
                    true => return Poll::Ready(Ok(())),
                    false => return Poll::Pending,
                }
            } else if this.held.is_empty() {
                if this.stage == Stage::HalfClosed {
                    this.stage = Stage::Ended;
                    continue;
                }
                let before = buf.filled().len();
                ready!(Pin::new(&mut this.socket).poll_read(cx, buf))?;
                let at_end = buf.filled().len() == before;
                this.read_at = Instant::now();
                this.scan_read(buf, before);
                if at_end || buf.filled().len() > before {
                    return Poll::Ready(Ok(()));
                }
            } else if this.scanner.is_tunnel() {
                this.scan_held();
            } else if this.state.is_head_too_slow() {
                this.reject(0, RejectedHead::TooSlow);
            } else {
                // Scans the next message, and reads more of it if it is incomplete.
                this.scan_held();
                if this.released > 0 || matches!(this.stage, Stage::Rejected | Stage::Broken) {
                    continue;
                }
                if this.stage == Stage::HalfClosed || ready!(this.poll_read_held(cx))? == 0 {
                    // The client closed the connection within a head, so there is no request.
                    this.held = Vec::new();
                    this.state.set_incomplete_head(None);
                    this.stage = Stage::Ended;
                }
            }
        }
    }
}

impl<T: ClientSocket> AsyncWrite for FramedIo<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.begins_http10(buf) {
            return self.poll_write_status(cx, buf);
        }
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(first) = bufs.first()
            && self.begins_http10(first)
        {
            return self.poll_write_status(cx, first);
        }
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    /// Shuts down the write half, and waits for the client to close the connection.
    ///
    /// RFC 9112 §9.6: bytes that arrive at a closed socket reset the connection, and the client may lose the response.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !matches!(this.stage, Stage::Lingers(_)) {
            if std::mem::take(&mut this.resets) {
                this.socket.reset_on_drop(false);
            }
            ready!(Pin::new(&mut this.socket).poll_shutdown(cx))?;
            let has_ended = matches!(this.stage, Stage::HalfClosed | Stage::Ended);
            if has_ended || this.scanner.is_tunnel() || this.state.closes_idle() {
                return Poll::Ready(Ok(()));
            }
            this.stage = Stage::Lingers(MAX_DISCARDED);
            this.timer = Some(Box::pin(sleep(LINGER)));
        }
        let mut discarded = [const { MaybeUninit::uninit() }; DISCARD];
        for _ in 0..DISCARDS_PER_POLL {
            let (Stage::Lingers(left), Some(timer)) = (&mut this.stage, &mut this.timer) else { break };
            if *left == 0 || timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut discarded = ReadBuf::uninit(&mut discarded);
            match ready!(Pin::new(&mut this.socket).poll_read(cx, &mut discarded)) {
                Ok(()) if !discarded.filled().is_empty() => *left = left.saturating_sub(discarded.filled().len()),
                _ => return Poll::Ready(Ok(())),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<T: ClientSocket> FramedIo<T> {
    /// Returns whether `buf` starts a response that hyper writes as HTTP/1.0 for an HTTP/1.0 client.
    fn begins_http10(&self, buf: &[u8]) -> bool {
        self.scanner.is_http10() && self.http10_responded != self.scanner.heads() && buf.starts_with(HTTP10)
    }

    /// Writes `buf` with the server's HTTP version in place of the client's, which hyper uses (RFC 9110 §2.5, §6.2).
    fn poll_write_status(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        // hyper ends a body of unknown length by closing the connection.
        self.reset_unless_shut_down();
        let status = [HTTP11, &buf[HTTP10.len()..]].concat();
        let written = ready!(Pin::new(&mut self.socket).poll_write(cx, &status))?;
        self.http10_responded = self.scanner.heads();
        Poll::Ready(Ok(written))
    }
}

const HTTP10: &[u8] = b"HTTP/1.0 ";
const HTTP11: &[u8] = b"HTTP/1.1 ";

/// The request head that hyper reads in place of a rejected head. The service recognises it by its number.
const PLACEHOLDER: &[u8] = b"GET / HTTP/1.1\r\nhost: refused.invalid\r\nconnection: close\r\n\r\n";

/// The buffer size for the first read of a request, into which most request heads fit.
const FIRST_READ: usize = 8 * 1024;

/// The buffer size for the second and later reads of a request.
const READ_MORE: usize = 4096;

/// The maximum number of pipelined bytes that are held while a response is pending.
const MAX_AHEAD: usize = 16 * 1024;

/// The maximum time between a request and a half-close that [`HalfClose::WithRequest`] allows.
const HALF_CLOSE_WINDOW: Duration = Duration::from_millis(200);

/// The interval of checks for a closed connection while the socket is not read.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The maximum time that the server waits for the client to close the connection after the last response.
pub(super) const LINGER: Duration = Duration::from_secs(2);

/// The maximum number of bytes that are discarded after the last response.
const MAX_DISCARDED: usize = 64 << 20;
const DISCARD: usize = 16 * 1024;

/// The maximum number of reads per poll while lingering, so that a fast client does not block the worker.
const DISCARDS_PER_POLL: usize = 4;
