//! The body of a response that went through the cache.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::carried::Carried;
use crate::flight::Follower;
use crate::follower::Followed;
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
        Inner { #[pin] body: B, tee: Option<Box<Tee>> },
        Followed { followed: Followed },
        Stored { rest: Bytes },
        Segments { segments: std::vec::IntoIter<Bytes> },
    }
}

/// Why a body ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyError<E> {
    /// The inner service's body failed.
    Inner(E),
    /// The body of the request that this one was waiting with broke off.
    Incomplete,
}

impl<B> ResponseBody<B> {
    pub(crate) fn inner(body: B) -> Self {
        Self { kind: Kind::Inner { body, tee: None } }
    }

    pub(crate) fn stored(bytes: Bytes) -> Self {
        Self { kind: Kind::Stored { rest: bytes } }
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
            Kind::Inner { tee, .. } => tee.is_some(),
            Kind::Followed { followed } => followed.is_shared(),
            Kind::Stored { .. } | Kind::Segments { .. } => false,
        }
    }
}

impl<B: Body<Data = Bytes>> ResponseBody<B> {
    pub(crate) fn copied(body: B, tee: Tee) -> Self {
        // A body that is known to have ended is never polled.
        if body.is_end_stream() {
            tee.finish();
            return Self::inner(body);
        }
        Self { kind: Kind::Inner { body, tee: Some(Box::new(tee)) } }
    }

    /// Copied, and shared with those who wait for the same.
    pub(crate) fn led(body: B, tee: Tee) -> Self
    where
        B: Send + 'static,
        B::Error: Send,
    {
        let Some(flight) = tee.flight().cloned().filter(|_| !body.is_end_stream()) else {
            return Self::copied(body, tee);
        };
        let length = tee.expected_length();
        flight.carry(Box::new(Carried::new(body, tee)));
        Self { kind: Kind::Followed { followed: Followed::new(Follower::new(&flight), true, length) } }
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: 'static,
{
    type Data = Bytes;
    type Error = BodyError<B::Error>;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.project().kind.project() {
            KindProjection::Stored { rest } => {
                let rest = std::mem::take(rest);
                Poll::Ready((!rest.is_empty()).then(|| Ok(Frame::data(rest))))
            }
            KindProjection::Segments { segments } => Poll::Ready(segments.next().map(|data| Ok(Frame::data(data)))),
            KindProjection::Followed { followed } => followed.poll_frame(cx),
            KindProjection::Inner { mut body, tee } => {
                let frame = ready!(body.as_mut().poll_frame(cx));
                // Whatever goes wrong, the tee is gone and the client is served on.
                if let Some(mut copy) = tee.take() {
                    match &frame {
                        None => copy.finish(),
                        Some(Ok(frame)) => match frame.data_ref() {
                            Some(data) if copy.push(data) => {
                                if copy.is_complete() || body.is_end_stream() {
                                    copy.finish();
                                } else {
                                    *tee = Some(copy);
                                }
                            }
                            // Too large; or trailers, which would be lost on a hit.
                            Some(_) | None => {}
                        },
                        Some(Err(_)) => {}
                    }
                }
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Inner)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Stored { rest } => rest.is_empty(),
            Kind::Segments { segments } => segments.as_slice().is_empty(),
            Kind::Followed { followed } => followed.is_end_stream(),
            Kind::Inner { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Stored { rest } => SizeHint::with_exact(rest.len() as u64),
            Kind::Segments { segments } => {
                SizeHint::with_exact(segments.as_slice().iter().map(|segment| segment.len() as u64).sum())
            }
            Kind::Followed { followed } => followed.size_hint(),
            Kind::Inner { body, .. } => body.size_hint(),
        }
    }
}

impl<B> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.kind {
            Kind::Inner { tee: None, .. } => "ResponseBody(inner)",
            Kind::Inner { tee: Some(_), .. } => "ResponseBody(inner, copied)",
            Kind::Followed { .. } => "ResponseBody(shared)",
            Kind::Stored { .. } | Kind::Segments { .. } => "ResponseBody(stored)",
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

const INCOMPLETE: &str = "the body that several requests were waiting for broke off";

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
