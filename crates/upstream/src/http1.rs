//! One HTTP/1.1 connection to a backend, driven by whoever uses it.
//!
//! Not hyper's: its client side hands each request and each response over by channels, to a task that is to drive the
//! connection, which costs as much as the rest of forwarding. Here the future of the request, and then the body of the
//! response, move the bytes themselves. Heads and chunk sizes are parsed by httparse, as in hyper.

mod body;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod head;
mod output;

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Extensions, Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use tokio::io::AsyncReadExt;
use tokio::task::unconstrained;
use tokio::time::Instant;

use self::body::Decoder;
pub(crate) use self::body::{LARGEST_TRAILERS, MOST_TRAILERS, WrongLength};
use self::head::{Framing, Head};
pub(crate) use self::head::{LARGEST_HEAD, MOST_FIELDS, content_length, is_bodiless};
use self::output::{Output, Stop};
use crate::InterimRelay;
use crate::body::RequestBody;
use crate::deadline::{Deadline, Patience};
use crate::error::{BodyError, BoxError, ProxyError, ProxyErrorKind};
use crate::socket::Socket;

/// A connection with nobody else to poll it.
pub(crate) struct Http1<B: Body> {
    socket: Socket,
    input: BytesMut,
    /// How much to make room for before reading: more, once a reading has filled the room there was.
    room: usize,
    output: Output<B>,
    decoder: Decoder,
    /// Whether there may be another request after this one.
    keep_alive: bool,
    deadline: Deadline,
    patience: Patience,
    /// Until when it may be used for further requests; `None` for as long as it lasts.
    until: Option<Instant>,
}

/// A request that got no response.
pub(crate) enum SendError {
    /// The connection ended before the response head did. The request may be sent again where nothing of it went out, or
    /// it has no content and does no harm (RFC 9110 §9.2.2).
    Ended { is_repeatable: bool, error: io::Error },
    /// Another failure, which a new connection would not mend.
    Failed(ProxyError),
}

/// What came from the backend is not HTTP/1.1, or could be read in more than one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

