//! The socket as hyper sees it: only complete heads, only bodies that keep their framing.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::RefusedHead;
use super::framing::{HeadLimits, Scan, Scanner};
use super::watch::Watch;

/// A socket whose reads have been looked at.
///
/// Bytes go straight into the reader's buffer. Only an incomplete head at the end of a read is held
/// back, until the rest of it has come.
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
    linger: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// The stand-in for a refused head is in `held`; nothing is read any more.
    Refused,
    /// The framing is lost.
    Broken,
    Ended,
}

impl<T> FramedIo<T> {
    pub(crate) fn new(socket: T, limits: HeadLimits, watch: Arc<Watch>) -> Self {
        let scanner = Scanner::new(limits);
        Self { socket, scanner, watch, held: Vec::new(), released: 0, stage: Stage::Open, linger: None }
    }

    /// Whether bytes wait to be passed on.
    pub(crate) fn has_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether everything that was read belongs to one of the `answered` requests, and another may come.
    pub(crate) fn is_between_requests(&self, answered: u64) -> bool {
        self.stage == Stage::Open && self.scanner.is_at_head() && self.scanner.heads() == answered
    }

    /// The first bytes after a time without any, in an allocation of their size; `None` is the end.
    pub(crate) fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>>
    where
        T: AsyncRead + Unpin,
    {
        // On the stack: while nothing comes, there is no buffer.
        let mut bytes = [const { MaybeUninit::uninit() }; FIRST_READ];
        let mut first = ReadBuf::uninit(&mut bytes);
        let read = ready!(Pin::new(&mut self.socket).poll_read(cx, &mut first));
        let has_come = read.is_ok() && !first.filled().is_empty();
        Poll::Ready(has_come.then(|| Bytes::copy_from_slice(first.filled())))
    }

    /// Takes the bytes that wait, to be looked at anew.
    pub(crate) fn take_held(&mut self) -> Option<Bytes> {
        if self.held.is_empty() {
            return None;
        }
        self.released = 0;
        self.scanner.look_again();
        self.watch.set_head_began(false);
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

    /// Whether the client has gone, instead of waiting for its answer.
    ///
    /// Clients that half-close and wait are none that we know of: they are gone, too.
    pub(crate) fn is_gone(&mut self, cx: &mut Context<'_>) -> bool
    where
        T: AsyncRead + Unpin,
    {
        // What it sends ahead is held, but no more than one reading of it.
        if !self.held.is_empty() {
            return false;
        }
        match self.poll_first(cx) {
            Poll::Ready(Some(ahead)) => {
                self.held.extend_from_slice(&ahead);
                false
            }
            Poll::Ready(None) => true,
            Poll::Pending => false,
        }
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
        self.watch.set_head_began(false);
        self.held.truncate(passed);
        self.held.extend_from_slice(STAND_IN);
        self.released = self.held.len();
        self.stage = Stage::Refused;
    }

    /// Looks at the held bytes that were not released yet.
    fn scan_held(&mut self) {
        match self.scanner.scan(&self.held[self.released..]) {
            Scan::Pass(passed) => self.released += passed,
            Scan::Refuse(passed, refused) => self.refuse(self.released + passed, refused),
            Scan::Broken(passed) => {
                self.released += passed;
                self.stage = Stage::Broken;
            }
        }
        let incomplete = self.held.len() > self.released && self.scanner.is_at_head();
        self.watch.set_head_began(incomplete && self.stage == Stage::Open);
    }

    /// Looks at what was read straight into `buf` after its first `before` bytes, and leaves there
    /// what may be passed on.
    fn scan_read(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        let read = &buf.filled()[before..];
        let passed = match self.scanner.scan(read) {
            Scan::Pass(passed) if passed == read.len() => return,
            Scan::Pass(passed) => {
                self.held.extend_from_slice(&read[passed..]);
                self.watch.set_head_began(self.scanner.is_at_head());
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

    /// Reads more behind the held bytes, and tells how much.
    fn poll_read_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>>
    where
        T: AsyncRead + Unpin,
    {
        let before = self.held.len();
        self.held.resize(before + READ_MORE, 0);
        let mut more = ReadBuf::new(&mut self.held[before..]);
        let polled = Pin::new(&mut self.socket).poll_read(cx, &mut more);
        let read = more.filled().len();
        self.held.truncate(before + read);
        polled.map_ok(|()| read)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for FramedIo<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.released > 0 {
                this.pass_on(buf);
                return Poll::Ready(Ok(()));
            }
            match this.stage {
                Stage::Open => {}
                // hyper answers the stand-in and closes; an end here would cut the answer off.
                Stage::Refused => return Poll::Pending,
                Stage::Broken => return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "bad chunk"))),
                Stage::Ended => return Poll::Ready(Ok(())),
            }
            if this.scanner.awaits_verdict() {
                // The answer is made in this very task, which is then polled again.
                let Some(switched) = this.watch.answer_to(this.scanner.heads()) else { return Poll::Pending };
                this.scanner.verdict(switched);
                this.scan_held();
            } else if this.held.is_empty() {
                let before = buf.filled().len();
                ready!(Pin::new(&mut this.socket).poll_read(cx, buf))?;
                let at_end = buf.filled().len() == before;
                this.scan_read(buf, before);
                if at_end || buf.filled().len() > before {
                    return Poll::Ready(Ok(()));
                }
            } else if this.watch.is_head_too_slow() {
                this.refuse(0, RefusedHead::TooSlow);
            } else if ready!(this.poll_read_held(cx))? == 0 {
                // The peer gave up in the middle of a head: there is no request to answer.
                this.held = Vec::new();
                this.watch.set_head_began(false);
                this.stage = Stage::Ended;
            } else {
                this.scan_held();
            }
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for FramedIo<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    /// Closes, and waits a while for the peer to close where it may still be sending: bytes that
    /// meet a closed socket reset the connection, and the answer is lost with it (RFC 9112 §9.6).
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let is_whole = this.scanner.is_at_head() && !this.has_held() || this.scanner.is_tunnel();
        let still_sending = this.stage != Stage::Open || !is_whole;
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.socket).poll_shutdown(cx))?;
            if !still_sending || this.stage == Stage::Ended {
                return Poll::Ready(Ok(()));
            }
        }
        let linger = this.linger.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        let mut waste = [0; 4096];
        for _ in 0..DISCARDS_PER_POLL {
            if linger.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut waste = ReadBuf::new(&mut waste);
            match ready!(Pin::new(&mut this.socket).poll_read(cx, &mut waste)) {
                Ok(()) if !waste.filled().is_empty() => {}
                _ => return Poll::Ready(Ok(())),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// What hyper reads in place of a head that is refused. The service knows it by its number.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused.invalid\r\nconnection: close\r\n\r\n";

/// Most heads fit.
const FIRST_READ: usize = 8 * 1024;

/// How much is read at a time behind an incomplete head.
const READ_MORE: usize = 4096;

/// How long a closing connection waits for a peer that is still sending.
const LINGER: Duration = Duration::from_secs(2);

/// Reads per poll while lingering, so that a fast sender does not hold the worker.
const DISCARDS_PER_POLL: usize = 16;
