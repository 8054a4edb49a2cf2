//! A body that is the inner one, or ours; a panic ends it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use pin_project_lite::pin_project;
use tower::BoxError;

use super::panic::{Panicked, caught};

pin_project! {
    /// The response body of [`ProblemService`](super::ProblemService).
    pub struct ProblemBody<B> {
        #[pin]
        body: Either<B>,
    }
}

pin_project! {
    #[project = EitherProject]
    enum Either<B> {
        Inner { #[pin] body: B },
        Own { #[pin] body: Full<Bytes> },
    }
}

impl<B> ProblemBody<B> {
    pub(super) fn inner(body: B) -> Self {
        Self { body: Either::Inner { body } }
    }

    pub(super) fn own(bytes: Bytes) -> Self {
        Self { body: Either::Own { body: Full::new(bytes) } }
    }
}

impl<B> Body for ProblemBody<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        match this.body.as_mut().project() {
            EitherProject::Own { body } => {
                Poll::Ready(ready!(body.poll_frame(cx)).map(|frame| frame.map_err(|never| match never {})))
            }
            EitherProject::Inner { body } => match caught(|| body.poll_frame(cx)) {
                Ok(polled) => Poll::Ready(ready!(polled).map(|frame| frame.map_err(Into::into))),
                Err(Panicked) => {
                    this.body.set(Either::Own { body: Full::default() });
                    Poll::Ready(Some(Err(Panicked.into())))
                }
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Either::Inner { body } => body.is_end_stream(),
            Either::Own { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Either::Inner { body } => body.size_hint(),
            Either::Own { body } => body.size_hint(),
        }
    }
}
