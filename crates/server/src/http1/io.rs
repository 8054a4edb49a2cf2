//! The socket as hyper sees it: only complete heads, only bodies that keep their framing.

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
use super::framing::{HeadLimits, Scan, Scanner, encoded_target};
use super::watch::Watch;
use crate::RefusedHead;
use crate::socket::ClientSocket;

/// A socket whose reads have been looked at.
///
/// Bytes go straight into the reader's buffer, one message at a time. What follows a message is held back until the
/// message has its answer, and so is an incomplete head until the rest of it has come. While a request waits for its
/// answer the socket is read on, within a bound, so that a client that leaves is noticed.
#[derive(Debug)]
pub(crate) struct FramedIo<T> {
    socket: T,
    scanner: Scanner,
    watch: Arc<Watch>,
    /// Bytes read and not yet passed on.
    held: Vec<u8>,
    /// How many of the first `held` bytes may be passed on.
    released: usize,
    stage: Stage,
    half_close: HalfClose,
    /// The number of the last head of HTTP/1.0 whose response has begun.
    http10_answered: u64,
    /// Whether the connection is reset where it ends otherwise than by a shutdown.
    resets: bool,
    /// When bytes came last.
    read_at: Instant,
    /// While a client is waited for that sends no more: the next look at it, or the end of lingering.
    timer: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// The stand-in for a refused head is in `held`; nothing is read any more.
    Refused,
    /// The framing is lost.
    Broken,
    /// The client sends no more, and waits for its answer.
    HalfClosed,
    Ended,
    /// Our side is closed; so many bytes may still be discarded.
    Lingers(usize),
}

impl<T> FramedIo<T> {
    pub(crate) fn new(socket: T, limits: HeadLimits, half_close: HalfClose, watch: Arc<Watch>) -> Self {
        Self {
            socket,
            scanner: Scanner::new(limits),
            watch,
            held: Vec::new(),
            released: 0,
            stage: Stage::Open,
            half_close,
            http10_answered: 0,
            resets: false,
            read_at: Instant::now(),
            timer: None,
        }
    }

    /// Whether bytes wait to be passed on.
    pub(crate) fn has_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether everything that was read belongs to one of the `answered` requests, and another may come.
    pub(crate) fn is_between_requests(&self, answered: u64) -> bool {
        self.stage == Stage::Open && self.scanner.is_at_head() && self.scanner.heads() == answered
    }

    /// Whether the client sends no more.
    pub(crate) fn is_half_closed(&self) -> bool {
        self.stage == Stage::HalfClosed
    }

    /// The first bytes after a time without any, in an allocation of their size; `None` is the end.
    pub(crate) fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>>
    where
        T: AsyncRead + Unpin,
    {
        if self.stage != Stage::Open {
            return Poll::Ready(None);
        }
        // On the stack: while nothing comes, there is no buffer.
        let mut bytes = [const { MaybeUninit::uninit() }; FIRST_READ];
        let mut first = ReadBuf::uninit(&mut bytes);
        let read = ready!(Pin::new(&mut self.socket).poll_read(cx, &mut first));
        let has_come = read.is_ok() && !first.filled().is_empty();
        if has_come {
            self.read_at = Instant::now();
        }
        Poll::Ready(has_come.then(|| Bytes::copy_from_slice(first.filled())))
    }

    /// Takes the bytes that wait, to be looked at anew.
    pub(crate) fn take_held(&mut self) -> Option<Bytes> {
        if self.held.is_empty() {
            return None;
        }
        self.released = 0;
        self.scanner.look_again();
        self.watch.set_head_began(None);
        Some(std::mem::take(&mut self.held).into())
    }

