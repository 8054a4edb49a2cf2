//! The body of a response from an HTTP/2 backend.

use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use rproxy_http1::{MAX_RESPONSE_TRAILER_FIELDS, MAX_TRAILER_SIZE};
use tokio::task::JoinHandle;

use super::observed_socket::ResponseWatch;
use super::pool::StreamPermit;
use super::upload::{Upload, UploadError};
use crate::error::{BodyError, BoxError};
use crate::timeouts::{Deadline, Timeouts};
use crate::trailers;

/// The body of an HTTP/2 response. If it is dropped before its end, the stream is reset.
pub(crate) struct Download {
    /// The HTTP/2 stream, until the end of the body.
    stream: Option<Stream>,
    /// The remaining length of the body in bytes, if known.
    left: Option<u64>,
    timeouts: Timeouts,
    /// The deadline for the next frame, created when the body first returns `Poll::Pending`.
    deadline: Option<Deadline>,
}

/// The length of a response body, as declared in the response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// The response has no body, regardless of its header fields.
    Bodiless,
    Known(u64),
    Unknown,
}

/// The receive half of an HTTP/2 stream.
struct Stream {
    recv: RecvStream,
    phase: Phase,
    /// The last data of a body with known length, withheld until END_STREAM is received.
    withheld: Option<Bytes>,
    /// The trailer section, while the last data is withheld.
    trailers: Option<HeaderMap>,
    watch: ResponseWatch,
    upload: Option<BackgroundUpload>,
    /// The stream permit, declared last so that it is released after the handles of the stream.
    _permit: Option<StreamPermit>,
}

/// The part of the stream that is expected next.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Data,
    Trailers,
    Nothing,
}

/// The task that sends the rest of a request during the response.
struct BackgroundUpload {
    task: JoinHandle<()>,
    failure: Arc<OnceLock<BoxError>>,
}

impl Drop for BackgroundUpload {
    fn drop(&mut self) {
        // The rest of the request is not needed after the response.
        self.task.abort();
    }
}

impl Download {
    pub(super) fn new<B>(
        recv: RecvStream,
        length: Length,
        upload: Option<Upload<B>>,
        watch: ResponseWatch,
        permit: StreamPermit,
        timeouts: Timeouts,
    ) -> Self
    where
        B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
    {
        let has_ended = recv.is_end_stream() || length == Length::Bodiless && upload.is_none();
        let stream = (!has_ended).then(|| Stream {
            recv,
            phase: Phase::Data,
            withheld: None,
            trailers: None,
            watch,
            upload: upload.filter(|upload| !upload.has_ended()).map(BackgroundUpload::new),
            _permit: Some(permit),
        });
        let left = match length {
            Length::Bodiless => Some(0),
            Length::Known(length) => Some(length),
            Length::Unknown => None,
        };
        Self { stream, left, timeouts, deadline: None }
    }

    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
        let Poll::Ready(polled) = stream.poll_frame(cx, &mut self.left) else {
            ready!(self.deadline.get_or_insert_with(Deadline::new).poll_read_timeout(cx, &self.timeouts));
            self.stream = None;
            return Poll::Ready(Some(Err(BodyError::Timeout)));
        };
        if let Some(deadline) = &mut self.deadline {
            deadline.record_progress();
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
    /// Returns whether the response body is complete.
    fn is_over(&self) -> bool {
        self.withheld.is_none() && self.trailers.is_none() && self.recv.is_end_stream()
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        left: &mut Option<u64>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            match self.phase {
                Phase::Data => match ready!(self.recv.poll_data(cx)) {
                    // Empty frames are skipped, unless one ends the stream.
                    Some(Ok(data)) if data.is_empty() && !self.recv.is_end_stream() => {}
                    Some(Ok(data)) => {
                        // This fails only if the stream was reset. Then there is no window to release.
                        let _ = self.recv.flow_control().release_capacity(data.len());
                        let is_last = *left == Some(data.len() as u64);
                        // A client regards a response of known length as complete after that many bytes. The
                        // response is complete only with END_STREAM (RFC 9113 §8.1).
                        if is_last && !data.is_empty() && !self.recv.is_end_stream() && self.withheld.is_none() {
                            self.withheld = Some(data);
                            continue;
                        }
                        return Poll::Ready(Some(Ok(deliver(data, left))));
                    }
                    Some(Err(error)) => {
                        if let Some(error) = self.end_error(error) {
                            return Poll::Ready(Some(Err(error)));
                        }
                        self.phase = Phase::Nothing;
                    }
                    None => self.phase = Phase::Trailers,
                },
                Phase::Trailers => {
                    match ready!(self.recv.poll_trailers(cx)) {
                        Ok(Some(fields)) => self.trailers = Some(self.check_trailers(fields)?),
                        Ok(None) => {}
                        Err(error) => {
                            if let Some(error) = self.end_error(error) {
                                return Poll::Ready(Some(Err(error)));
                            }
                        }
                    }
                    self.phase = Phase::Nothing;
                }
                Phase::Nothing => break,
            }
        }
        Poll::Ready(match self.withheld.take() {
            Some(data) => Some(Ok(deliver(data, left))),
            None => self.trailers.take().map(|fields| Ok(trailers::filter_frame(Frame::trailers(fields)))),
        })
    }

