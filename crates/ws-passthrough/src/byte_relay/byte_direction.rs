//! One direction of a byte relay: from a source to a destination.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::frame_tracker::{FrameTracker, close_frame};

/// The state of a relay of bytes from a source to a destination.
///
/// The relay reads only when all bytes read before are written, so that a slow reader slows the sender down. It allocates a
/// buffer only for bytes that could not be written.
#[derive(Debug)]
pub(super) struct ByteDirection {
    frames: FrameTracker,
    unsent: Vec<u8>,
    sent: usize,
    needs_flush: bool,
    /// Whether a Close frame was sent to the destination, so that it gets no more frames. The source is then read only
    /// for its Close.
    is_close_sent: bool,
    /// Whether a write to the destination failed. The destination is then not used any more.
    is_destination_lost: bool,
    is_source_ended: bool,
    is_shut_down: bool,
    bytes: u64,
    has_moved: bool,
    reported: Traffic,
}

#[derive(Clone, Copy, Debug, Default)]
struct Traffic {
    bytes: u64,
    messages: u64,
}

/// The side of a relay direction that failed: its source or its destination.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum FailedSide {
    Source,
    Destination,
}

/// A Close frame that the proxy itself sends to the destination.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProxyClose {
    pub(super) code: u16,
    pub(super) mask: Option<[u8; 4]>,
}

impl ByteDirection {
    pub(super) fn new(frames: FrameTracker) -> Self {
        Self {
            frames,
            unsent: Vec::new(),
            sent: 0,
            needs_flush: false,
            is_close_sent: false,
            is_destination_lost: false,
            is_source_ended: false,
            is_shut_down: false,
            bytes: 0,
            has_moved: false,
            reported: Traffic::default(),
        }
    }

    /// Returns the number of bytes received from the source.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the number of complete messages received from the source.
    pub(super) fn messages(&self) -> u64 {
        self.frames.messages()
    }

    /// Returns the number of bytes and messages received since the last call.
    pub(super) fn take_traffic(&mut self) -> (u64, u64) {
        let now = Traffic { bytes: self.bytes, messages: self.frames.messages() };
        let before = std::mem::replace(&mut self.reported, now);
        (now.bytes - before.bytes, now.messages - before.messages)
    }

    /// Returns the close code that the source sent, if any.
    pub(super) fn close_code(&self) -> Option<u16> {
        self.frames.close_code()
    }

    /// Returns whether the source sent a Close frame.
    pub(super) fn has_close(&self) -> bool {
        self.frames.has_close()
    }

    /// Returns whether the source sent a Close frame or closed its connection.
    pub(super) fn is_source_closed(&self) -> bool {
        self.frames.has_close() || self.is_source_ended
    }

    /// Returns whether the source has closed its connection and the destination is shut down.
    pub(super) fn is_shut_down(&self) -> bool {
        self.is_shut_down
    }

    /// Returns whether the WebSocket closing handshake is complete in this direction.
    ///
    /// It is when the destination has got the Close and the source is closed.
    pub(super) fn is_settled(&self) -> bool {
        let is_sent = self.is_close_sent && self.unsent.is_empty() && !self.needs_flush;
        self.is_shut_down || (is_sent && self.is_source_closed())
    }

    /// Returns whether a Close frame was sent to the destination, so that it gets no more frames.
    pub(super) fn is_close_sent(&self) -> bool {
        self.is_close_sent || self.is_shut_down
    }

    /// Treats a failed source like a source that closed its connection.
    pub(super) fn end_source(&mut self) {
        self.is_source_ended = true;
    }

    /// Stops writing to a failed destination. The source is still read.
    pub(super) fn lose_destination(&mut self) {
        (self.is_close_sent, self.is_destination_lost, self.needs_flush) = (true, true, false);
        (self.unsent, self.sent) = (Vec::new(), 0);
    }

    /// Returns whether bytes were relayed since the last call of this method.
    pub(super) fn take_has_moved(&mut self) -> bool {
        std::mem::take(&mut self.has_moved)
    }

    /// Relays bytes from the source to the destination of this direction. Ready when the source ended and the
    /// destination is shut down.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut (impl AsyncRead + Unpin),
        destination: &mut (impl AsyncWrite + Unpin),
        proxy_close: Option<ProxyClose>,
    ) -> Poll<Result<(), FailedSide>> {
        let (mut source, mut destination) = (Pin::new(source), Pin::new(destination));
        for _ in 0..MAX_ITERATIONS {
            if self.is_shut_down {
                return Poll::Ready(Ok(()));
            }
            while self.sent < self.unsent.len() {
                let written = ready!(destination.as_mut().poll_write(cx, &self.unsent[self.sent..]));
                self.sent += non_zero(written)?;
                self.needs_flush = true;
                self.has_moved = true;
            }
            if !self.unsent.is_empty() {
                // Frees the buffer, so that idle tunnels have none.
                (self.unsent, self.sent) = (Vec::new(), 0);
            }
            if let Some(close) = proxy_close
                && !self.is_close_sent
                && self.frames.is_at_boundary()
            {
                self.send_close(close);
                continue;
            }
            if self.is_source_ended && self.is_destination_lost {
                self.is_shut_down = true;
                continue;
            }
            if self.is_source_ended {
                ready!(destination.as_mut().poll_shutdown(cx)).map_err(|_| FailedSide::Destination)?;
                self.is_shut_down = true;
                self.needs_flush = false;
                continue;
            }

            // On the stack, so that idle tunnels have no buffer.
            let mut space = [MaybeUninit::uninit(); BUFFER];
            let mut buffer = ReadBuf::uninit(&mut space);
            match source.as_mut().poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Err(FailedSide::Source)),
                Poll::Pending => {
                    if self.needs_flush {
                        ready!(destination.as_mut().poll_flush(cx)).map_err(|_| FailedSide::Destination)?;
                        self.needs_flush = false;
                    }
                    return Poll::Pending;
                }
            }
            let bytes = buffer.filled();
            if bytes.is_empty() {
                self.is_source_ended = true;
                continue;
            }
            self.has_moved = true;
            self.bytes += bytes.len() as u64;
            match proxy_close {
                _ if self.is_close_sent => self.frames.advance(bytes),
                Some(close) => {
                    let boundary = self.frames.advance_to_boundary(bytes);
                    self.unsent.extend_from_slice(&bytes[..boundary]);
                    if self.frames.is_at_boundary() {
                        self.send_close(close);
                        self.frames.advance(&bytes[boundary..]);
                    }
                }
                None => {
                    self.frames.advance(bytes);
                    let written = match destination.as_mut().poll_write(cx, bytes) {
                        Poll::Ready(written) => non_zero(written)?,
                        Poll::Pending => 0,
                    };
                    self.needs_flush = true;
                    self.unsent.extend_from_slice(&bytes[written..]);
                }
            }
        }
        // Lets other tasks run.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Appends a Close frame to the unsent bytes, unless the source has sent one.
    fn send_close(&mut self, close: ProxyClose) {
        self.is_close_sent = true;
        if !self.frames.has_close() {
            self.unsent.extend_from_slice(&close_frame(close.code, close.mask));
        }
    }
}

fn non_zero(written: io::Result<usize>) -> Result<usize, FailedSide> {
    match written {
        Ok(0) | Err(_) => Err(FailedSide::Destination),
        Ok(written) => Ok(written),
    }
}

const BUFFER: usize = 8 * 1024;
/// The maximum number of reads and writes before the task yields.
const MAX_ITERATIONS: usize = 32;
