//! The frames that a client sends, counted: those that cost us work and ask for nothing are rationed.
//!
//! h2 bounds what a frame can make it hold (CONTINUATION, header lists, streams reset too soon). It does not bound
//! how many PING, SETTINGS, PRIORITY, WINDOW_UPDATE or empty DATA frames it works through (RFC 9113 §10.5).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::stream::Streams;

/// A socket whose frames are counted.
#[derive(Debug)]
pub(super) struct FrameIo<T> {
    socket: T,
    frames: Frames,
    streams: Arc<Streams>,
}

impl<T> FrameIo<T> {
    pub(super) fn new(socket: T, streams: Arc<Streams>) -> Self {
        Self { socket, frames: Frames::default(), streams }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for FrameIo<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.socket).poll_read(cx, buf))?;
        let seen = this.frames.scan(&buf.filled()[before..]);
        let is_flood = this.streams.pay(seen);
        Poll::Ready(if is_flood {
            Err(io::Error::other("flood of HTTP/2 frames that ask for nothing"))
        } else {
            Ok(())
        })
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for FrameIo<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.socket).poll_write(cx, buf))?;
        this.streams.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.socket).poll_write_vectored(cx, bufs))?;
        this.streams.wrote(written);
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

/// Where one frame ends and the next begins (RFC 9113 §4.1).
#[derive(Debug)]
struct Frames {
    /// Bytes to pass over before the next frame's head: the preface, then payloads.
    skip: usize,
    head: [u8; HEAD],
    /// How much of `head` is there.
    have: usize,
}

/// What there was in some bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Frames that carry a request, or a part of one.
    pub(super) useful: u32,
    /// Frames that ask for nothing.
    pub(super) idle: u32,
}

impl Default for Frames {
    fn default() -> Self {
        Self { skip: PREFACE, head: [0; HEAD], have: 0 }
    }
}

impl Frames {
    fn scan(&mut self, mut bytes: &[u8]) -> Seen {
        let mut seen = Seen::default();
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return seen;
            }
            let taken = (HEAD - self.have).min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have < HEAD {
                return seen;
            }
            self.have = 0;
            let [high, middle, low, kind, ..] = self.head;
            self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
            match kind {
                HEADERS => seen.useful += 1,
                DATA if self.skip > 0 => seen.useful += 1,
                _ => seen.idle += 1,
            }
        }
    }
}

/// What is seen in `bytes` when they come in pieces, for fuzzing.
#[cfg(any(test, fuzzing))]
pub(super) fn seen_in_pieces(bytes: &[u8], piece: usize) -> Seen {
    let (mut frames, mut all) = (Frames::default(), Seen::default());
    for part in bytes.chunks(piece.max(1)) {
        let seen = frames.scan(part);
        all.useful += seen.useful;
        all.idle += seen.idle;
    }
    all
}

/// `PRI * HTTP/2.0` and so on (RFC 9113 §3.4).
const PREFACE: usize = 24;

const HEAD: usize = 9;

// RFC 9113 §6.1, §6.2.
const DATA: u8 = 0;
const HEADERS: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let [.., high, middle, low] = (payload.len() as u32).to_be_bytes();
        [&[high, middle, low, kind, 0, 0, 0, 0, 1], payload].concat()
    }

    #[test]
    fn frames_are_told_by_what_they_ask_for() {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        for (frames, useful, idle) in [
            (vec![], 0, 0),
            (vec![frame(4, &[])], 0, 1),
            (vec![frame(4, &[]), frame(HEADERS, b"abc"), frame(9, b"d"), frame(DATA, b"e")], 2, 2),
            (vec![frame(DATA, &[]), frame(6, &[0; 8]), frame(8, &[0; 4]), frame(3, &[0; 4]), frame(99, b"?")], 0, 5),
            (vec![frame(DATA, &[0; 70_000]), frame(HEADERS, &[])], 2, 0),
        ] {
            let bytes = [preface.clone(), frames.concat()].concat();
            assert_eq!(Frames::default().scan(&bytes), Seen { useful, idle });
        }
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_reads_end(
            payloads in proptest::collection::vec((0u8..12, proptest::collection::vec(any::<u8>(), 0..40)), 0..20),
            piece in 1usize..60,
        ) {
            let frames = payloads.iter().map(|(kind, payload)| frame(*kind, payload));
            let bytes = std::iter::once(vec![0; PREFACE]).chain(frames).collect::<Vec<_>>().concat();
            let mut scanner = Frames::default();
            let mut all = Seen::default();
            for piece in bytes.chunks(piece) {
                let seen = scanner.scan(piece);
                all = Seen { useful: all.useful + seen.useful, idle: all.idle + seen.idle };
            }
            prop_assert_eq!(all, Frames::default().scan(&bytes));
            prop_assert_eq!((all.useful + all.idle) as usize, payloads.len());
        }
    }
}
