//! The body of a response that went through the cache.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::carried::{Carried, Copied};
use crate::flight::Follower;
use crate::follower::Followed;
use crate::reader::BodySource;
use crate::tee::Tee;

pin_project! {
    /// The inner service's body, copied into the store on its way if the response may be stored; or one that
    /// arrives for several clients at once; or a stored one, of which nothing is copied.
    pub struct ResponseBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<B> {
        Inner { #[pin] body: B },
        Copied { copied: Copied<B> },
        Followed { followed: Followed },
        Stored { rest: Bytes },
        Trailed { rest: Bytes, trailers: Option<Box<HeaderMap>> },
        Segments { segments: std::vec::IntoIter<Bytes> },
    }
}

/// What a body of type `B` yields by way of this crate.
pub(crate) type NextFrame<B> = Option<Result<Frame<Bytes>, BodyError<<B as Body>::Error>>>;

/// Why a body ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyError<E> {
    /// The inner service's body failed.
    Inner(E),
    /// The body broke off: that of the request that this one was waiting with, or the rest of a response that is stored in
    /// part.
    Incomplete,
}

impl<B> ResponseBody<B> {
    pub(crate) fn inner(body: B) -> Self {
        Self { kind: Kind::Inner { body } }
    }

    pub(crate) fn stored(bytes: Bytes) -> Self {
        Self { kind: Kind::Stored { rest: bytes } }
    }

    /// Stored content, with the trailer section that came after it.
    pub(crate) fn trailed(bytes: Bytes, trailers: Option<&HeaderMap>) -> Self {
        let Some(trailers) = trailers else {
            return Self::stored(bytes);
        };
        Self { kind: Kind::Trailed { rest: bytes, trailers: Some(Box::new(trailers.clone())) } }
    }

    pub(crate) fn segments(segments: Vec<Bytes>) -> Self {
        Self { kind: Kind::Segments { segments: segments.into_iter() } }
    }

    /// `length`: of all that will come, if it is known.
    pub(crate) fn followed(follower: Follower, length: Option<u64>) -> Self {
        Self { kind: Kind::Followed { followed: Followed::new(follower, false, length) } }
    }

    /// Whether others than its client will have something of it.
    pub(crate) fn is_copied(&self) -> bool {
        match &self.kind {
            Kind::Copied { copied } => copied.is_copied(),
            Kind::Followed { followed } => followed.is_shared(),
            Kind::Inner { .. } | Kind::Stored { .. } | Kind::Trailed { .. } | Kind::Segments { .. } => false,
        }
    }
}

impl<B> ResponseBody<B>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Send + 'static,
{
    /// A body that `tee` copies for the store, and for all who wait for it.
    pub(crate) fn copied(source: BodySource<B>, tee: Option<Tee>) -> Self {
        match tee {
            // A body that is known to have ended is never polled.
            Some(tee) if source.is_end_stream() => {
                tee.finish();
                Self::stored(Bytes::new())
            }
            Some(tee) => match tee.flight().cloned() {
                Some(flight) => {
                    let length = tee.expected_length();
                    flight.carry(Box::new(Carried::new(source.into(), tee)));
                    Self { kind: Kind::Followed { followed: Followed::new(Follower::new(&flight), true, length) } }
                }
                None => Self { kind: Kind::Copied { copied: Copied::new(source.into(), Some(tee), true) } },
            },
            None => match source.into_alone() {
                Ok(body) => Self::inner(body),
                Err(source) => Self { kind: Kind::Copied { copied: Copied::new(source.into(), None, true) } },
            },
        }
    }

    /// A body of which `tee` copies what comes from the origin, and not what is stored already.
    pub(crate) fn copied_without_stored(source: BodySource<B>, tee: Option<Tee>) -> Self {
        Self { kind: Kind::Copied { copied: Copied::new(source.into(), tee, false) } }
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Send + 'static,
{
    type Data = Bytes;
    type Error = BodyError<B::Error>;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.project().kind.project() {
            KindProjection::Stored { rest } => {
                let rest = std::mem::take(rest);
                Poll::Ready((!rest.is_empty()).then(|| Ok(Frame::data(rest))))
            }
            KindProjection::Trailed { rest, trailers } => {
                let rest = std::mem::take(rest);
                Poll::Ready(match rest.is_empty() {
                    false => Some(Ok(Frame::data(rest))),
                    true => trailers.take().map(|trailers| Ok(Frame::trailers(*trailers))),
                })
            }
            KindProjection::Segments { segments } => Poll::Ready(segments.next().map(|data| Ok(Frame::data(data)))),
            KindProjection::Followed { followed } => followed.poll_frame(cx),
            KindProjection::Copied { copied } => copied.poll_frame(cx),
            KindProjection::Inner { body } => {
                body.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(BodyError::Inner)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Stored { rest } => rest.is_empty(),
            Kind::Trailed { rest, trailers } => rest.is_empty() && trailers.is_none(),
            Kind::Segments { segments } => segments.as_slice().is_empty(),
            Kind::Followed { followed } => followed.is_end_stream(),
            Kind::Copied { copied } => copied.is_end_stream(),
            Kind::Inner { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Stored { rest } => SizeHint::with_exact(rest.len() as u64),
            // HTTP/1.1 servers send a body of known length without trailers.
            Kind::Trailed { rest, .. } => {
                let mut hint = SizeHint::default();
                hint.set_lower(rest.len() as u64);
                hint
            }
            Kind::Segments { segments } => {
                SizeHint::with_exact(segments.as_slice().iter().map(|segment| segment.len() as u64).sum())
            }
            Kind::Followed { followed } => followed.size_hint(),
            Kind::Copied { copied } => copied.size_hint(),
            Kind::Inner { body } => body.size_hint(),
        }
    }
}

impl<B> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.kind {
            Kind::Inner { .. } => "ResponseBody(inner)",
            Kind::Copied { .. } => "ResponseBody(inner, copied)",
            Kind::Followed { .. } => "ResponseBody(shared)",
            Kind::Stored { .. } | Kind::Trailed { .. } | Kind::Segments { .. } => "ResponseBody(stored)",
        })
    }
}

impl<E: fmt::Display> fmt::Display for BodyError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inner(error) => error.fmt(f),
            Self::Incomplete => f.write_str(INCOMPLETE),
        }
    }
}

const INCOMPLETE: &str = "the response body broke off before its end";

/// The error of the inner body comes out as it went in.
impl<E> From<BodyError<E>> for Box<dyn std::error::Error + Send + Sync>
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn from(error: BodyError<E>) -> Self {
        match error {
            BodyError::Inner(error) => error.into(),
            BodyError::Incomplete => INCOMPLETE.into(),
        }
    }
}