impl<B> Http1<B>
where
    B: Body<Error: Into<BoxError>> + Unpin,
{
    pub(crate) fn new(socket: Socket, until: Option<Instant>) -> Box<Self> {
        Box::new(Self {
            socket,
            input: BytesMut::new(),
            room: SMALLEST_ROOM,
            output: Output::default(),
            decoder: Decoder::Ended,
            keep_alive: true,
            deadline: Deadline::new(),
            patience: Patience { head: Duration::ZERO, silence: Duration::ZERO, until: None },
            until,
        })
    }

    /// Sends `request`, but for its body, which goes out with it and comes back where it may be sent again, and waits for
    /// the head of its response.
    pub(crate) async fn send(
        &mut self,
        request: &mut Request<RequestBody<B>>,
        patience: Patience,
    ) -> Result<Response<()>, SendError> {
        let is_harmless = request.body().is_empty() && request.method().is_idempotent();
        let is_last = self.output.begin(request);
        self.patience = patience;
        self.deadline.set(Instant::now() + patience.head);
        let mut asked = Asked { method: request.method(), extensions: request.extensions(), interim: 0 };
        let received = poll_fn(|cx| self.poll_exchange(cx, &mut asked)).await;
        let interim = asked.interim;
        match received {
            Ok(Head { response, framing, keep_alive }) => {
                self.decoder = Decoder::new(framing);
                self.keep_alive = keep_alive && !is_last;
                Ok(response)
            }
            Err(Failure::Ended(error)) => {
                let unsent = self.output.take_back();
                // After an interim response, the client has a part of the response already.
                let is_repeatable = unsent.is_some() || is_harmless && interim == 0;
                if let Some(body) = unsent {
                    *request.body_mut() = body;
                }
                Err(SendError::Ended { is_repeatable, error })
            }
            Err(Failure::Other(error)) => Err(SendError::Failed(error)),
        }
    }

    fn poll_exchange(&mut self, cx: &mut Context<'_>, asked: &mut Asked<'_>) -> Poll<Result<Head, Failure>> {
        if self.output.is_sending() {
            match self.output.poll(cx, &mut self.socket) {
                // The backend may have answered before it stopped listening.
                Poll::Ready(Err(Stop::Socket)) => {}
                Poll::Ready(Err(Stop::Body(error))) => {
                    // Its body failed: RFC 9209 calls it an error of the request.
                    let error = ProxyError::caused(ProxyErrorKind::HttpRequestError, error);
                    return Poll::Ready(Err(Failure::Other(error)));
                }
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
            if self.output.has_progressed() {
                self.deadline.set(Instant::now() + self.patience.head);
            }
        }
        // The work before the timer: a response that is there has come in time.
        if let Poll::Ready(head) = self.poll_head(cx, asked) {
            return Poll::Ready(head);
        }
        // While the client has not said all, the backend is not late.
        if !self.output.awaits_body() {
            ready!(self.deadline.poll(cx));
            return Poll::Ready(Err(Failure::Other(ProxyError::new(ProxyErrorKind::HttpResponseTimeout))));
        }
        Poll::Pending
    }

    fn poll_head(&mut self, cx: &mut Context<'_>, asked: &mut Asked<'_>) -> Poll<Result<Head, Failure>> {
        // Looked at again only when another line has come: a backend that sends byte by byte costs no more than lines.
        let mut is_new = !self.input.is_empty();
        loop {
            if is_new && let Some(head) = head::read(&mut self.input, asked.method).map_err(Failure::malformed)? {
                if !head.response.status().is_informational() {
                    return Poll::Ready(Ok(head));
                }
                // RFC 9110 §15.2: there may be any number of them, but not without end. Nobody asked for a switch:
                // what follows it is not HTTP, or is meant to be taken for it.
                asked.interim += 1;
                if head.response.status() == StatusCode::SWITCHING_PROTOCOLS || asked.interim > MOST_INTERIM {
                    return Poll::Ready(Err(Failure::malformed(Malformed("the backend answers what nobody asked"))));
                }
                // RFC 9110 §15.2: a proxy forwards them.
                if let Some(relay) = asked.extensions.get::<InterimRelay>() {
                    relay(head.response);
                }
                is_new = !self.input.is_empty();
                continue;
            }
            let before = self.input.len();
            match ready!(self.poll_read(cx)) {
                Ok(0) => return Poll::Ready(Err(Failure::Ended(io::ErrorKind::UnexpectedEof.into()))),
                Ok(_) => {
                    is_new = self.input[before..].contains(&b'\n')
                        || self.input.len() > head::LARGEST_HEAD
                        || !head::may_begin_with(&self.input);
                }
                Err(error) => return Poll::Ready(Err(Failure::Ended(error))),
            }
        }
    }

    /// More of the response body.
    pub(crate) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        // What is left of the request goes on.
        if self.output.is_sending()
            && let Poll::Ready(Err(stop)) = self.output.poll(cx, &mut self.socket)
        {
            self.keep_alive = false;
            // A request that breaks off ends the exchange, so that neither side takes it for a whole one.
            if let Stop::Body(error) = stop {
                return Poll::Ready(Some(Err(BodyError::Request(error.to_string()))));
            }
        }
        loop {
            match self.decoder.decode(&mut self.input) {
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Ok(None) if self.decoder.has_ended() => return Poll::Ready(None),
                Ok(None) => {}
                Err(Malformed(what)) => return Poll::Ready(Some(Err(BodyError::Malformed(what)))),
            }
            let Poll::Ready(read) = self.poll_read(cx) else {
                ready!(self.deadline.poll_silence(cx, &self.patience));
                return Poll::Ready(Some(Err(BodyError::Timeout)));
            };
            self.deadline.is_answered();
            match read {
                Ok(0) if self.decoder.ends_here() => return Poll::Ready(None),
                Ok(0) => return Poll::Ready(Some(Err(BodyError::Incomplete))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(BodyError::Io(error)))),
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.input.capacity() - self.input.len() < self.room / 4 {
            self.input.reserve(self.room);
        }
        let spare = self.input.capacity() - self.input.len();
        let length = ready!(pin!(self.socket.read_buf(&mut self.input)).poll(cx))?;
        if length == spare && self.room < LARGEST_ROOM {
            self.room *= 2;
        }
        Poll::Ready(Ok(length))
    }

    /// Whether the connection may be kept: nothing is left of the last request, and nothing was said unasked.
    pub(crate) fn is_idle(&self) -> bool {
        self.keep_alive
            && self.has_ended()
            && !self.output.is_sending()
            && !self.output.has_stopped()
            && self.input.is_empty()
    }

    /// Whether the next request may be sent: the backend has neither closed nor said anything since the last.
    ///
    /// Polls without a waker, so that the task that used the connection last is not woken by what happens to it.
    pub(crate) fn is_reusable(&mut self) -> bool {
        let cx = &mut Context::from_waker(Waker::noop());
        // A task whose budget is spent finds every socket pending, also one that the backend has closed.
        let probe = pin!(unconstrained(poll_fn(|cx| self.poll_read(cx))));
        let is_open = probe.poll(cx).is_pending();
        is_open && self.until.is_none_or(|until| Instant::now() < until)
    }
}

impl<B: Body> Http1<B> {
    /// Whether the response body has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.decoder.has_ended()
    }

    /// How much of the response body is to come, if that is known.
    pub(crate) fn remaining(&self) -> Option<u64> {
        self.decoder.remaining()
    }
}

/// The request that is being answered.
struct Asked<'a> {
    method: &'a Method,
    extensions: &'a Extensions,
    /// How many interim responses came.
    interim: u32,
}

/// Why there is no response head.
enum Failure {
    Ended(io::Error),
    Other(ProxyError),
}

impl Failure {
    fn malformed(malformed: Malformed) -> Self {
        Self::Other(ProxyError::caused(ProxyErrorKind::HttpProtocolError, malformed))
    }
}

/// How the body of a request is to be delimited.
fn framing<B>(body: &RequestBody<B>) -> Framing
where
    B: Body + Unpin,
{
    if body.is_end_stream() {
        return Framing::Empty;
    }
    match body.size_hint().exact() {
        Some(length) => Framing::Length(length),
        None => Framing::Chunked,
    }
}

const SMALLEST_ROOM: usize = 8 * 1024;
/// What a bulk transfer is read by: fewer system calls would not make it faster.
const LARGEST_ROOM: usize = 64 * 1024;
pub(crate) const MOST_INTERIM: u32 = 16;

/// The most that one HTTP/1.1 exchange can make an upstream hold, in bytes: what has been read and not been asked for, room
/// for as much again, and a head.
pub(crate) const EXCHANGE: usize = 2 * LARGEST_ROOM + 2 * head::LARGEST_HEAD;
