//! The output of an HTTP/1.1 request: its head, and its body frames as they arrive.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use http::Request;
use http::header::EXPECT;
use http_body::Body;
use rproxy_http1::{BodyEncoder, RequestBodyFraming, WrongLength, write_request_head};
use tokio::io::AsyncWrite;

use crate::error::BoxError;
use crate::request_body::{Chunk, RequestBody};
use crate::socket::Socket;

/// The part of an HTTP/1.1 request that has not been sent yet.
pub(super) struct Output<B: Body> {
    /// The request head and body framing.
    buffer: Vec<u8>,
    /// The length of the part of `buffer` that was sent.
    sent: usize,
    /// A body frame that is written after `buffer`, and the framing bytes that follow the frame.
    frame: Option<(Chunk<B::Data>, &'static [u8])>,
    /// The part of the request body that has not been read yet.
    body: Option<(RequestBody<B>, BodyEncoder)>,
    /// Whether the content waits for a 100 of the backend (RFC 9110 §10.1.1).
    awaits_continue: bool,
    needs_flush: bool,
    /// Whether at least a part of the current request was sent.
    was_sent: bool,
    has_progressed: bool,
    has_failed: bool,
}

/// The reason that a request could not be sent completely.
pub(super) enum OutputError {
    /// Writing to the socket failed. Reading from it returns the cause.
    Socket,
    Body(BoxError),
}

impl<B: Body> Default for Output<B> {
    fn default() -> Self {
        Self {
            buffer: Vec::new(),
            sent: 0,
            frame: None,
            body: None,
            awaits_continue: false,
            needs_flush: false,
            was_sent: false,
            has_progressed: false,
            has_failed: false,
        }
    }
}

impl<B: Body> Output<B> {
    /// Returns whether a part of the request is unsent.
    pub(super) fn is_sending(&self) -> bool {
        !self.has_failed && (self.has_bytes() || self.body.is_some() || self.needs_flush)
    }

    /// Returns whether sending must wait for the next frame of the request body.
    pub(super) fn awaits_body(&self) -> bool {
        !self.has_failed && self.body.is_some() && !self.has_bytes()
    }

    /// Returns whether the content waits for a 100 of the backend.
    pub(super) fn awaits_continue(&self) -> bool {
        !self.has_failed && self.awaits_continue
    }

    /// Begins to send the content that has waited for a 100.
    pub(super) fn release_content(&mut self) {
        self.awaits_continue = false;
    }

    /// Drops content that has waited for a 100, after which the request can never be complete.
    pub(super) fn drop_content(&mut self) {
        self.body = None;
        self.has_failed = true;
    }

    /// Returns whether at least a part of the request was sent.
    pub(super) fn was_sent(&self) -> bool {
        self.was_sent
    }

    /// Returns whether sending the request failed, or the request was sent without its content.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Returns whether sending the request has progressed since the last call.
    pub(super) fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.has_progressed)
    }

    /// Returns whether there are bytes that can be written now.
    fn has_bytes(&self) -> bool {
        !self.is_withheld() && (self.sent < self.buffer.len() || self.frame.is_some())
    }

    /// Returns whether the last bytes of the declared length are withheld until the body ends.
    ///
    /// An HTTP/2 request ends with END_STREAM, and not with the last declared byte (RFC 9113 §8.1). Before that, it can
    /// be reset or exceed its length. A backend that has received all bytes would process it as a complete request.
    fn is_withheld(&self) -> bool {
        matches!(&self.body, Some((_, encoder)) if encoder.is_at_declared_length())
    }
}

