//! HTTP/1.1 connections to a backend, driven by the task of each request.
//!
//! The client of hyper passes each request and response through channels to a separate task. That costs as much as the
//! rest of forwarding. Here the future of the request, and then the response body, read and write the socket.
//! `rproxy-http1` parses and writes the messages.

mod output;

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Extensions, HeaderMap, Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use rproxy_http1::{
    BodyDecoder, InvalidBody, MAX_RESPONSE_HEAD_SIZE, ResponseBodyFraming, ResponseHead, is_status_line_prefix,
    parse_response_head,
};
use tokio::io::AsyncReadExt;
use tokio::task::unconstrained;
use tokio::time::Instant;

use self::output::{Output, OutputError};
use crate::error::{BodyError, BoxError, Malformed, ProxyError, ProxyErrorKind};
use crate::extensions::InterimRelay;
use crate::request_body::RequestBody;
use crate::socket::Socket;
use crate::timeouts::{Deadline, Timeouts};
use crate::trailers;

/// An HTTP/1.1 connection that is driven by the task of the current request.
pub(crate) struct Http1Connection<B: Body> {
    socket: Socket,
    input: BytesMut,
    /// The number of bytes to reserve in the buffer before a read. It doubles after a read that fills the buffer.
    read_size: usize,
    output: Output<B>,
    decoder: BodyDecoder,
    /// Whether the connection can be reused after the current request.
    keep_alive: bool,
    deadline: Deadline,
    timeouts: Timeouts,
    /// The time after which no new requests are sent on the connection. `None` means no limit.
    expires: Option<Instant>,
}

/// The failure of a request that received no response.
pub(crate) enum SendError {
    /// The connection was closed before the end of the response head.
    ///
    /// The request may be sent again if no byte of it was sent, or if its method is idempotent and no content was sent (RFC
    /// 9110 §9.2.2).
    Closed { is_retryable: bool, error: io::Error },
    /// The request failed for a reason that a new connection would not resolve.
    Failed(ProxyError),
}

