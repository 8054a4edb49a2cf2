//! Writes responses to an HTTP/1.1 client, while the content of its request is read.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Buf;
use http_body::{Body, Frame};
use rproxy_http1::{put_chunk_size, put_last_chunk};
use tokio::time::timeout;

use super::client_io::ClientIo;
use super::request_content::{ContentEvent, ContentReader};
use super::yield_budget::YieldBudget;
use crate::box_error::BoxError;
use crate::transport::client_socket::ClientSocket;

/// A client that waits for a response, and may still send the content of its request.
pub(super) struct Client<'a, T> {
    pub(super) io: &'a mut ClientIo<T>,
    /// The content of the request, unless it has been received with the head.
    pub(super) content: Option<ContentReader>,
    /// Whether the response to the request may switch protocols.
    pub(super) awaits_upgrade: bool,
    /// Whether the request is cancelled when the client closes the connection.
    pub(super) is_cancelled_by_close: bool,
}

impl<T: ClientSocket> Client<'_, T> {
    /// Returns whether all content of the request was received.
    pub(super) fn has_sent_all(&self) -> bool {
        self.content.as_ref().is_none_or(ContentReader::has_ended)
    }

    /// Returns whether the next request can follow, after the rest of the content was discarded.
    pub(super) fn can_send_next(&self) -> bool {
        self.content.as_ref().is_none_or(|content| content.has_ended() || content.is_discardable())
    }

    /// Returns whether the client waits for `100 Continue` before it sends the content.
    pub(super) fn expects_continue(&self) -> bool {
        self.content.as_ref().is_some_and(ContentReader::expects_continue)
    }

    /// Prepares for a poll of the service, which may read content.
    pub(super) fn begin_poll(&self) {
        if let Some(content) = &self.content {
            content.begin_poll();
        }
    }

    /// Reads the content that the service waits for.
    pub(super) fn poll_content(&mut self, cx: &mut Context<'_>) -> Poll<ContentEvent> {
        match &mut self.content {
            Some(content) => content.poll(cx, self.io),
            None => Poll::Pending,
        }
    }

    /// Returns whether the client closed the connection after its request.
    pub(super) fn is_closed(&mut self, cx: &mut Context<'_>) -> bool {
        self.is_cancelled_by_close && self.has_sent_all() && self.io.is_closed(cx, self.awaits_upgrade)
    }

    /// Reads the rest of the content, until the service has it or drops it.
    pub(super) async fn finish_content(&mut self) {
        poll_fn(|cx| {
            while let Some(content) = &mut self.content {
                let polled = content.poll(cx, self.io);
                if content.is_finished() {
                    break;
                }
                // The final response has been sent, so the client gets no `100 Continue`.
                ready!(polled);
            }
            Poll::Ready(())
        })
        .await;
    }

    /// Discards the content that the service has not read, so that the next request can be read. Returns whether it can.
    ///
    /// RFC 9112 §9.3: the server reads all content, or closes the connection after the response.
    pub(super) async fn discard_content(&mut self) -> bool {
        let Some(content) = self.content.as_mut().filter(|content| !content.has_ended()) else { return true };
        let discard = poll_fn(|cx| content.poll_discard(cx, self.io));
        timeout(DISCARD_TIMEOUT, discard).await.unwrap_or(false)
    }

    pub(super) async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.io.poll_flush(cx)).await
    }

    /// Writes a response head, body data and a tail, in a single system call if possible.
    pub(super) async fn write(&mut self, head: &[u8], data: impl Buf, tail: &[u8]) -> io::Result<()> {
        let mut all = head.chain(data).chain(tail);
        poll_fn(|cx| {
            while all.has_remaining() {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let written = match all.chunks_vectored(&mut slices) {
                    // Cheaper than a vectored write for a single part.
                    1 => self.io.poll_write(cx, &slices[0]),
                    count => self.io.poll_write_vectored(cx, &slices[..count]),
                };
                match written? {
                    Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(written) => all.advance(written),
                    // The client may read only after it has sent its content.
                    Poll::Pending => ready!(self.poll_content(cx).map(drop)),
                }
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Waits up to 2 ms for the first body frame, so that it can be written together with the head.
    ///
    /// Many backends send head and body separately within microseconds. Written together, they need a single system call and
    /// TCP segment.
    async fn first_frame<B>(&mut self, mut body: Pin<&mut B>) -> Result<Poll<NextFrame<B>>, BoxError>
    where
        B: Body<Error: Into<BoxError>>,
    {
        if let Poll::Ready(frame) = ready_frame(body.as_mut()).await {
            return Ok(Poll::Ready(frame));
        }
        match timeout(FIRST_FRAME_WAIT, self.next_frame(body)).await {
            Ok(frame) => frame.map(Poll::Ready),
            Err(_) => Ok(Poll::Pending),
        }
    }

    /// Flushes the socket, and waits for the next body frame.
    async fn next_frame<B>(&mut self, mut body: Pin<&mut B>) -> Result<NextFrame<B>, BoxError>
    where
        B: Body<Error: Into<BoxError>>,
    {
        self.flush().await?;
        poll_fn(|cx| {
            self.begin_poll();
            loop {
                if let Poll::Ready(frame) = poll_frame(body.as_mut(), cx) {
                    return Poll::Ready(Ok(frame));
                }
                if self.poll_content(cx).is_pending() {
                    break;
                }
            }
            match self.is_closed(cx) {
                true => Poll::Ready(Err("the client closed the connection".into())),
                false => Poll::Pending,
            }
        })
        .await
    }
}

/// Writes the head in `out`, then a body of `length` bytes.
pub(super) async fn send_sized<T, B>(
    client: &mut Client<'_, T>,
    mut out: Vec<u8>,
    mut body: Pin<&mut B>,
    mut length: u64,
) -> Result<(), BoxError>
where
    T: ClientSocket,
    B: Body<Error: Into<BoxError>>,
{
    let (mut is_first, mut budget) = (true, YieldBudget::default());
    while length > 0 {
        let polled = match std::mem::take(&mut is_first) {
            true => client.first_frame(body.as_mut()).await?,
            false => ready_frame(body.as_mut()).await,
        };
        let frame = match polled {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                client.write(&out, &[][..], b"").await?;
                out.clear();
                client.next_frame(body.as_mut()).await?
            }
        };
        let frame = match frame {
            Some(Ok(frame)) => frame,
            failed => return send_truncated(client, &out, failed.and_then(Result::err)).await,
        };
        // A body of known length has no trailers.
        let Ok(mut data) = frame.into_data() else { continue };
        let too_long = "the response body is longer than its Content-Length";
        length = length.checked_sub(data.remaining() as u64).ok_or(too_long)?;
        while let Some(piece) = budget.split_off(&mut data) {
            client.write(&out, piece, b"").await?;
            out.clear();
            budget.wait().await;
        }
        if out.len() + data.remaining() <= SMALL {
            append(&mut out, data);
        } else {
            client.write(&out, data, b"").await?;
            out.clear();
        }
    }
    // Writes the head if no data was written with it.
    client.write(&out, &[][..], b"").await.map_err(Into::into)
}

/// Writes the head in `out`, then a body in chunks (RFC 9112 §7.1).
pub(super) async fn send_chunked<T, B>(
    client: &mut Client<'_, T>,
    mut out: Vec<u8>,
    mut body: Pin<&mut B>,
    takes_trailers: bool,
) -> Result<(), BoxError>
where
    T: ClientSocket,
    B: Body<Error: Into<BoxError>>,
{
    let (mut polled, mut budget) = (client.first_frame(body.as_mut()).await?, YieldBudget::default());
    loop {
        let frame = match polled {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                client.write(&out, &[][..], b"").await?;
                out.clear();
                client.next_frame(body.as_mut()).await?
            }
        };
        let frame = match frame.transpose() {
            Ok(frame) => frame,
            Err(error) => return send_truncated(client, &out, Some(error)).await,
        };
        match frame.map(Frame::into_data) {
            Some(Ok(mut data)) if data.has_remaining() => {
                put_chunk_size(&mut out, data.remaining());
                while let Some(piece) = budget.split_off(&mut data) {
                    client.write(&out, piece, b"").await?;
                    out.clear();
                    budget.wait().await;
                }
                // The end is often ready, and can be written with the last data.
                polled = ready_frame(body.as_mut()).await;
                let is_last = matches!(polled, Poll::Ready(None));
                client.write(&out, data, if is_last { b"\r\n0\r\n\r\n" } else { b"\r\n" }).await?;
                out.clear();
                if is_last {
                    return Ok(());
                }
            }
            // Skipped, because an empty chunk would end the body.
            Some(Ok(_)) => polled = ready_frame(body.as_mut()).await,
            Some(Err(frame)) => {
                let trailers = frame.into_trailers().ok().filter(|_| takes_trailers);
                put_last_chunk(&mut out, trailers.as_ref());
                return Ok(client.write(&out, &[][..], b"").await?);
            }
            None => {
                put_last_chunk(&mut out, None);
                return Ok(client.write(&out, &[][..], b"").await?);
            }
        }
    }
}

/// Writes the head in `out`, then a body that ends when the connection closes.
///
/// If the body fails, the connection is reset.
pub(super) async fn send_until_close<T, B>(
    client: &mut Client<'_, T>,
    mut out: Vec<u8>,
    mut body: Pin<&mut B>,
) -> Result<(), BoxError>
where
    T: ClientSocket,
    B: Body<Error: Into<BoxError>>,
{
    client.io.reset_unless_shut_down();
    let (mut polled, mut budget) = (client.first_frame(body.as_mut()).await?, YieldBudget::default());
    loop {
        let frame = match polled {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                client.write(&out, &[][..], b"").await?;
                out.clear();
                client.next_frame(body.as_mut()).await?
            }
        };
        match frame.map(|frame| frame.map(Frame::into_data)) {
            Some(Ok(Ok(mut data))) => {
                while let Some(piece) = budget.split_off(&mut data) {
                    client.write(&out, piece, b"").await?;
                    out.clear();
                    budget.wait().await;
                }
                client.write(&out, data, b"").await?;
                out.clear();
            }
            // HTTP/1.0 has no trailers.
            Some(Ok(Err(_))) => {}
            Some(Err(error)) => return send_truncated(client, &out, Some(error)).await,
            None => return Ok(client.write(&out, &[][..], b"").await?),
        }
        polled = ready_frame(body.as_mut()).await;
    }
}

