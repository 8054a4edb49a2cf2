//! The content of a request, which the connection reads from its socket when the service asks for it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use rproxy_http1::{BodyDecoder, InvalidBody, RequestBodyFraming};

use super::client_io::ClientIo;
use crate::protocol::request_body_error::RequestBodyError;
use crate::transport::client_socket::ClientSocket;

/// The service's half: the content as the frames of a body.
#[derive(Debug)]
pub(crate) struct RequestContent {
    shared: Arc<Shared>,
    /// The length of the content that has not been returned yet, if known.
    remaining: Option<u64>,
}

/// The connection's half: it decodes the content.
#[derive(Debug)]
pub(super) struct ContentReader {
    shared: Arc<Shared>,
    decoder: BodyDecoder,
    /// Whether the client waits for `100 Continue` before it sends the content.
    expects_continue: bool,
}

/// An event of a [`ContentReader`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContentEvent {
    /// The service can read more, or the end.
    Read,
    /// The client waits for `100 Continue` (RFC 9110 §10.1.1).
    Continue,
}

#[derive(Debug, Default)]
struct Shared(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The decoded frames that the service has not read yet.
    frames: VecDeque<Frame<Bytes>>,
    end: Option<ContentEnd>,
    /// Whether the service waits for the next frame.
    is_wanted: bool,
    /// Whether the service has dropped the content.
    is_dropped: bool,
    service: Option<Waker>,
    connection: Option<Waker>,
}

/// The end of the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ContentEnd {
    Complete,
    /// The client closed the connection before.
    Incomplete,
    Invalid(InvalidBody),
    /// The service has been told the error.
    Reported,
}

/// Creates both halves for a request, of which `input` is the received part after the head.
///
/// # Errors
///
/// If the received part is already invalid.
pub(super) fn content(
    framing: RequestBodyFraming,
    expects_continue: bool,
    input: &mut BytesMut,
) -> Result<(RequestContent, ContentReader), InvalidBody> {
    let mut reader = ContentReader {
        shared: Arc::default(),
        decoder: BodyDecoder::for_request(framing),
        expects_continue: expects_continue && input.is_empty(),
    };
    let content = RequestContent { shared: Arc::clone(&reader.shared), remaining: reader.decoder.remaining() };
    {
        let mut state = reader.shared.state();
        while let Some(frame) = reader.decoder.decode(input)? {
            state.frames.push_back(frame);
        }
        state.end = reader.decoder.has_ended().then_some(ContentEnd::Complete);
    }
    Ok((content, reader))
}

impl ContentReader {
    /// Returns whether the client waits for `100 Continue` before it sends the content.
    pub(super) fn expects_continue(&self) -> bool {
        self.expects_continue
    }

    /// Returns whether all content was received.
    pub(super) fn has_ended(&self) -> bool {
        self.decoder.has_ended()
    }

    /// Returns whether the rest of the content is so little that it can be discarded after the response.
    ///
    /// A client that waits for a 100 may send the content or not, so its connection cannot be used again.
    pub(super) fn is_discardable(&self) -> bool {
        !self.expects_continue && self.decoder.remaining().is_some_and(|remaining| remaining <= MAX_DISCARDED)
    }

    /// Reads and discards the rest of the content. Returns false if it is incomplete or invalid.
    pub(super) fn poll_discard<T: ClientSocket>(&mut self, cx: &mut Context<'_>, io: &mut ClientIo<T>) -> Poll<bool> {
        loop {
            match self.decoder.decode(&mut io.input) {
                Ok(_) if self.decoder.has_ended() => return Poll::Ready(true),
                Ok(Some(_)) => {}
                Ok(None) if ready!(io.poll_content(cx, self.decoder.remaining())) => {}
                Ok(None) | Err(_) => return Poll::Ready(false),
            }
        }
    }

    /// Returns whether no more content can be received, or the service wants no more.
    pub(super) fn is_finished(&self) -> bool {
        let state = self.shared.state();
        state.end.is_some() || state.is_dropped
    }

