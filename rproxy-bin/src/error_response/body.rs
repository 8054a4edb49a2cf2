//! The response body of the error response layer: the inner body or an error response. A panic ends it with an error.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{Either, Full};
use pin_project_lite::pin_project;
use tower::BoxError;

use super::panic::{Panicked, catch_panic};

pin_project! {
    /// The response body of [`ErrorResponseService`](super::ErrorResponseService).
    #[derive(Debug)]
    pub struct ResponseBody<B> {
        #[pin]
        body: Either<B, Full<Bytes>>,
    }
}

impl<B> ResponseBody<B> {
    pub(super) fn inner(body: B) -> Self {
        Self { body: Either::Left(body) }
    }

    pub(super) fn own(bytes: Bytes) -> Self {
        Self { body: Either::Right(Full::new(bytes)) }
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        catch_panic(|| this.body.as_mut().poll_frame(cx)).unwrap_or_else(|Panicked| {
            this.body.set(Either::Right(Full::default()));
            Poll::Ready(Some(Err(Panicked.into())))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