    /// Returns the trailer section, or an error if it exceeds the size limits.
    fn check_trailers(&self, fields: HeaderMap) -> Result<HeaderMap, BodyError> {
        let size = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + ": \r\n".len();
        if fields.len() > MAX_RESPONSE_TRAILER_FIELDS || fields.iter().map(size).sum::<usize>() > MAX_TRAILER_SIZE {
            return Err(BodyError::Malformed("the trailer section of the response is too large"));
        }
        Ok(fields)
    }

    /// Returns the error after a stream or connection has failed, or `None` if the response is complete.
    fn end_error(&self, error: h2::Error) -> Option<BodyError> {
        if let Some(failure) = self.upload.as_ref().and_then(|upload| upload.failure.get()) {
            return Some(BodyError::Request(failure.to_string()));
        }
        // RFC 9113 §8.1: a complete response is valid even if the rest of the request fails. h2 loses this state
        // when the connection is closed.
        let is_connection = error.is_io() || error.is_go_away() && error.is_remote();
        if is_connection && self.watch.has_end_stream() {
            return None;
        }
        Some(to_body_error(error))
    }
}

/// Creates a data frame, and subtracts its length from the remaining length `left`.
fn deliver(data: Bytes, left: &mut Option<u64>) -> Frame<Bytes> {
    if let Some(left) = left {
        *left = left.saturating_sub(data.len() as u64);
    }
    Frame::data(data)
}

impl BackgroundUpload {
    /// Spawns a task that sends the rest of a request, so that an unread response does not delay it.
    fn new<B>(mut upload: Upload<B>) -> Self
    where
        B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
    {
        let failure = Arc::<OnceLock<BoxError>>::default();
        let failed = Arc::clone(&failure);
        let task = tokio::spawn(async move {
            if let Err(UploadError::Body(error)) = std::future::poll_fn(|cx| upload.poll(cx)).await {
                let _ = failed.set(error);
                upload.abort();
            }
        });
        Self { task, failure }
    }
}

/// Converts an HTTP/2 stream error that occurred within the response body into a [`BodyError`].
fn to_body_error(error: h2::Error) -> BodyError {
    match error.reason() {
        Some(reason) if error.is_reset() && error.is_remote() => BodyError::Reset(reason.into()),
        // RFC 9113 §8.1.1: h2 detected a malformed response, for example with a wrong length.
        Some(_) if error.is_library() => BodyError::Malformed("the response is not valid HTTP/2"),
        _ => match error.into_io() {
            Some(error) if error.kind() != std::io::ErrorKind::BrokenPipe => BodyError::Io(error),
            _ => BodyError::Incomplete,
        },
    }
}
