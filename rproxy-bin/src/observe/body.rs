//! The response body that counts bytes for the access log and detects the end of the body.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::record::RequestRecord;
use crate::ErrorChain;

type BoxError = Box<dyn Error + Send + Sync>;

pin_project! {
    /// The response body of [`ObserveService`](super::ObserveService).
    #[derive(Debug)]
    pub struct ResponseBody<B> {
        #[pin]
        inner: B,
        // The rest of a body of known length, which is complete with its last byte: hyper does not poll it again.
        missing: Option<u64>,
        // Dropped at the end of the body or with it, which records the request.
        record: Option<RequestRecord>,
    }
}

impl<B: Body> ResponseBody<B> {
    pub(super) fn new(inner: B, record: Option<RequestRecord>) -> Self {
        Self { missing: inner.size_hint().exact(), inner, record }
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body<Error: Into<BoxError>>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let mut this = self.project();
        let polled = ready!(this.inner.as_mut().poll_frame(cx)).map(|frame| frame.map_err(Into::into));
        let Some(record) = this.record else {
            return Poll::Ready(polled);
        };
        match &polled {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    let sent = data.remaining() as u64;
                    record.add_bytes(sent);
                    *this.missing = this.missing.map(|missing| missing.saturating_sub(sent));
                }
                record.set_complete(*this.missing == Some(0) || this.inner.is_end_stream());
            }
            Some(Err(error)) => {
                record.fail(&ErrorChain(&**error).to_string());
                *this.record = None;
            }
            None => {
                record.set_complete(true);
                *this.record = None;
            }
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
