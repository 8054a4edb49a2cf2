//! The socket of an HTTP/1.1 connection, with the bytes that were read ahead.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use crate::transport::HalfClose;
use crate::transport::client_socket::ClientSocket;

/// The socket of an HTTP/1.1 connection.
///
/// While a response is pending, it is still read within a limit, to detect when the client closes the connection.
#[derive(Debug)]
pub(super) struct ClientIo<T> {
    socket: T,
    /// The bytes that were read from the socket and not yet consumed.
    pub(super) input: BytesMut,
    stage: Stage,
    half_close: HalfClose,
    /// Whether the last read of content has filled its buffer.
    reads_much: bool,
    /// Whether the connection is reset if it is dropped without a shutdown.
    resets: bool,
    /// The time of the last read that returned bytes.
    read_at: Instant,
    /// The timer for the next check of a client that sends no data, or for the end of lingering.
    timer: Option<Pin<Box<Sleep>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// The client has half-closed the connection and waits for the response.
    HalfClosed,
    Ended,
    /// The write half is shut down, and up to this number of received bytes is discarded.
    Lingers(u32),
}

impl<T: ClientSocket> ClientIo<T> {
    pub(super) fn new(socket: T, half_close: HalfClose) -> Self {
        Self {
            socket,
            input: BytesMut::new(),
            stage: Stage::Open,
            half_close,
            reads_much: false,
            resets: false,
            read_at: Instant::now(),
            timer: None,
        }
    }

    /// Returns whether the client has half-closed the connection.
    pub(super) fn is_half_closed(&self) -> bool {
        self.stage == Stage::HalfClosed
    }

    /// Returns the socket, and the bytes that were read and not consumed.
    pub(super) fn into_parts(self) -> (T, Bytes) {
        (self.socket, self.input.freeze())
    }

    /// Returns whether bytes were read and not consumed.
    pub(super) fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// Takes all bytes that were read and not consumed, with their buffer, so that an idle connection has none.
    pub(super) fn take_input(&mut self) -> Option<Bytes> {
        let input = std::mem::take(&mut self.input);
        (!input.is_empty()).then(|| input.freeze())
    }

    /// Reads the next bytes of an idle connection into an allocation of exactly their size. Returns `None` at the end.
    pub(super) fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
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

