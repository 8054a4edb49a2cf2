//! The socket of an upgrade request over HTTP/1.1, whose heads keep the letter case of their field names.
//!
//! Layers and programs know [`OnUpgrade`](hyper::upgrade::OnUpgrade), which only hyper can create, and hyper writes and
//! returns field names in lower case. So the head that hyper writes is replaced, and the head that it reads is recorded.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::{Method, Response};
use rproxy_http1::{MAX_RESPONSE_HEAD_SIZE, parse_response_head};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::socket::Socket;

/// A socket for one upgrade request of hyper.
pub(crate) struct UpgradeSocket {
    socket: Socket,
    /// The unsent part of the request head. All that hyper writes before it reads is replaced by it.
    request: Bytes,
    has_read: bool,
    recording: Option<Arc<Recording>>,
}

/// The recorded bytes, until they are taken.
type Recording = Mutex<Option<BytesMut>>;

/// The response heads that an [`UpgradeSocket`] records.
pub(crate) struct RecordedHeads(Arc<Recording>);

impl UpgradeSocket {
    /// Creates a socket that sends this request head.
    pub(crate) fn new(socket: Socket, request: Vec<u8>) -> (Self, RecordedHeads) {
        let recording = Arc::new(Mutex::new(Some(BytesMut::new())));
        let heads = RecordedHeads(Arc::clone(&recording));
        (Self { socket, request: request.into(), has_read: false, recording: Some(recording) }, heads)
    }

    fn record(&mut self, bytes: &[u8]) {
        self.has_read |= !bytes.is_empty();
        let Some(recording) = &self.recording else { return };
        let mut recorded = recording.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *recorded {
            Some(heads) if heads.len() + bytes.len() <= MAX_RESPONSE_HEAD_SIZE => heads.extend_from_slice(bytes),
            _ => {
                *recorded = None;
                drop(recorded);
                self.recording = None;
            }
        }
    }
}

impl RecordedHeads {
    /// Gives the fields of a response the letter case in which they were received.
    pub(crate) fn restore_names<B>(self, response: &mut Response<B>) {
        let Some(mut heads) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        // Interim responses precede the response.
        while let Ok(Some(head)) = parse_response_head(&mut heads, &Method::GET) {
            let (head, ()) = head.response.into_parts();
            if head.status == response.status() {
                *response.headers_mut() = head.headers;
                response.extensions_mut().extend(head.extensions);
                return;
            }
        }
    }
}

impl AsyncRead for UpgradeSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.socket).poll_read(cx, buf))?;
        this.record(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for UpgradeSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.has_read { Pin::new(&mut this.socket).poll_write(cx, bytes) } else { Poll::Ready(Ok(bytes.len())) }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match this.has_read {
            true => Pin::new(&mut this.socket).poll_write_vectored(cx, slices),
            false => Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while !this.request.is_empty() {
            let written = ready!(Pin::new(&mut this.socket).poll_write(cx, &this.request))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            this.request.advance(written);
        }
        Pin::new(&mut this.socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}
