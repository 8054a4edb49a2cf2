//! A request on its way out: its head, and the frames of its body as they come.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use http::Request;
use http_body::Body;
use tokio::io::AsyncWrite;

use super::body::{Encoder, WrongLength};
use super::head::Framing;
use super::{framing, head};
use crate::body::{Chunk, RequestBody};
use crate::error::BoxError;
use crate::socket::Socket;

/// What is to be written.
pub(super) struct Output<B: Body> {
    /// Heads, chunk sizes, and what else is ours.
    own: BytesMut,
    /// A frame of the body, which goes out after `own`, and what goes out after the frame.
    frame: Option<(Chunk<B::Data>, &'static [u8])>,
    /// The rest of the body.
    body: Option<(RequestBody<B>, Encoder)>,
    needs_flush: bool,
    /// Whether anything of this request has gone out.
    has_begun: bool,
    has_progressed: bool,
    has_stopped: bool,
}

/// Why a request does not go out to its end.
pub(super) enum Stop {
    /// The backend takes no more. What it has to say about it, reading will tell.
    Socket,
    Body(BoxError),
}

impl<B: Body> Default for Output<B> {
    fn default() -> Self {
        Self {
            own: BytesMut::new(),
            frame: None,
            body: None,
            needs_flush: false,
            has_begun: false,
            has_progressed: false,
            has_stopped: false,
        }
    }
}

impl<B: Body> Output<B> {
    /// Whether there is anything left to do.
    pub(super) fn is_sending(&self) -> bool {
        !self.has_stopped && (self.has_bytes() || self.body.is_some() || self.needs_flush)
    }

    /// Whether it is the client's turn to say more.
    pub(super) fn awaits_body(&self) -> bool {
        !self.has_stopped && self.body.is_some() && !self.has_bytes()
    }

    /// Whether the request broke off.
    pub(super) fn has_stopped(&self) -> bool {
        self.has_stopped
    }

    /// Whether the body has moved on since this was last asked.
    pub(super) fn has_progressed(&mut self) -> bool {
        std::mem::take(&mut self.has_progressed)
    }

    /// Whether there are bytes that may be written.
    fn has_bytes(&self) -> bool {
        !self.is_withheld() && (!self.own.is_empty() || self.frame.is_some())
    }

    /// Whether the next bytes are the last ones of the announced length, while the body has not ended.
    ///
    /// An HTTP/2 request ends with END_STREAM, and not with the last byte that it announced (RFC 9113 §8.1). Until then, it
    /// may be reset or become too long. A backend that has those bytes takes it for complete.
    fn is_withheld(&self) -> bool {
        matches!(self.body, Some((_, Encoder::Length(0))))
    }
}

impl<B> Output<B>
where
    B: Body<Error: Into<BoxError>> + Unpin,
{
    /// Takes up a request; the one before has gone out whole. Tells whether the connection is to end with it.
    pub(super) fn begin(&mut self, request: &mut Request<RequestBody<B>>) -> bool {
        let body = std::mem::replace(request.body_mut(), RequestBody::empty());
        let framing = framing(&body);
        (self.has_begun, self.has_progressed, self.has_stopped) = (false, false, false);
        self.own.clear();
        head::write(request, framing, &mut self.own);
        self.body = match framing {
            Framing::Length(length) => Some((body, Encoder::Length(length))),
            Framing::Chunked => Some((body, Encoder::Chunked)),
            Framing::Empty | Framing::Close => None,
        };
        head::is_last(request.method(), framing)
    }

    /// The body, if nothing of the request has gone out.
    pub(super) fn take_back(&mut self) -> Option<RequestBody<B>> {
        if self.has_begun {
            return None;
        }
        let body = self.body.take().map_or_else(RequestBody::empty, |(body, _)| body);
        Some(match self.frame.take() {
            Some((data, _)) => body.preceded_by(data),
            None => body,
        })
    }

    /// Sends what can be sent; ready when that is all of it.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, socket: &mut Socket) -> Poll<Result<(), Stop>> {
        let polled = self.poll_to_end(cx, socket);
        if let Poll::Ready(Err(_)) = &polled {
            self.has_stopped = true;
        }
        polled
    }

    fn poll_to_end(&mut self, cx: &mut Context<'_>, socket: &mut Socket) -> Poll<Result<(), Stop>> {
        loop {
            self.fill(cx)?;
            if !self.has_bytes() {
                break;
            }
            let length = ready!(self.poll_write(cx, socket)).map_err(|_| Stop::Socket)?;
            (self.has_progressed, self.has_begun, self.needs_flush) = (self.has_begun, true, true);
            self.wrote(length);
        }
        if self.needs_flush {
            ready!(Pin::new(socket).poll_flush(cx)).map_err(|_| Stop::Socket)?;
            self.needs_flush = false;
        }
        if self.body.is_some() { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    /// Takes the next frame of the body, so that it goes out together with what is there.
    fn fill(&mut self, cx: &mut Context<'_>) -> Result<(), Stop> {
        while (self.frame.is_none() || self.is_withheld())
            && let Some((body, encoder)) = &mut self.body
            && let Poll::Ready(polled) = Pin::new(&mut *body).poll_frame(cx)
        {
            let frame = polled.transpose().map_err(|error| Stop::Body(error.into()))?;
            match frame.map(|frame| frame.into_data().map_err(|frame| frame.into_trailers().ok())) {
                Some(Ok(data)) if !data.has_remaining() => {}
                Some(Ok(data)) => {
                    self.has_progressed = true;
                    encoder.before(data.remaining(), &mut self.own)?;
                    let is_last = body.is_end_stream();
                    self.frame = Some((data, if is_last { encoder.after_last()? } else { encoder.after() }));
                    if is_last {
                        self.body = None;
                    }
                }
                Some(Err(trailers)) => {
                    encoder.end(trailers.as_ref(), &mut self.own)?;
                    self.body = None;
                }
                None => {
                    encoder.end(None, &mut self.own)?;
                    self.body = None;
                }
            }
        }
        Ok(())
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, socket: &mut Socket) -> Poll<io::Result<usize>> {
        let socket = Pin::new(socket);
        let length = match &self.frame {
            None => ready!(socket.poll_write(cx, &self.own))?,
            Some((data, _)) if self.own.is_empty() => ready!(socket.poll_write(cx, data.chunk()))?,
            Some((data, after)) => {
                let bufs = [IoSlice::new(&self.own), IoSlice::new(data.chunk()), IoSlice::new(after)];
                // What stands behind a frame may follow only the whole of it.
                let is_whole = data.chunk().len() == data.remaining();
                ready!(socket.poll_write_vectored(cx, if is_whole { &bufs } else { &bufs[..2] }))?
            }
        };
        if length == 0 { Poll::Ready(Err(io::ErrorKind::WriteZero.into())) } else { Poll::Ready(Ok(length)) }
    }

    /// Takes away what has gone out.
    fn wrote(&mut self, length: usize) {
        let own = length.min(self.own.len());
        self.own.advance(own);
        let Some((data, after)) = &mut self.frame else { return };
        let rest = length - own;
        let sent = rest.min(data.remaining());
        data.advance(sent);
        if !data.has_remaining() {
            let after = &after[(rest - sent).min(after.len())..];
            self.own.extend_from_slice(after);
            self.frame = None;
        }
    }
}

impl From<WrongLength> for Stop {
    fn from(error: WrongLength) -> Self {
        Self::Body(error.into())
    }
}