    /// Reads more bytes of a head. Returns false at the end.
    pub(super) fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if self.stage != Stage::Open {
            return Poll::Ready(false);
        }
        let mut bytes = [const { MaybeUninit::uninit() }; READ_MORE];
        let mut more = ReadBuf::uninit(&mut bytes);
        let read = ready!(Pin::new(&mut self.socket).poll_read(cx, &mut more));
        let has_read = read.is_ok() && !more.filled().is_empty();
        if has_read {
            self.read_at = Instant::now();
            self.input.extend_from_slice(more.filled());
        } else {
            self.stage = Stage::Ended;
        }
        Poll::Ready(has_read)
    }

    /// Reads more content, of which `remaining` bytes are left if their number is known. Returns false at the end.
    pub(super) fn poll_content(&mut self, cx: &mut Context<'_>, remaining: Option<u64>) -> Poll<bool> {
        if self.stage != Stage::Open {
            return Poll::Ready(false);
        }
        let size = if self.reads_much { CONTENT_READ } else { FIRST_READ };
        // The bytes of a later request stay in the socket.
        let size = remaining.and_then(|remaining| usize::try_from(remaining).ok()).map_or(size, |left| left.min(size));
        self.input.reserve(size);
        let mut limited = (&mut self.input).limit(size);
        let read = ready!(pin!(self.socket.read_buf(&mut limited)).poll(cx)).unwrap_or(0);
        self.reads_much = read == size;
        match read {
            0 => self.stage = Stage::Ended,
            _ => self.read_at = Instant::now(),
        }
        Poll::Ready(read > 0)
    }

    /// Returns whether the client closed the connection while a response is pending.
    ///
    /// The bytes of later requests are kept, up to a limit. A half-close is subject to [`HalfClose`]; an upgraded protocol
    /// needs both directions.
    pub(super) fn is_closed(&mut self, cx: &mut Context<'_>, awaits_upgrade: bool) -> bool {
        // A buffer on the stack, so that a waiting connection has none.
        let mut bytes = [const { MaybeUninit::uninit() }; READ_MORE];
        while self.stage == Stage::Open && self.input.len() < MAX_AHEAD {
            let mut ahead = ReadBuf::uninit(&mut bytes);
            match Pin::new(&mut self.socket).poll_read(cx, &mut ahead) {
                Poll::Pending => return false,
                Poll::Ready(Ok(())) if !ahead.filled().is_empty() => {
                    self.read_at = Instant::now();
                    self.input.extend_from_slice(ahead.filled());
                }
                Poll::Ready(Ok(())) if self.allows_half_close(awaits_upgrade) => {
                    self.stage = Stage::HalfClosed;
                    self.socket.enable_keepalive();
                }
                Poll::Ready(_) => self.stage = Stage::Ended,
            }
        }
        match self.stage {
            Stage::Ended => return true,
            // The client has sent more than is kept.
            Stage::Open if self.socket.closed().read && !self.allows_half_close(awaits_upgrade) => return true,
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

    /// Returns whether the half-close policy allows the client to half-close at this time.
    fn allows_half_close(&self, awaits_upgrade: bool) -> bool {
        let is_allowed = match self.half_close {
            HalfClose::WithRequest => self.read_at.elapsed() <= HALF_CLOSE_WINDOW,
            HalfClose::Always => true,
            HalfClose::Never => false,
        };
        is_allowed && !awaits_upgrade && !self.socket.closed().write
    }

    /// Makes the connection reset if it is dropped without a shutdown.
    ///
    /// A truncated body that ends with the connection would otherwise appear complete.
    pub(super) fn reset_unless_shut_down(&mut self) {
        self.resets = true;
        self.socket.reset_on_drop(true);
    }

    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    pub(super) fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    /// Shuts down the write half. Unless the connection is idle, it then waits for the client to close its half.
    ///
    /// RFC 9112 §9.6: bytes that arrive at a closed socket reset the connection, and the client may lose the response.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>, is_idle: bool) -> Poll<io::Result<()>> {
        if !matches!(self.stage, Stage::Lingers(_)) {
            if std::mem::take(&mut self.resets) {
                self.socket.reset_on_drop(false);
            }
            ready!(Pin::new(&mut self.socket).poll_shutdown(cx))?;
            if is_idle || matches!(self.stage, Stage::HalfClosed | Stage::Ended) {
                return Poll::Ready(Ok(()));
            }
            self.stage = Stage::Lingers(MAX_DISCARDED);
            self.timer = Some(Box::pin(sleep(LINGER)));
        }
        let mut discarded = [const { MaybeUninit::uninit() }; DISCARD];
        for _ in 0..DISCARDS_PER_POLL {
            let (Stage::Lingers(left), Some(timer)) = (&mut self.stage, &mut self.timer) else { break };
            if *left == 0 || timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut discarded = ReadBuf::uninit(&mut discarded);
            match ready!(Pin::new(&mut self.socket).poll_read(cx, &mut discarded)) {
                Ok(()) if !discarded.filled().is_empty() => {
                    *left = left.saturating_sub(discarded.filled().len() as u32)
                }
                _ => return Poll::Ready(Ok(())),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// The buffer size for the first read of a request, into which most request heads fit.
const FIRST_READ: usize = 8 * 1024;

/// The buffer size for the second and later reads of a request head.
const READ_MORE: usize = 4096;

/// The buffer size for content, after a read that has filled a smaller buffer.
pub(crate) const CONTENT_READ: usize = 64 * 1024;

/// The maximum number of bytes of later requests that are kept while a response is pending.
pub(crate) const MAX_AHEAD: usize = 16 * 1024;

/// The maximum time between a request and a half-close that [`HalfClose::WithRequest`] allows.
const HALF_CLOSE_WINDOW: Duration = Duration::from_millis(200);

/// The interval of checks for a closed connection while the socket is not read.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The maximum time that the server waits for the client to close the connection after the last response.
pub(super) const LINGER: Duration = Duration::from_secs(2);

/// The maximum number of bytes that are discarded after the last response.
const MAX_DISCARDED: u32 = 64 << 20;
const DISCARD: usize = 16 * 1024;

/// The maximum number of reads per poll while lingering, so that a fast client does not block the worker.
const DISCARDS_PER_POLL: usize = 4;
