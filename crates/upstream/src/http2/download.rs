//! The content of a response on its way from the backend.

use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Body, Frame, SizeHint};
use tokio::task::JoinHandle;

use super::pool::Slot;
use super::upload::{Stop, Upload};
use crate::deadline::{Deadline, Patience};
use crate::error::{BodyError, BoxError};
use crate::http1::MOST_TRAILERS;
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
    /// Whether there is no more data, so that a trailer section may follow.
    has_data_ended: bool,
    rest: Option<Rest>,
    /// After the handles of the stream, which it counts.
    _slot: Option<Slot>,
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
        slot: Slot,
        patience: Patience,
    ) -> Self
    where
        B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
    {
        let has_ended = recv.is_end_stream() || length == Length::Bodiless && upload.is_none();
        let stream = (!has_ended).then(|| Stream {
            recv,
            has_data_ended: false,
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
            Some(Ok(frame)) => frame.is_trailers() || stream.recv.is_end_stream(),
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
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        left: &mut Option<u64>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        while !self.has_data_ended {
            match ready!(self.recv.poll_data(cx)) {
                // Nobody need hear of these, apart from the end that one may bring.
                Some(Ok(data)) if data.is_empty() && !self.recv.is_end_stream() => {}
                Some(Ok(data)) => {
                    // Of a stream that is reset there is nothing to release.
                    let _ = self.recv.flow_control().release_capacity(data.len());
                    if let Some(left) = left {
                        *left = left.saturating_sub(data.len() as u64);
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(self.ended(error, *left)),
                None => self.has_data_ended = true,
            }
        }
        match ready!(self.recv.poll_trailers(cx)) {
            Ok(Some(fields)) if fields.len() > MOST_TRAILERS => {
                Poll::Ready(Some(Err(BodyError::Malformed("the response has too many trailers"))))
            }
            Ok(Some(fields)) => Poll::Ready(Some(Ok(trailers::filtered(Frame::trailers(fields))))),
            Ok(None) => Poll::Ready(None),
            Err(error) => Poll::Ready(self.ended(error, *left)),
        }
    }

    /// The stream ended without END_STREAM, or with an error beside it.
    fn ended(&self, error: h2::Error, left: Option<u64>) -> Option<Result<Frame<Bytes>, BodyError>> {
        if let Some(failure) = self.rest.as_ref().and_then(|rest| rest.failure.get()) {
            return Some(Err(BodyError::Request(failure.to_string())));
        }
        // RFC 9113 §8.1: a response that is whole stays whole, whatever becomes of the rest of the request. Whether it was
        // whole h2 knows, unless the connection ended with it.
        if left == Some(0) && !error.is_reset() {
            return None;
        }
        Some(Err(failed(error)))
    }
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
