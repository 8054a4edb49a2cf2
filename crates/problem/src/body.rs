//! The response body of the layer: the inner body or an error response. A panic ends it with an error.

use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{Either, Full};
use pin_project_lite::pin_project;

use crate::hooks::ProblemHooks;
use crate::panic::{Panicked, catch_panic};

pin_project! {
    /// The response body of [`ProblemService`](crate::ProblemService).
    pub struct ResponseBody<B, H = ()> {
        #[pin]
        body: Either<B, Full<Bytes>>,
        hooks: PhantomData<fn() -> H>,
    }
}

impl<B, H> ResponseBody<B, H> {
    pub(crate) fn inner(body: B) -> Self {
        Self { body: Either::Left(body), hooks: PhantomData }
    }

    pub(crate) fn own(bytes: Bytes) -> Self {
        Self { body: Either::Right(Full::new(bytes)), hooks: PhantomData }
    }
}

impl<B: fmt::Debug, H> fmt::Debug for ResponseBody<B, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").field("body", &self.body).finish()
    }
}

impl<B, H> Body for ResponseBody<B, H>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>,
    H: ProblemHooks,
{
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let mut this = self.project();
        catch_panic(H::panicked, || this.body.as_mut().poll_frame(cx)).unwrap_or_else(|Panicked| {
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
