//! One direction of a tunnel: what is read from one end is written to the other.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::frames::{self, FrameTracker};

/// Reads no more than it can write at once, so that a slow reader slows the sender down, and holds
/// memory only while there is something it could not write.
#[derive(Debug)]
pub(crate) struct Direction {
    frames: FrameTracker,
    unsent: Vec<u8>,
    sent: usize,
    unflushed: bool,
    /// The last that the destination gets from here has been said: the rest is read, but for its
    /// frame headers not looked at, and thrown away.
    told: bool,
    /// The destination takes no more, and is not to be touched.
    lost: bool,
    ended: bool,
    shut: bool,
    bytes: u64,
    moved: bool,
    counted: Counted,
}

/// Bytes and messages that somebody knows of.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    bytes: u64,
    messages: u64,
}

/// Which end failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    Source,
    Destination,
}

/// Of our own accord, we say Close to the destination.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Closing {
    pub(crate) code: u16,
    pub(crate) mask: Option<[u8; 4]>,
}

impl Direction {
    /// Of a protocol that is followed by `frames`.
    pub(crate) fn new(frames: FrameTracker) -> Self {
        Self {
            frames,
            unsent: Vec::new(),
            sent: 0,
            unflushed: false,
            told: false,
            lost: false,
            ended: false,
            shut: false,
            bytes: 0,
            moved: false,
            counted: Counted::default(),
        }
    }

    /// How many bytes came from the source.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many whole messages came from the source.
    pub(crate) fn messages(&self) -> u64 {
        self.frames.messages()
    }

    /// Bytes and messages since this was asked last.
    pub(crate) fn take_new(&mut self) -> (u64, u64) {
        let now = Counted { bytes: self.bytes, messages: self.frames.messages() };
        let before = std::mem::replace(&mut self.counted, now);
        (now.bytes - before.bytes, now.messages - before.messages)
    }

    /// The code of the Close that the source said.
    pub(crate) fn close_code(&self) -> Option<u16> {
        self.frames.close_code()
    }

    /// Whether the source has said Close.
    pub(crate) fn has_said_close(&self) -> bool {
        self.frames.closed()
    }

    /// Whether the source has said that it has no more to say.
    pub(crate) fn source_closed(&self) -> bool {
        self.frames.closed() || self.ended
    }

    /// Whether the source has ended and the destination knows.
    pub(crate) fn is_shut(&self) -> bool {
        self.shut
    }

    /// Whether the destination knows that it gets no more, and the source has nothing left to say.
    pub(crate) fn is_settled(&self) -> bool {
        self.shut || (self.told && self.unsent.is_empty() && !self.unflushed && self.source_closed())
    }

    /// Whether the destination knows that it gets no more.
    pub(crate) fn is_told(&self) -> bool {
        self.told || self.shut
    }

    /// Takes a source that failed for one that has ended.
    pub(crate) fn end_source(&mut self) {
        self.ended = true;
    }

    /// Gives up on a destination that failed. The source is read all the same.
    pub(crate) fn lose_destination(&mut self) {
        (self.told, self.lost, self.unflushed) = (true, true, false);
        (self.unsent, self.sent) = (Vec::new(), 0);
    }

    /// Whether anything has moved since this was asked last.
    pub(crate) fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// Moves what can be moved. Ready when the source has ended and the destination knows.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut (impl AsyncRead + Unpin),
        destination: &mut (impl AsyncWrite + Unpin),
        closing: Option<Closing>,
    ) -> Poll<Result<(), Fault>> {
        let (mut source, mut destination) = (Pin::new(source), Pin::new(destination));
        for _ in 0..TURNS {
            if self.shut {
                return Poll::Ready(Ok(()));
            }
            while self.sent < self.unsent.len() {
                let written = ready!(destination.as_mut().poll_write(cx, &self.unsent[self.sent..]));
                self.sent += written_some(written)?;
                self.unflushed = true;
                self.moved = true;
            }
            if !self.unsent.is_empty() {
                // Idle tunnels hold no buffers.
                (self.unsent, self.sent) = (Vec::new(), 0);
            }
            if let Some(closing) = closing
                && !self.told
                && self.frames.at_boundary()
            {
                self.tell(closing);
                continue;
            }
            if self.ended && self.lost {
                self.shut = true;
                continue;
            }
            if self.ended {
                ready!(destination.as_mut().poll_shutdown(cx)).map_err(|_| Fault::Destination)?;
                self.shut = true;
                self.unflushed = false;
                continue;
            }

            // On the stack, and only as long as it is in use.
            let mut space = [MaybeUninit::uninit(); BUFFER];
            let mut buffer = ReadBuf::uninit(&mut space);
            match source.as_mut().poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Fault::Source)),
                Poll::Pending => {
                    if self.unflushed {
                        ready!(destination.as_mut().poll_flush(cx)).map_err(|_| Fault::Destination)?;
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
            let bytes = buffer.filled();
            if bytes.is_empty() {
                self.ended = true;
                continue;
            }
            self.moved = true;
            self.bytes += bytes.len() as u64;
            match closing {
                _ if self.told => self.frames.advance(bytes),
                Some(closing) => {
                    let whole = self.frames.advance_to_boundary(bytes);
                    self.unsent.extend_from_slice(&bytes[..whole]);
                    if self.frames.at_boundary() {
                        self.tell(closing);
                        self.frames.advance(&bytes[whole..]);
                    }
                }
                None => {
                    self.frames.advance(bytes);
                    let written = match destination.as_mut().poll_write(cx, bytes) {
                        Poll::Ready(written) => written_some(written)?,
                        Poll::Pending => 0,
                    };
                    self.unflushed = true;
                    self.unsent.extend_from_slice(&bytes[written..]);
                }
            }
        }
        // Others have a turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Says Close after what is unsent, if the source has not said it already.
    fn tell(&mut self, closing: Closing) {
        self.told = true;
        if !self.frames.closed() {
            self.unsent.extend_from_slice(&frames::close(closing.code, closing.mask));
        }
    }
}

fn written_some(written: io::Result<usize>) -> Result<usize, Fault> {
    match written {
        Ok(0) | Err(_) => Err(Fault::Destination),
        Ok(written) => Ok(written),
    }
}

const BUFFER: usize = 8 * 1024;
const TURNS: usize = 32;
