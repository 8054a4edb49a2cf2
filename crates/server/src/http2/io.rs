//! The socket of an HTTP/2 connection, with a look at the frames in both directions.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;

use super::activity::Activity;
use super::frames::{CONTINUATION, END_HEADERS, FrameScanner, GOAWAY, HEADERS, RST_STREAM};

/// A socket whose frames are counted.
#[derive(Debug)]
pub(super) struct FrameIo<T> {
    socket: T,
    /// Bytes that were read before it was known that this is HTTP/2.
    first: Bytes,
    received: FrameScanner,
    sent: FrameScanner,
    /// Complete request heads, and the stream of the last.
    heads: u64,
    last_head: u32,
    /// The highest stream that the client has opened; its head may be incomplete.
    last_stream: u32,
    /// A request head goes on in CONTINUATION frames.
    is_opening: bool,
    /// Frames received since the socket was flushed.
    unflushed: usize,
    activity: Arc<Activity>,
}

impl<T> FrameIo<T> {
    pub(super) fn new(socket: T, first: Bytes, activity: Arc<Activity>) -> Self {
        Self {
            socket,
            first,
            received: FrameScanner::of_client(),
            sent: FrameScanner::of_server(),
            heads: 0,
            last_head: 0,
            last_stream: 0,
            is_opening: false,
            unflushed: 0,
            activity,
        }
    }

    /// Looks at `bytes`, which the client has sent.
    fn receive(&mut self, bytes: &mut [u8]) {
        let mut at = 0;
        while let Some(frame) = self.received.next(bytes, &mut at) {
            self.activity.count_received(&frame);
            self.unflushed += 1;
            let ends_head = frame.flags & END_HEADERS != 0;
            match frame.kind {
                HEADERS if frame.stream > self.last_stream => {
                    self.last_stream = frame.stream;
                    self.is_opening = !ends_head;
                    if ends_head {
                        self.count_head();
                    }
                }
                CONTINUATION if self.is_opening && ends_head => {
                    self.is_opening = false;
                    self.count_head();
                }
                // hyper takes a stream that was reset with NO_ERROR for one that has ended, and in a tunnel CANCEL, too. Only
                // END_STREAM ends a message or a tunnel (RFC 9113 §8.1, RFC 8441 §5.1).
                RST_STREAM if matches!(frame.code, NO_ERROR | CANCEL) && frame.length == 4 => {
                    bytes[at - 1] = STREAM_CLOSED;
                }
                _ => {}
            }
        }
    }

    fn count_head(&mut self) {
        self.heads += 1;
        self.last_head = self.last_stream;
    }