    /// Holds bytes that were taken, as they were.
    pub(crate) fn put_back(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// The bytes that wait.
    pub(crate) fn held(&self) -> &[u8] {
        &self.held
    }

    /// The socket, and the bytes that wait.
    pub(crate) fn into_parts(self) -> (T, Bytes) {
        (self.socket, self.held.into())
    }

    /// Holds bytes that are to be passed on.
    pub(crate) fn hold(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
        self.scan_held();
    }

    /// Passes on what has been released.
    fn pass_on(&mut self, buf: &mut ReadBuf<'_>) {
        let taken = self.released.min(buf.remaining());
        buf.put_slice(&self.held[..taken]);
        self.held.drain(..taken);
        self.released -= taken;
        if self.held.is_empty() {
            // Incomplete heads are rare; a connection does not keep a buffer for the next one.
            self.held = Vec::new();
        }
    }

    /// Puts the stand-in for a refused head behind the first `passed` held bytes.
    fn refuse(&mut self, passed: usize, refused: RefusedHead) {
        self.watch.refuse(self.scanner.heads(), refused);
        self.watch.set_head_began(None);
        self.held.truncate(passed);
        self.held.extend_from_slice(STAND_IN);
        self.released = self.held.len();
        self.stage = Stage::Refused;
    }

    /// Looks at the held bytes that were not released yet, up to the end of a message.
    fn scan_held(&mut self) {
        loop {
            match self.scanner.scan(&self.held[self.released..]) {
                Scan::Pass(passed) => self.released += passed,
                Scan::Encode(passed) => {
                    self.released += passed;
                    if self.encode_target() {
                        continue;
                    }
                    self.refuse(self.released, RefusedHead::Malformed);
                }
                Scan::Refuse(passed, refused) => self.refuse(self.released + passed, refused),
                Scan::Broken(passed) => {
                    self.released += passed;
                    self.stage = Stage::Broken;
                }
            }
            return self.watch_head();
        }
    }

    /// Looks at what was read straight into `buf` after its first `before` bytes, and leaves there
    /// what may be passed on.
    fn scan_read(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        let read = &buf.filled()[before..];
        let passed = match self.scanner.scan(read) {
            Scan::Pass(passed) if passed == read.len() => return,
            Scan::Pass(passed) => {
                self.held.extend_from_slice(&read[passed..]);
                self.watch_head();
                passed
            }
            Scan::Encode(passed) => {
                self.held.extend_from_slice(&read[passed..]);
                self.scan_held();
                passed
            }
            Scan::Refuse(passed, refused) => {
                self.refuse(0, refused);
                passed
            }
            Scan::Broken(passed) => {
                self.stage = Stage::Broken;
                passed
            }
        };
        buf.set_filled(before + passed);
    }

    /// Percent-encodes the target of the head behind the released bytes.
    fn encode_target(&mut self) -> bool {
        let Some((target, encoded)) = encoded_target(&self.held[self.released..]) else { return false };
        self.held.splice(self.released + target.start..self.released + target.end, encoded);
        true
    }

    /// Tells whether a head has come in part: for that there is a limited time.
    fn watch_head(&self) {
        let has_begun = self.stage == Stage::Open
            && self.held.len() > self.released
            && self.scanner.is_at_head()
            && self.watch.calls() == self.scanner.heads()
            && !self.watch.is_in_flight();
        self.watch.set_head_began(NonZeroU64::new(self.scanner.heads() + 1).filter(|_| has_begun));
    }

    /// Whether all of a request has been passed on, and what follows it waits for its answer.
    fn is_behind_request(&self) -> bool {
        let is_whole = self.scanner.is_at_head() || self.scanner.awaits_verdict();
        is_whole && self.scanner.heads() > 0 && !self.watch.has_ended(self.scanner.heads())
    }
}

impl<T: ClientSocket> FramedIo<T> {
    /// Reads more behind the held bytes, and tells how much.
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

    /// Whether the client has gone, instead of waiting for its answer.
    ///
    /// What it sends ahead is held, up to a bound. An end of its side may be a half-close: see [`HalfClose`].
    pub(crate) fn is_gone(&mut self, cx: &mut Context<'_>) -> bool {
        // On the stack: while nothing comes, there is no buffer.
        let mut bytes = [const { MaybeUninit::uninit() }; READ_MORE];
        while self.stage == Stage::Open && self.held.len() < MOST_AHEAD {
            let mut ahead = ReadBuf::uninit(&mut bytes);
            match Pin::new(&mut self.socket).poll_read(cx, &mut ahead) {
                Poll::Pending => return false,
                Poll::Ready(Ok(())) if !ahead.filled().is_empty() => {
                    self.read_at = Instant::now();
                    self.held.extend_from_slice(ahead.filled());
                }
                Poll::Ready(Ok(())) if self.reads_on() => {
                    self.stage = Stage::HalfClosed;
                    if self.held.is_empty() {
                        self.watch.half_close();
                    }
                    self.socket.probe();
                }
                Poll::Ready(_) => self.stage = Stage::Ended,
            }
        }
        match self.stage {
            Stage::Ended => return true,
            // It sends ahead more than is held.
            Stage::Open if self.socket.ended().read && !self.reads_on() => return true,
            _ if self.socket.ended().write => return true,
            _ => {}
        }
        // Nothing that could be read tells any more.
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(LOOK)));
        while timer.as_mut().poll(cx).is_ready() {
            timer.as_mut().reset(Instant::now() + LOOK);
        }
        false
    }

    /// From now on, only a shutdown is an end: a body that ends with the connection is not to look whole if it breaks off.
    pub(crate) fn resets_unless_shut_down(&mut self) {
        self.resets = true;
        self.socket.reset_on_drop(true);
    }

    /// Whether a client that has ended its side reads on.
    fn reads_on(&self) -> bool {
        let may_read_on = match self.half_close {
            HalfClose::WithRequest => self.read_at.elapsed() <= END_OF_REQUEST,
            HalfClose::Always => true,
            HalfClose::Never => false,
        };
        // Nobody talks another protocol in one direction.
        may_read_on && !self.scanner.awaits_verdict() && !self.socket.ended().write
    }
}