/// Writes the part of a truncated response that is available, and returns an error.
///
/// A client that receives no part of a response would assume that the connection was closed before its request, and retry.
async fn send_truncated<T>(client: &mut Client<'_, T>, out: &[u8], error: Option<BoxError>) -> Result<(), BoxError>
where
    T: ClientSocket,
{
    client.write(out, &[][..], b"").await?;
    client.flush().await?;
    Err(error.unwrap_or_else(|| "the response body is shorter than its Content-Length".into()))
}

/// Appends the data of a small frame to `out`, because a copy is cheaper than a vectored write.
fn append(out: &mut Vec<u8>, mut data: impl Buf) {
    out.reserve(data.remaining());
    while data.has_remaining() {
        let chunk = data.chunk();
        out.extend_from_slice(chunk);
        let length = chunk.len();
        data.advance(length);
    }
}

type NextFrame<B> = Option<Result<Frame<<B as Body>::Data>, BoxError>>;

fn poll_frame<B>(body: Pin<&mut B>, cx: &mut Context<'_>) -> Poll<NextFrame<B>>
where
    B: Body<Error: Into<BoxError>>,
{
    body.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(Into::into)))
}

/// Returns the next body frame if one is ready.
async fn ready_frame<B>(mut body: Pin<&mut B>) -> Poll<NextFrame<B>>
where
    B: Body<Error: Into<BoxError>>,
{
    poll_fn(|cx| Poll::Ready(poll_frame(body.as_mut(), cx))).await
}

/// The maximum time in which the rest of a request's content is discarded after the response.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);

/// The maximum time that a response head waits for the first frame of its body.
const FIRST_FRAME_WAIT: Duration = Duration::from_millis(2);

/// The maximum size of a frame that is copied, because a copy is cheaper than a vectored write.
const SMALL: usize = 4096;

/// The maximum number of slices in a vectored write of response head, body data and tail.
const SLICES: usize = 4;

#[cfg(test)]
mod tests;