impl<B> Output<B>
where
    B: Body<Error: Into<BoxError>> + Unpin,
{
    /// Begins to send the next request after the previous request is complete. Returns whether the connection can be reused
    /// after it.
    pub(super) fn begin(&mut self, request: &mut Request<RequestBody<B>>) -> bool {
        let body = std::mem::replace(request.body_mut(), RequestBody::empty());
        let framing = framing(&body);
        (self.was_sent, self.has_progressed, self.has_failed) = (false, false, false);
        self.clear_buffer();
        self.body = BodyEncoder::for_request(framing).map(|encoder| (body, encoder));
        self.awaits_continue = self.body.is_some() && request.headers().contains_key(EXPECT);
        write_request_head(&mut self.buffer, request, framing)
    }

    fn clear_buffer(&mut self) {
        self.buffer.clear();
        self.sent = 0;
    }

    /// Returns the request body, if no part of the request was sent, or only its head while the content waits for a 100.
    pub(super) fn take_unsent_body(&mut self) -> Option<RequestBody<B>> {
        if self.was_sent && !self.awaits_continue {
            return None;
        }
        let body = self.body.take().map_or_else(RequestBody::empty, |(body, _)| body);
        Some(match self.frame.take() {
            Some((data, _)) => body.with_buffered(data),
            None => body,
        })
    }

    /// Writes the request to the socket. It is ready when the request is complete.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, socket: &mut Socket) -> Poll<Result<(), OutputError>> {
        let polled = self.poll_to_end(cx, socket);
        if let Poll::Ready(Err(_)) = &polled {
            self.has_failed = true;
        }
        polled
    }

    /// Writes the request to the socket, without recording a failure.
    fn poll_to_end(&mut self, cx: &mut Context<'_>, socket: &mut Socket) -> Poll<Result<(), OutputError>> {
        loop {
            self.poll_next_frame(cx)?;
            if !self.has_bytes() {
                break;
            }
            let length = ready!(self.poll_write(cx, socket)).map_err(|_| OutputError::Socket)?;
            (self.has_progressed, self.was_sent, self.needs_flush) = (self.was_sent, true, true);
            self.advance(length);
        }
        if self.needs_flush {
            ready!(Pin::new(socket).poll_flush(cx)).map_err(|_| OutputError::Socket)?;
            self.needs_flush = false;
        }
        if self.body.is_some() { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    /// Reads the next frame of the body, so that it is written together with the buffer.
    fn poll_next_frame(&mut self, cx: &mut Context<'_>) -> Result<(), OutputError> {
        while !self.awaits_continue
            && (self.frame.is_none() || self.is_withheld())
            && let Some((body, encoder)) = &mut self.body
            && let Poll::Ready(polled) = Pin::new(&mut *body).poll_frame(cx)
        {
            let frame = polled.transpose().map_err(|error| OutputError::Body(error.into()))?;
            match frame.map(|frame| frame.into_data().map_err(|frame| frame.into_trailers().ok())) {
                Some(Ok(data)) if !data.has_remaining() => {}
                Some(Ok(data)) => {
                    self.has_progressed = true;
                    encoder.begin_data(&mut self.buffer, data.remaining())?;
                    let is_last = body.is_end_stream();
                    self.frame = Some((data, if is_last { encoder.end_last_data()? } else { encoder.end_data() }));
                    if is_last {
                        self.body = None;
                    }
                }
                Some(Err(trailers)) => {
                    encoder.end(&mut self.buffer, trailers.as_ref())?;
                    self.body = None;
                }
                None => {
                    encoder.end(&mut self.buffer, None)?;
                    self.body = None;
                }
            }
        }
        Ok(())
    }

    /// Writes the buffer and the frame to the socket, and returns the number of written bytes.
    fn poll_write(&mut self, cx: &mut Context<'_>, socket: &mut Socket) -> Poll<io::Result<usize>> {
        let socket = Pin::new(socket);
        let buffer = &self.buffer[self.sent..];
        let length = match &self.frame {
            None => ready!(socket.poll_write(cx, buffer))?,
            Some((data, _)) if buffer.is_empty() => ready!(socket.poll_write(cx, data.chunk()))?,
            Some((data, after)) => {
                let bufs = [IoSlice::new(buffer), IoSlice::new(data.chunk()), IoSlice::new(after)];
                // The framing follows only if the chunk is the rest of the frame.
                let is_whole = data.chunk().len() == data.remaining();
                ready!(socket.poll_write_vectored(cx, if is_whole { &bufs } else { &bufs[..2] }))?
            }
        };
        if length == 0 { Poll::Ready(Err(io::ErrorKind::WriteZero.into())) } else { Poll::Ready(Ok(length)) }
    }

    /// Marks the written bytes of the buffer and the frame as sent.
    fn advance(&mut self, length: usize) {
        let buffer = length.min(self.buffer.len() - self.sent);
        self.sent += buffer;
        if self.sent == self.buffer.len() {
            self.clear_buffer();
        }
        let Some((data, after)) = &mut self.frame else { return };
        let rest = length - buffer;
        let sent = rest.min(data.remaining());
        data.advance(sent);
        if !data.has_remaining() {
            let after = &after[(rest - sent).min(after.len())..];
            self.buffer.extend_from_slice(after);
            self.frame = None;
        }
    }
}

/// Returns the HTTP/1.1 framing for a request body.
fn framing<B>(body: &RequestBody<B>) -> RequestBodyFraming
where
    B: Body + Unpin,
{
    if body.is_end_stream() {
        return RequestBodyFraming::None;
    }
    match body.size_hint().exact() {
        Some(length) => RequestBodyFraming::Length(length),
        None => RequestBodyFraming::Chunked,
    }
}

impl From<WrongLength> for OutputError {
    fn from(error: WrongLength) -> Self {
        Self::Body(error.into())
    }
}