impl<T: ClientSocket> AsyncRead for FramedIo<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.released > 0 {
                this.pass_on(buf);
                return Poll::Ready(Ok(()));
            }
            match this.stage {
                Stage::Open | Stage::HalfClosed => {}
                // hyper answers the stand-in and closes; an end here would cut the answer off.
                Stage::Refused => return Poll::Pending,
                Stage::Broken => return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "bad chunk"))),
                Stage::Ended | Stage::Lingers(_) => return Poll::Ready(Ok(())),
            }
            if this.scanner.awaits_verdict()
                // The answer is made in this very task, which is then polled again.
                && let Some(switched) = this.watch.answer_to(this.scanner.heads())
            {
                this.scanner.verdict(switched);
                if switched {
                    this.scan_held();
                }
            } else if this.is_behind_request() {
                match this.is_gone(cx) {
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
            } else if this.watch.is_head_too_slow() {
                this.refuse(0, RefusedHead::TooSlow);
            } else {
                // The next message, or more of it.
                this.scan_held();
                if this.released > 0 || matches!(this.stage, Stage::Refused | Stage::Broken) {
                    continue;
                }
                if this.stage == Stage::HalfClosed || ready!(this.poll_read_held(cx))? == 0 {
                    // The peer gave up in the middle of a head: there is no request to answer.
                    this.held = Vec::new();
                    this.watch.set_head_began(None);
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

    /// Closes our side, and waits a while for the client to close its own: bytes that meet a closed socket reset the
    /// connection, and the answer is lost with it (RFC 9112 §9.6).
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !matches!(this.stage, Stage::Lingers(_)) {
            if std::mem::take(&mut this.resets) {
                this.socket.reset_on_drop(false);
            }
            ready!(Pin::new(&mut this.socket).poll_shutdown(cx))?;
            let has_ended = matches!(this.stage, Stage::HalfClosed | Stage::Ended);
            if has_ended || this.scanner.is_tunnel() || this.watch.ends_idle() {
                return Poll::Ready(Ok(()));
            }
            this.stage = Stage::Lingers(MOST_DISCARDED);
            this.timer = Some(Box::pin(sleep(LINGER)));
        }
        let mut waste = [const { MaybeUninit::uninit() }; DISCARD];
        for _ in 0..DISCARDS_PER_POLL {
            let (Stage::Lingers(left), Some(timer)) = (&mut this.stage, &mut this.timer) else { break };
            if *left == 0 || timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut waste = ReadBuf::uninit(&mut waste);
            match ready!(Pin::new(&mut this.socket).poll_read(cx, &mut waste)) {
                Ok(()) if !waste.filled().is_empty() => *left = left.saturating_sub(waste.filled().len()),
                _ => return Poll::Ready(Ok(())),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<T: ClientSocket> FramedIo<T> {
    /// Whether `buf` is the beginning of a response by hyper to a client of HTTP/1.0.
    fn begins_http10(&self, buf: &[u8]) -> bool {
        self.scanner.is_http10() && self.http10_answered != self.scanner.heads() && buf.starts_with(HTTP10)
    }

    /// Writes `buf` with our own version (RFC 9110 §2.5, §6.2) in place of the client's, which hyper writes.
    fn poll_write_status(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        // hyper ends a body whose length is unknown with the connection.
        self.resets_unless_shut_down();
        let status = [HTTP11, &buf[HTTP10.len()..]].concat();
        let written = ready!(Pin::new(&mut self.socket).poll_write(cx, &status))?;
        self.http10_answered = self.scanner.heads();
        Poll::Ready(Ok(written))
    }
}

const HTTP10: &[u8] = b"HTTP/1.0 ";
const HTTP11: &[u8] = b"HTTP/1.1 ";

/// What hyper reads in place of a head that is refused. The service knows it by its number.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused.invalid\r\nconnection: close\r\n\r\n";

/// Most heads fit.
const FIRST_READ: usize = 8 * 1024;

/// How much is read at a time behind an incomplete head.
const READ_MORE: usize = 4096;

/// How much of what a client sends ahead is held while its request waits for the answer.
const MOST_AHEAD: usize = 16 * 1024;

/// An end that comes within this time of the last byte of a request comes with the request.
const END_OF_REQUEST: Duration = Duration::from_millis(200);

/// How often a client is looked at that nothing is read from while it waits.
const LOOK: Duration = Duration::from_secs(1);

/// How long a closing connection waits for the client to close its side.
pub(super) const LINGER: Duration = Duration::from_secs(2);

/// How much a closing connection reads meanwhile, and how much at a time.
const MOST_DISCARDED: usize = 64 << 20;
const DISCARD: usize = 16 * 1024;

/// Reads per poll while lingering, so that a fast sender does not hold the worker.
const DISCARDS_PER_POLL: usize = 4;
