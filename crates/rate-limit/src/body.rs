//! The body of an answer.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use pin_project_lite::pin_project;

use crate::in_flight::Permit;

pin_project! {
    /// The body of the inner service's answer, or of a refusal.
    ///
    /// Where requests in progress are [counted](crate::RateLimitLayer::max_in_flight), one is in progress until its
    /// body has ended, or is dropped.
    pub struct RateLimitBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProject]
    enum Kind<B> {
        Inner { #[pin] body: B },
        Counted { #[pin] body: B, permit: Option<Box<Permit>> },
        Refusal { body: Full<Bytes> },
    }
}

impl<B> RateLimitBody<B> {
    pub(crate) fn new(body: B, permit: Option<Box<Permit>>) -> Self {
        let kind = match permit {
            None => Kind::Inner { body },
            permit => Kind::Counted { body, permit },
        };
        Self { kind }
    }

    pub(crate) fn refusal(text: &'static str) -> Self {
        Self { kind: Kind::Refusal { body: Full::new(Bytes::from_static(text.as_bytes())) } }
    }
}

impl<B> Body for RateLimitBody<B>
where
    B: Body<Data = Bytes>,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            KindProject::Inner { body } => body.poll_frame(cx),
            KindProject::Counted { body, permit } => {
                let frame = ready!(body.poll_frame(cx));
                if !matches!(frame, Some(Ok(_))) {
                    *permit = None;
                }
                Poll::Ready(frame)
            }
            KindProject::Refusal { body } => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Inner { body } | Kind::Counted { body, .. } => body.is_end_stream(),
            Kind::Refusal { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Inner { body } | Kind::Counted { body, .. } => body.size_hint(),
            Kind::Refusal { body } => body.size_hint(),
        }
    }
}

impl<B> fmt::Debug for RateLimitBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Inner { .. } => "RateLimitBody::Inner",
            Kind::Counted { .. } => "RateLimitBody::Counted",
            Kind::Refusal { .. } => "RateLimitBody::Refusal",
        })
    }
}
