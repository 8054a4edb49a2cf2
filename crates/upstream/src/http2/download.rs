//! The content of a response on its way from the backend.

use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use tokio::task::JoinHandle;

use super::pool::Slot;
use super::upload::{Stop, Upload};
use super::wire::ResponseWatch;
use crate::deadline::{Deadline, Patience};
use crate::error::{BodyError, BoxError};
use crate::http1::{LARGEST_TRAILERS, MOST_TRAILERS};
use crate::trailers;

/// The body of a response. Dropping it before its end resets the stream.
pub(crate) struct Download {
    /// `None` after the end.
    stream: Option<Stream>,
    /// How much is to come, if that is known.
    left: Option<u64>,
    patience: Patience,
    /// Made when there is something to wait for.
    deadline: Option<Deadline>,
}

/// How long the body of a response is, as its head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// There is none, whatever the fields say.
    Bodiless,
    Known(u64),
    Unknown,
}

struct Stream {
    recv: RecvStream,
    phase: Phase,
    /// The last data of a known length, until the stream has ended.
    held: Option<Bytes>,
    /// The trailer section, while data is held.
    trailers: Option<HeaderMap>,
    watch: ResponseWatch,
    rest: Option<Rest>,
    /// After the handles of the stream, which it counts.
    _slot: Option<Slot>,
}

/// What comes next on the stream.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Data,
    Trailers,
    Nothing,
}

/// A request that is still being sent.
struct Rest {
    task: JoinHandle<()>,
    failure: Arc<OnceLock<BoxError>>,
}

impl Drop for Rest {
    fn drop(&mut self) {
        // A response that has ended leaves nobody who wants the rest.
        self.task.abort();
    }
}

impl Download {
    pub(super) fn new<B>(
        recv: RecvStream,
        length: Length,
        upload: Option<Upload<B>>,
        watch: ResponseWatch,
        slot: Slot,
        patience: Patience,
    ) -> Self
    where
        B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
    {
        let has_ended = recv.is_end_stream() || length == Length::Bodiless && upload.is_none();
        let stream = (!has_ended).then(|| Stream {
            recv,
            phase: Phase::Data,
            held: None,
            trailers: None,
            watch,
            rest: upload.filter(|upload| !upload.has_ended()).map(Rest::new),
            _slot: Some(slot),
        });
        let left = match length {
            Length::Bodiless => Some(0),
            Length::Known(length) => Some(length),
            Length::Unknown => None,
        };
        Self { stream, left, patience, deadline: None }
    }

    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
        let Poll::Ready(polled) = stream.poll_frame(cx, &mut self.left) else {
            ready!(self.deadline.get_or_insert_with(Deadline::new).poll_silence(cx, &self.patience));
            self.stream = None;
            return Poll::Ready(Some(Err(BodyError::Timeout)));
        };
        if let Some(deadline) = &mut self.deadline {
            deadline.is_answered();
        }
        let is_over = match &polled {
            Some(Ok(frame)) => frame.is_trailers() || stream.is_over(),
            Some(Err(_)) | None => true,
        };
        if is_over {
            self.stream = None;
        }
        Poll::Ready(polled)
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.stream.is_none()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match (&self.stream, self.left) {
            (None, _) => SizeHint::with_exact(0),
            (Some(_), Some(left)) => SizeHint::with_exact(left),
            (Some(_), None) => SizeHint::default(),
        }
    }
}

