//! A wrapper around the socket of an HTTP/2 connection that scans the frames in both directions.

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

/// A socket that counts received and sent frames in an [`Activity`].
#[derive(Debug)]
pub(super) struct FrameIo<T> {
    socket: T,
    /// The bytes that were read before HTTP/2 was detected.
    first: Bytes,
    received: FrameScanner,
    sent: FrameScanner,
    /// The number of complete request heads, and the stream identifier of the last head.
    heads: u64,
    last_head: u32,
    /// The highest stream number that the client has used. The head of that stream may be incomplete.
    last_stream: u32,
    /// Whether the rest of a request head follows in CONTINUATION frames.
    is_opening: bool,
    /// The number of frames received since the socket was last flushed.
    unflushed: usize,
    activity: Arc<Activity>,
}

impl<T> FrameIo<T> {
    pub(super) fn new(socket: T, first: Bytes, activity: Arc<Activity>) -> Self {
        Self {
            socket,
            first,
            received: FrameScanner::for_client(),
            sent: FrameScanner::for_server(),
            heads: 0,
            last_head: 0,
            last_stream: 0,
            is_opening: false,
            unflushed: 0,
            activity,
        }
    }

    /// Scans and counts the frames in received bytes.
    fn scan_received(&mut self, bytes: &mut [u8]) {
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
                // Only END_STREAM ends a message or a tunnel (RFC 9113 §8.1, RFC 8441 §5.1). But hyper treats a reset with
                // NO_ERROR as the end of the message, and also CANCEL in a tunnel, so these codes are replaced.
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

    /// Scans and counts the frames in sent bytes.
    fn scan_sent(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while let Some(frame) = self.sent.next(bytes, &mut at) {
            self.activity.count_sent(&frame);
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> FrameIo<T> {
    /// Sends GOAWAY with `ENHANCE_YOUR_CALM`, and closes the connection.
    ///
    /// Then it discards received bytes for a moment, because bytes that arrive at a closed socket reset the connection, and
    /// the client would lose the frame.
    pub(super) async fn close_with_goaway(mut self) {
        let close = async {
            if self.sent.is_between_frames() {
                // RFC 9113 §6.8.
                let [.., length] = (8 + DEBUG_DATA.len()).to_be_bytes();
                let head = [0, 0, length, GOAWAY, 0, 0, 0, 0, 0];
                let payload = [self.last_stream.to_be_bytes(), ENHANCE_YOUR_CALM.to_be_bytes()].concat();
                self.socket.write_all(&[&head[..], &payload, DEBUG_DATA].concat()).await?;
            }
            self.socket.shutdown().await?;
            let mut discarded = [0; 4096];
            for _ in 0..MAX_DISCARDS {
                if self.socket.read(&mut discarded).await? == 0 {
                    break;
                }
            }
            Ok::<_, io::Error>(())
        };
        // The connection is closed anyway, so timeouts and errors are ignored.
        let _ = timeout(LINGER, close).await;
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for FrameIo<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // h2 reads only after it has processed all frames that it has.
        this.activity.set_heads_decoded(this.heads, this.last_head);
        if this.unflushed >= FRAMES_PER_FLUSH {
            // h2 queues its replies until a read is pending, so a pending read limits the queue.
            return Poll::Pending;
        }
        let before = buf.filled().len();
        if this.first.has_remaining() {
            let taken = this.first.len().min(buf.remaining());
            buf.put_slice(&this.first.split_to(taken));
        } else {
            ready!(Pin::new(&mut this.socket).poll_read(cx, buf))?;
        }
        this.scan_received(&mut buf.filled_mut()[before..]);
        Poll::Ready(match this.activity.is_exhausted() {
            true => Err(io::Error::other("too many HTTP/2 errors or frames without content")),
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
        this.scan_sent(&buf[..written]);
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
            this.scan_sent(&buf[..taken]);
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
            // Resumes the read that was held back.
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// The maximum number of frames read between two flushes, which limits h2's queue of replies.
const FRAMES_PER_FLUSH: usize = 100;

/// The maximum time that the server waits for the client to close the connection after GOAWAY.
const LINGER: Duration = Duration::from_secs(1);

/// The maximum number of reads that discard received data after GOAWAY.
const MAX_DISCARDS: usize = 256;

const DEBUG_DATA: &[u8] = b"too_many_rejected_frames";

// Error codes (RFC 9113 §7).
const NO_ERROR: u32 = 0;
const STREAM_CLOSED: u8 = 5;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::http2::frames::{DATA, PREFACE};
    use tokio::io::duplex;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let [.., length] = payload.len().to_be_bytes();
        [&[0, 0, length, kind, flags], &stream.to_be_bytes()[..], payload].concat()
    }

    #[tokio::test]
    async fn replaces_reset_codes_that_hyper_treats_as_the_end_of_the_body() {
        for (code, read) in [(0, 5), (8, 5), (2, 2), (0x100, 0x100)] {
            // For all read boundaries.
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
    async fn reads_are_pending_until_replies_are_flushed() {
        let (mut near, far) = duplex(64 * 1024);
        let mut io = FrameIo::new(far, Bytes::new(), Arc::new(Activity::new(false)));
        near.write_all(PREFACE).await.unwrap();
        near.write_all(&frame(HEADERS, 5, 1, b"x").repeat(FRAMES_PER_FLUSH)).await.unwrap();
        near.write_all(&frame(DATA, 1, 1, b"end")).await.unwrap();
        let mut buffer = [0; 24 + 10 * FRAMES_PER_FLUSH];
        io.read_exact(&mut buffer).await.unwrap();
        let mut read = is_read_pending(&mut io);
        assert!(read.as_mut().await, "the next frame is read before the flush");
        drop(read);
        io.flush().await.unwrap();
        assert_eq!(io.read(&mut [0; 64]).await.unwrap(), 12);
    }

    #[tokio::test]
    async fn counts_each_rejected_head_once_if_heads_arrive_in_separate_reads() {
        let (mut near, far) = duplex(1024);
        let activity = Arc::new(Activity::new(false));
        let mut io = FrameIo::new(far, Bytes::new(), Arc::clone(&activity));
        let rejection = |stream| frame(RST_STREAM, 0, stream, &[0, 0, 0, 1]);
        let first = [&PREFACE[..], &frame(HEADERS, 5, 1, b"x"), &frame(HEADERS, 1, 3, b"x")].concat();
        for (received, stream) in [(first, 1), (frame(CONTINUATION, END_HEADERS, 3, b"x"), 3)] {
            near.write_all(&received).await.unwrap();
            io.read_exact(&mut vec![0; received.len()]).await.unwrap();
            assert!(is_read_pending(&mut io).await);
            io.write_all(&rejection(stream)).await.unwrap();
            assert_eq!(activity.take_rejected_heads().malformed, 1, "{stream}");
        }
    }

    /// Returns whether the next read of the socket is pending.
    fn is_read_pending<T: AsyncRead + Unpin>(io: &mut FrameIo<T>) -> Pin<Box<impl Future<Output = bool> + '_>> {
        Box::pin(std::future::poll_fn(move |cx| {
            let mut buffer = [0; 64];
            Poll::Ready(Pin::new(&mut *io).poll_read(cx, &mut ReadBuf::new(&mut buffer)).is_pending())
        }))
    }
}