    /// Reads content from the socket while the service waits for it.
    ///
    /// It is pending until the service can read more, also after the end of the content.
    pub(super) fn poll<T: ClientSocket>(&mut self, cx: &mut Context<'_>, io: &mut ClientIo<T>) -> Poll<ContentEvent> {
        if !self.shared.state().is_read_wanted(cx) {
            return Poll::Pending;
        }
        if std::mem::take(&mut self.expects_continue) && io.input.is_empty() {
            return Poll::Ready(ContentEvent::Continue);
        }
        loop {
            let (frame, end) = match self.decoder.decode(&mut io.input) {
                Ok(frame) => (frame, self.decoder.has_ended().then_some(ContentEnd::Complete)),
                Err(invalid) => (None, Some(ContentEnd::Invalid(invalid))),
            };
            if frame.is_some() || end.is_some() {
                self.shared.state().add(cx, frame, end);
                return Poll::Ready(ContentEvent::Read);
            }
            match ready!(io.poll_content(cx, self.decoder.remaining())) {
                true => {}
                false => {
                    self.shared.state().add(cx, None, Some(ContentEnd::Incomplete));
                    return Poll::Ready(ContentEvent::Read);
                }
            }
        }
    }

    /// Forgets the waker of the last poll, before the service is polled by the same task.
    ///
    /// The connection polls the content next, so a request for more need not wake it.
    pub(super) fn begin_poll(&self) {
        self.shared.state().connection = None;
    }
}

impl Drop for ContentReader {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.end.get_or_insert(ContentEnd::Incomplete);
        if let Some(service) = state.service.take() {
            drop(state);
            service.wake();
        }
    }
}

impl RequestContent {
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let mut state = self.shared.state();
        if let Some(frame) = state.frames.pop_front() {
            if let (Some(remaining), Some(data)) = (&mut self.remaining, frame.data_ref()) {
                *remaining -= data.remaining() as u64;
            }
            return Poll::Ready(Some(Ok(frame)));
        }
        let error = match state.end {
            Some(ContentEnd::Complete | ContentEnd::Reported) => return Poll::Ready(None),
            Some(ContentEnd::Incomplete) => Some(RequestBodyError::Incomplete),
            Some(ContentEnd::Invalid(invalid)) => Some(RequestBodyError::Invalid(invalid)),
            None => None,
        };
        if let Some(error) = error {
            state.end = Some(ContentEnd::Reported);
            return Poll::Ready(Some(Err(error)));
        }
        state.service = Some(cx.waker().clone());
        if !std::mem::replace(&mut state.is_wanted, true)
            && let Some(connection) = state.connection.take()
        {
            drop(state);
            connection.wake();
        }
        Poll::Pending
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        let state = self.shared.state();
        state.frames.is_empty() && state.end == Some(ContentEnd::Complete)
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.remaining.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for RequestContent {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.is_dropped = true;
        state.frames.clear();
        if let Some(connection) = state.connection.take() {
            drop(state);
            connection.wake();
        }
    }
}

impl Shared {
    // A poisoned lock is fine, because a panic leaves no partial change.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns whether the service waits for content. Otherwise, the connection is woken when it does.
    fn is_read_wanted(&mut self, cx: &Context<'_>) -> bool {
        self.connection = Some(cx.waker().clone());
        self.is_wanted && self.end.is_none() && !self.is_dropped
    }

    /// Adds content for the service, and wakes it unless it is polled by the task of `cx`.
    fn add(&mut self, cx: &Context<'_>, frame: Option<Frame<Bytes>>, end: Option<ContentEnd>) {
        self.frames.extend(frame);
        self.end = end;
        self.is_wanted = false;
        if let Some(service) = self.service.take()
            && !service.will_wake(cx.waker())
        {
            service.wake();
        }
    }
}

/// The maximum size of content that is discarded after a response, so that the connection can be used again.
const MAX_DISCARDED: u64 = 256 * 1024;
