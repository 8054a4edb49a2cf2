//! The response body of [`RateLimitService`](crate::RateLimitService).

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use pin_project_lite::pin_project;

use crate::in_flight::Permit;

pin_project! {
    /// The body of the inner service's response, or of a response to a rejected request.
    ///
    /// With [`max_in_flight`](crate::RateLimitLayerBuilder::max_in_flight), the request is in flight until this body
    /// ends or is dropped.
    pub struct ResponseBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProject]
    enum Kind<B> {
        Inner { #[pin] body: B },
        InFlight { #[pin] body: B, permit: Option<Box<Permit>> },
        Rejection { body: Full<Bytes> },
    }
}

impl<B> ResponseBody<B> {
    pub(crate) fn new(body: B, permit: Option<Box<Permit>>) -> Self {
        let kind = match permit {
            None => Kind::Inner { body },
            permit => Kind::InFlight { body, permit },
        };
        Self { kind }
    }

    pub(crate) fn rejection(text: &'static str) -> Self {
        Self { kind: Kind::Rejection { body: Full::new(Bytes::from_static(text.as_bytes())) } }
    }
}

impl<B: Default> Default for ResponseBody<B> {
    fn default() -> Self {
        Self::new(B::default(), None)
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body<Data = Bytes>,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            KindProject::Inner { body } => body.poll_frame(cx),
            KindProject::InFlight { body, permit } => {
                let frame = ready!(body.poll_frame(cx));
                if !matches!(frame, Some(Ok(_))) {
                    *permit = None;
                }
                Poll::Ready(frame)
            }
            KindProject::Rejection { body } => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Inner { body } | Kind::InFlight { body, .. } => body.is_end_stream(),
            Kind::Rejection { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Inner { body } | Kind::InFlight { body, .. } => body.size_hint(),
            Kind::Rejection { body } => body.size_hint(),
        }
    }
}

impl<B> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Inner { .. } => "ResponseBody::Inner",
            Kind::InFlight { .. } => "ResponseBody::InFlight",
            Kind::Rejection { .. } => "ResponseBody::Rejection",
        })
    }
}