impl<B> Http1Connection<B>
where
    B: Body<Error: Into<BoxError>> + Unpin,
{
    pub(crate) fn new(socket: Socket, expires: Option<Instant>) -> Box<Self> {
        Box::new(Self {
            socket,
            input: BytesMut::new(),
            read_size: MIN_READ_SIZE,
            output: Output::default(),
            decoder: BodyDecoder::for_response(ResponseBodyFraming::Empty),
            keep_alive: true,
            deadline: Deadline::new(),
            timeouts: Timeouts { response_head: Duration::ZERO, read: Duration::ZERO, deadline: None },
            expires,
        })
    }

    /// Sends a request with its body, and waits for the response head.
    ///
    /// If the request may be sent again, its body is put back.
    pub(crate) async fn send(
        &mut self,
        request: &mut Request<RequestBody<B>>,
        timeouts: Timeouts,
    ) -> Result<Response<()>, SendError> {
        self.exchange(request, timeouts, false).await
    }

    /// Sends an upgrade request (RFC 9110 §7.8), and waits for the response head, which may be a 101.
    pub(crate) async fn send_upgrade(
        &mut self,
        request: &mut Request<RequestBody<B>>,
        timeouts: Timeouts,
    ) -> Result<Response<()>, SendError> {
        self.exchange(request, timeouts, true).await
    }

    /// Returns the socket and the bytes after the response 101.
    pub(crate) fn into_upgraded(self) -> (Socket, Bytes) {
        (self.socket, self.input.freeze())
    }

    async fn exchange(
        &mut self,
        request: &mut Request<RequestBody<B>>,
        timeouts: Timeouts,
        is_upgrade: bool,
    ) -> Result<Response<()>, SendError> {
        let is_empty = request.body().is_empty();
        let may_keep_alive = self.output.begin(request);
        self.timeouts = timeouts;
        // The timer also ends the wait for a 100.
        let wait = if self.output.awaits_continue() { CONTINUE_TIMEOUT } else { Duration::MAX };
        self.deadline.set(Instant::now() + timeouts.response_head.min(wait));
        let mut context =
            RequestContext { method: request.method(), extensions: request.extensions(), is_upgrade, interim: 0 };
        let received = poll_fn(|cx| self.poll_exchange(cx, &mut context)).await;
        let interim = context.interim;
        match received {
            Ok(head) => {
                // RFC 9110 §10.1.1: the final response replaces the 100. The backend may wait for the content or not, so the
                // connection ends after the response.
                if self.output.awaits_continue() {
                    self.output.drop_content();
                }
                self.decoder = BodyDecoder::for_response(head.framing);
                self.keep_alive = head.keep_alive && may_keep_alive;
                Ok(head.response)
            }
            Err(Failure::Closed(error)) => {
                let was_sent = self.output.was_sent();
                let unsent = self.output.take_unsent_body();
                // After an interim response, the client has received a part of the response.
                let is_safe_to_retry = request.method().is_idempotent() && interim == 0;
                let is_retryable = !was_sent || is_safe_to_retry && (is_empty || unsent.is_some());
                if let Some(body) = unsent {
                    *request.body_mut() = body;
                }
                Err(SendError::Closed { is_retryable, error })
            }
            Err(Failure::Other(error)) => Err(SendError::Failed(error)),
        }
    }

    fn poll_exchange(
        &mut self,
        cx: &mut Context<'_>,
        context: &mut RequestContext<'_>,
    ) -> Poll<Result<ResponseHead, Failure>> {
        loop {
            if self.output.is_sending() {
                match self.output.poll(cx, &mut self.socket) {
                    // The backend may have sent a response before it closed its side.
                    Poll::Ready(Err(OutputError::Socket)) => {}
                    Poll::Ready(Err(OutputError::Body(error))) => {
                        // RFC 9209 §2.3: a failed request body is an error of the request.
                        let error = ProxyError::caused(ProxyErrorKind::HttpRequestError, error);
                        return Poll::Ready(Err(Failure::Other(error)));
                    }
                    Poll::Ready(Ok(())) | Poll::Pending => {}
                }
                if self.output.take_progress() && !self.output.awaits_continue() {
                    self.deadline.set(Instant::now() + self.timeouts.response_head);
                }
            }
            let awaited_continue = self.output.awaits_continue();
            // The work before the timer: a response that has arrived is in time.
            if let Poll::Ready(head) = self.poll_head(cx, context) {
                return Poll::Ready(head);
            }
            if awaited_continue {
                if self.output.awaits_continue() {
                    ready!(self.deadline.poll(cx));
                    // RFC 9110 §10.1.1: the backend may not know the expectation.
                    self.output.release_content();
                }
                self.deadline.set(Instant::now() + self.timeouts.response_head);
                continue;
            }
            // The timeout does not apply while the client is sending the request body.
            if !self.output.awaits_body() {
                ready!(self.deadline.poll(cx));
                return Poll::Ready(Err(Failure::Other(ProxyError::new(ProxyErrorKind::HttpResponseTimeout))));
            }
            return Poll::Pending;
        }
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        context: &mut RequestContext<'_>,
    ) -> Poll<Result<ResponseHead, Failure>> {
        // The head is parsed only after a new line, so that a backend cannot cause work for each byte.
        let mut is_new = !self.input.is_empty();
        loop {
            if is_new
                && let Some(head) = parse_response_head(&mut self.input, context.method).map_err(Failure::malformed)?
            {
                let is_switch = head.response.status() == StatusCode::SWITCHING_PROTOCOLS;
                if !head.response.status().is_informational() || is_switch && context.is_upgrade {
                    return Poll::Ready(Ok(head));
                }
                // RFC 9110 §15.2: any number of interim responses is allowed, so it is limited. A 101 is a response
                // to an upgrade only. Bytes after it are not HTTP.
                context.interim += 1;
                if is_switch || context.interim > MAX_INTERIM_RESPONSES {
                    return Poll::Ready(Err(Failure::malformed(Malformed::UnexpectedInterimResponse)));
                }
                if head.response.status() == StatusCode::CONTINUE {
                    self.output.release_content();
                }
                // RFC 9110 §15.2: a proxy forwards interim responses.
                if let Some(relay) = context.extensions.get::<InterimRelay>() {
                    relay(head.response);
                }
                is_new = !self.input.is_empty();
                continue;
            }
            let before = self.input.len();
            match ready!(self.poll_read(cx)) {
                Ok(0) => return Poll::Ready(Err(Failure::Closed(io::ErrorKind::UnexpectedEof.into()))),
                Ok(_) => {
                    is_new = self.input[before..].contains(&b'\n')
                        || self.input.len() > MAX_RESPONSE_HEAD_SIZE
                        || !is_status_line_prefix(&self.input);
                }
                Err(error) => return Poll::Ready(Err(Failure::Closed(error))),
            }
        }
    }

    /// Returns the next frame of the response body.
    pub(crate) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        // The rest of the request is sent during the response.
        if self.output.is_sending()
            && let Poll::Ready(Err(error)) = self.output.poll(cx, &mut self.socket)
        {
            self.keep_alive = false;
            // A failed request body ends the exchange, so that neither side regards it as complete.
            if let OutputError::Body(error) = error {
                return Poll::Ready(Some(Err(BodyError::Request(error.to_string()))));
            }
        }
        loop {
            match self.decoder.decode(&mut self.input) {
                Ok(Some(frame)) if frame.is_trailers() => {
                    let frame = trailers::filter_frame(frame);
                    let is_empty = frame.trailers_ref().is_some_and(HeaderMap::is_empty);
                    return Poll::Ready((!is_empty).then_some(Ok(frame)));
                }
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Ok(None) if self.decoder.has_ended() => return Poll::Ready(None),
                Ok(None) => {}
                Err(invalid) => return Poll::Ready(Some(Err(BodyError::Malformed(describe(invalid))))),
            }
            let Poll::Ready(read) = self.poll_read(cx) else {
                ready!(self.deadline.poll_read_timeout(cx, &self.timeouts));
                return Poll::Ready(Some(Err(BodyError::Timeout)));
            };
            self.deadline.record_progress();
            match read {
                Ok(0) if self.decoder.end_at_close() => return Poll::Ready(None),
                Ok(0) => return Poll::Ready(Some(Err(BodyError::Incomplete))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(BodyError::Io(error)))),
            }
        }
    }

    /// Reads from the socket into the buffer, and returns the number of bytes.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.input.capacity() - self.input.len() < self.read_size / 4 {
            self.input.reserve(self.read_size);
        }
        let spare = self.input.capacity() - self.input.len();
        let length = ready!(pin!(self.socket.read_buf(&mut self.input)).poll(cx))?;
        if length == spare && self.read_size < MAX_READ_SIZE {
            self.read_size *= 2;
        }
        Poll::Ready(Ok(length))
    }

    /// Returns whether the exchange is complete and the backend has sent no surplus bytes.
    pub(crate) fn is_idle(&self) -> bool {
        self.keep_alive
            && self.has_ended()
            && !self.output.is_sending()
            && !self.output.has_failed()
            && self.input.is_empty()
    }

    /// Frees the read buffer of an idle connection if a large response has made it large.
    pub(crate) fn free_large_buffer(&mut self) {
        if self.read_size > MIN_READ_SIZE {
            self.input = BytesMut::new();
            self.read_size = MIN_READ_SIZE;
        }
    }

    /// Returns whether the connection can be used for the next request.
    ///
    /// That is the case if the backend has neither closed the connection nor sent further bytes.
    ///
    /// The socket is polled without a waker, so that events do not wake the task that used the connection last.
    pub(crate) fn is_reusable(&mut self) -> bool {
        let cx = &mut Context::from_waker(Waker::noop());
        // Without `unconstrained`, a task without budget would see every socket as pending, even a closed one.
        let probe = pin!(unconstrained(poll_fn(|cx| self.poll_read(cx))));
        let is_open = probe.poll(cx).is_pending();
        is_open && self.expires.is_none_or(|expires| Instant::now() < expires)
    }
}