impl Stream {
    /// Whether nothing is left of the response.
    fn is_over(&self) -> bool {
        self.held.is_none() && self.trailers.is_none() && self.recv.is_end_stream()
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        left: &mut Option<u64>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            match self.phase {
                Phase::Data => match ready!(self.recv.poll_data(cx)) {
                    // Nobody needs these, apart from the end that one may bring.
                    Some(Ok(data)) if data.is_empty() && !self.recv.is_end_stream() => {}
                    Some(Ok(data)) => {
                        // Of a stream that is reset there is nothing to release.
                        let _ = self.recv.flow_control().release_capacity(data.len());
                        let is_last = *left == Some(data.len() as u64);
                        // A client takes a response of a known length for complete once it has that many bytes. The
                        // response is complete only with END_STREAM (RFC 9113 §8.1).
                        if is_last && !data.is_empty() && !self.recv.is_end_stream() && self.held.is_none() {
                            self.held = Some(data);
                            continue;
                        }
                        return Poll::Ready(Some(Ok(deliver(data, left))));
                    }
                    Some(Err(error)) => {
                        if let Some(error) = self.ended(error) {
                            return Poll::Ready(Some(Err(error)));
                        }
                        self.phase = Phase::Nothing;
                    }
                    None => self.phase = Phase::Trailers,
                },
                Phase::Trailers => {
                    match ready!(self.recv.poll_trailers(cx)) {
                        Ok(Some(fields)) => self.trailers = Some(self.checked(fields)?),
                        Ok(None) => {}
                        Err(error) => {
                            if let Some(error) = self.ended(error) {
                                return Poll::Ready(Some(Err(error)));
                            }
                        }
                    }
                    self.phase = Phase::Nothing;
                }
                Phase::Nothing => break,
            }
        }
        Poll::Ready(match self.held.take() {
            Some(data) => Some(Ok(deliver(data, left))),
            None => self.trailers.take().map(|fields| Ok(trailers::filtered(Frame::trailers(fields)))),
        })
    }

    /// Returns the trailer section if it is well-formed and within the limits.
    fn checked(&self, fields: HeaderMap) -> Result<HeaderMap, BodyError> {
        let size = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + ": \r\n".len();
        if fields.len() > MOST_TRAILERS || fields.iter().map(size).sum::<usize>() > LARGEST_TRAILERS {
            return Err(BodyError::Malformed("the trailer section of the response is too large"));
        }
        Ok(fields)
    }

    /// Why the response is incomplete, after the connection or the stream has ended with `error`.
    fn ended(&self, error: h2::Error) -> Option<BodyError> {
        if let Some(failure) = self.rest.as_ref().and_then(|rest| rest.failure.get()) {
            return Some(BodyError::Request(failure.to_string()));
        }
        // RFC 9113 §8.1: a complete response stays complete, whatever happens to the rest of the request. h2 forgets that
        // when the connection ends.
        let is_connection = error.is_io() || error.is_go_away() && error.is_remote();
        if is_connection && self.watch.has_end_stream() {
            return None;
        }
        Some(failed(error))
    }
}

/// Delivers a part of the content, of which `left` is to come.
fn deliver(data: Bytes, left: &mut Option<u64>) -> Frame<Bytes> {
    if let Some(left) = left {
        *left = left.saturating_sub(data.len() as u64);
    }
    Frame::data(data)
}

impl Rest {
    /// Sends the rest of a request beside its response. A client that does not read must not keep the backend from
    /// getting what it sends, so this has a task for itself.
    fn new<B>(mut upload: Upload<B>) -> Self
    where
        B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
    {
        let failure = Arc::<OnceLock<BoxError>>::default();
        let failed = Arc::clone(&failure);
        let task = tokio::spawn(async move {
            if let Err(Stop::Body(error)) = std::future::poll_fn(|cx| upload.poll(cx)).await {
                let _ = failed.set(error);
                upload.abort();
            }
        });
        Self { task, failure }
    }
}

fn failed(error: h2::Error) -> BodyError {
    match error.reason() {
        Some(reason) if error.is_reset() && error.is_remote() => BodyError::Reset(reason.into()),
        // RFC 9113 §8.1.1: h2 has found the response malformed, such as one that is not as long as it says.
        Some(_) if error.is_library() => BodyError::Malformed("the backend's response is not valid HTTP/2"),
        _ => match error.into_io() {
            Some(error) if error.kind() != std::io::ErrorKind::BrokenPipe => BodyError::Io(error),
            _ => BodyError::Incomplete,
        },
    }
}