    /// Looks at `bytes`, which the socket has taken.
    fn send(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while let Some(frame) = self.sent.next(bytes, &mut at) {
            self.activity.count_sent(&frame);
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> FrameIo<T> {
    /// Ends the connection with GOAWAY, and gives the client a moment to read it: bytes that meet a closed socket reset
    /// the connection, and the frame is lost with it.
    pub(super) async fn go_away(mut self) {
        let farewell = async {
            if self.sent.is_between_frames() {
                // RFC 9113 §6.8.
                let [.., length] = (8 + DEBUG_DATA.len()).to_be_bytes();
                let head = [0, 0, length, GOAWAY, 0, 0, 0, 0, 0];
                let payload = [self.last_stream.to_be_bytes(), ENHANCE_YOUR_CALM.to_be_bytes()].concat();
                self.socket.write_all(&[&head[..], &payload, DEBUG_DATA].concat()).await?;
            }
            self.socket.shutdown().await?;
            let mut waste = [0; 4096];
            for _ in 0..MAX_DISCARDS {
                if self.socket.read(&mut waste).await? == 0 {
                    break;
                }
            }
            Ok::<_, io::Error>(())
        };
        // Neither the time nor an error matters to anyone.
        let _ = timeout(LINGER, farewell).await;
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for FrameIo<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // h2 reads more only when it has worked through every frame that it has.
        this.activity.heads_decoded(this.heads, this.last_head);
        if this.unflushed >= FRAMES_PER_FLUSH {
            // What h2 has to say to these frames is queued until it has nothing left to read.
            return Poll::Pending;
        }
        let before = buf.filled().len();
        if this.first.has_remaining() {
            let taken = this.first.len().min(buf.remaining());
            buf.put_slice(&this.first.split_to(taken));
        } else {
            ready!(Pin::new(&mut this.socket).poll_read(cx, buf))?;
        }
        this.receive(&mut buf.filled_mut()[before..]);
        Poll::Ready(match this.activity.is_exhausted() {
            true => Err(io::Error::other("too many HTTP/2 frames that carry no request")),
            false => Ok(()),
        })
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for FrameIo<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.socket).poll_write(cx, buf);
        this.activity.set_blocked(polled.is_pending());
        let written = ready!(polled)?;
        this.activity.count_written(written);
        this.send(&buf[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.socket).poll_write_vectored(cx, bufs);
        this.activity.set_blocked(polled.is_pending());
        let written = ready!(polled)?;
        this.activity.count_written(written);
        let mut left = written;
        for buf in bufs {
            let taken = left.min(buf.len());
            this.send(&buf[..taken]);
            left -= taken;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.socket).poll_flush(cx))?;
        if std::mem::take(&mut this.unflushed) >= FRAMES_PER_FLUSH {
            // The next read was put off.
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// Frames that are read before the answers to them are written: what h2 queues meanwhile has a bound.
const FRAMES_PER_FLUSH: usize = 100;

/// How long a client that was told to go away may take to close.
const LINGER: Duration = Duration::from_secs(1);

/// Reads of what it still sends.
const MAX_DISCARDS: usize = 256;

const DEBUG_DATA: &[u8] = b"too_many_rejected_frames";

// RFC 9113 §7.
const NO_ERROR: u32 = 0;
const STREAM_CLOSED: u8 = 5;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http2::frames::{DATA, PREFACE};
    use tokio::io::duplex;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let [.., length] = payload.len().to_be_bytes();
        [&[0, 0, length, kind, flags], &stream.to_be_bytes()[..], payload].concat()
    }

    #[tokio::test]
    async fn a_reset_never_reads_as_an_end() {
        for (code, read) in [(0, 5), (8, 5), (2, 2), (0x100, 0x100)] {
            // However the bytes come in.
            for piece in 1..14 {
                let code = u32::to_be_bytes(code);
                let data = frame(DATA, 0, 1, &[0; 4]);
                let bytes = [&PREFACE[..], &data, &frame(RST_STREAM, 0, 1, &code)].concat();
                let (mut near, far) = duplex(64);
                let mut io = FrameIo::new(far, Bytes::new(), Arc::new(Activity::new(false)));
                let mut received = Vec::new();
                for part in bytes.chunks(piece) {
                    near.write_all(part).await.unwrap();
                    let mut buffer = [0; 64];
                    let count = io.read(&mut buffer).await.unwrap();
                    received.extend_from_slice(&buffer[..count]);
                }
                let expected = [&PREFACE[..], &data, &frame(RST_STREAM, 0, 1, &u32::to_be_bytes(read))].concat();
                assert_eq!(received, expected);
            }
        }
    }

    #[tokio::test]
    async fn frames_wait_until_what_they_caused_is_written() {
        let (mut near, far) = duplex(64 * 1024);
        let mut io = FrameIo::new(far, Bytes::new(), Arc::new(Activity::new(false)));
        near.write_all(PREFACE).await.unwrap();
        near.write_all(&frame(HEADERS, 5, 1, b"x").repeat(FRAMES_PER_FLUSH)).await.unwrap();
        near.write_all(&frame(DATA, 1, 1, b"end")).await.unwrap();
        let mut buffer = [0; 24 + 10 * FRAMES_PER_FLUSH];
        io.read_exact(&mut buffer).await.unwrap();
        let mut read = tokio_test_pending(&mut io);
        assert!(read.as_mut().await, "the next frame is read before the flush");
        drop(read);
        io.flush().await.unwrap();
        assert_eq!(io.read(&mut [0; 64]).await.unwrap(), 12);
    }

    #[tokio::test]
    async fn a_head_that_is_rejected_after_the_head_before_it_was_settled_counts() {
        let (mut near, far) = duplex(1024);
        let activity = Arc::new(Activity::new(false));
        let mut io = FrameIo::new(far, Bytes::new(), Arc::clone(&activity));
        let rejection = |stream| frame(RST_STREAM, 0, stream, &[0, 0, 0, 1]);
        let first = [&PREFACE[..], &frame(HEADERS, 5, 1, b"x"), &frame(HEADERS, 1, 3, b"x")].concat();
        for (received, stream) in [(first, 1), (frame(CONTINUATION, END_HEADERS, 3, b"x"), 3)] {
            near.write_all(&received).await.unwrap();
            io.read_exact(&mut vec![0; received.len()]).await.unwrap();
            assert!(tokio_test_pending(&mut io).await);
            io.write_all(&rejection(stream)).await.unwrap();
            assert_eq!(activity.settle().malformed, 1, "{stream}");
        }
    }

    /// Whether a read is pending.
    fn tokio_test_pending<T: AsyncRead + Unpin>(io: &mut FrameIo<T>) -> Pin<Box<impl Future<Output = bool> + '_>> {
        Box::pin(std::future::poll_fn(move |cx| {
            let mut buffer = [0; 64];
            Poll::Ready(Pin::new(&mut *io).poll_read(cx, &mut ReadBuf::new(&mut buffer)).is_pending())
        }))
    }
}