impl<B: Body> Http1Connection<B> {
    /// Returns whether the response body has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.decoder.has_ended()
    }

    /// Returns the remaining length of the response body in bytes, if known.
    pub(crate) fn remaining(&self) -> Option<u64> {
        self.decoder.remaining()
    }
}

/// The parts of a request that are needed to parse its response.
struct RequestContext<'a> {
    method: &'a Method,
    extensions: &'a Extensions,
    /// Whether the response may be a 101.
    is_upgrade: bool,
    /// The number of interim responses that were received.
    interim: u32,
}

/// The reason that no response head was received.
enum Failure {
    Closed(io::Error),
    Other(ProxyError),
}

impl Failure {
    fn malformed(malformed: impl Into<Malformed>) -> Self {
        Self::Other(ProxyError::caused(ProxyErrorKind::HttpProtocolError, malformed.into()))
    }
}

/// Describes why a response body is invalid.
fn describe(invalid: InvalidBody) -> &'static str {
    match invalid {
        InvalidBody::ChunkSize => "a chunk of the response body has no valid size",
        InvalidBody::ChunkEnd => "a chunk of the response body does not end after its declared size",
        InvalidBody::Trailers => "the trailer section of the response is malformed",
        InvalidBody::Overhead => "a chunk extension or the trailer section of the response is too large",
        _ => "the response body is malformed",
    }
}

/// The initial number of bytes per read.
const MIN_READ_SIZE: usize = 8 * 1024;
/// The maximum number of bytes per read. Larger reads do not increase the throughput.
const MAX_READ_SIZE: usize = 64 * 1024;
/// The maximum time that the content of a request waits for a 100 (RFC 9110 §10.1.1).
const CONTINUE_TIMEOUT: Duration = Duration::from_secs(1);
/// The maximum number of interim responses to a request.
pub(crate) const MAX_INTERIM_RESPONSES: u32 = 16;

/// The maximum memory of one exchange over HTTP/1.1, in bytes: two read buffers and two response heads.
pub(crate) const MAX_EXCHANGE_SIZE: usize = 2 * MAX_READ_SIZE + 2 * MAX_RESPONSE_HEAD_SIZE;
