//! The response body of the layer: the inner body or an error response. A panic ends it with an error.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::vec;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Either;
use pin_project_lite::pin_project;

use crate::hooks::ProblemHooks;
use crate::panic::{Panicked, catch_panic};

pin_project! {
    /// The response body of [`ProblemService`](crate::ProblemService).
    pub struct ResponseBody<B, H = ()> {
        #[pin]
        body: Either<B, Chunks>,
        hooks: PhantomData<fn() -> H>,
    }
}

impl<B: Default, H> Default for ResponseBody<B, H> {
    fn default() -> Self {
        Self::inner(B::default())
    }
}

impl<B, H> ResponseBody<B, H> {
    pub(crate) fn inner(body: B) -> Self {
        Self { body: Either::Left(body), hooks: PhantomData }
    }

    pub(crate) fn own(bytes: Bytes) -> Self {
        Self::parts(vec![bytes])
    }

    /// Returns a body with these parts, which are sent one by one.
    pub(crate) fn parts(mut parts: Vec<Bytes>) -> Self {
        parts.retain(|part| !part.is_empty());
        Self { body: Either::Right(Chunks { parts: parts.into_iter() }), hooks: PhantomData }
    }

    pub(crate) fn empty() -> Self {
        Self::parts(Vec::new())
    }
}

impl<B, H> ResponseBody<B, H>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>,
    H: ProblemHooks,
{
    /// Reads the content that has arrived, up to a limit, and drops the rest.
    ///
    /// A cache below can then store a small content, and the connection of a backend can be used again.
    pub(crate) fn discard(self, cx: &mut Context<'_>) {
        let mut body = pin!(self);
        let mut left = MAX_DISCARDED;
        for _ in 0..MAX_DISCARDED_FRAMES {
            let Poll::Ready(Some(Ok(frame))) = body.as_mut().poll_frame(cx) else { return };
            match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                Some(remaining) => left = remaining,
                None => return,
            }
        }
    }
}

/// The maximum content in bytes that is read before it is dropped.
const MAX_DISCARDED: usize = 64 << 10;
const MAX_DISCARDED_FRAMES: usize = 64;

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
            this.body.set(Either::Right(Chunks::default()));
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

/// The content of an error response, in parts that are not empty.
#[derive(Debug, Default)]
struct Chunks {
    parts: vec::IntoIter<Bytes>,
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.parts.next().map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.parts.len() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.parts.as_slice().iter().map(|part| part.len() as u64).sum())
    }
}
