//! The body of a response that went through the cache.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::tee::Tee;

pin_project! {
    /// The inner service's body, copied into the store on its way if the response may be stored; or
    /// a stored one, of which nothing is copied.
    pub struct ResponseBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<B> {
        Inner { #[pin] body: B, tee: Option<Box<Tee>> },
        Stored { rest: Bytes },
    }
}

impl<B> ResponseBody<B> {
    pub(crate) fn inner(body: B) -> Self {
        Self { kind: Kind::Inner { body, tee: None } }
    }

    pub(crate) fn stored(bytes: Bytes) -> Self {
        Self { kind: Kind::Stored { rest: bytes } }
    }

    pub(crate) fn is_copied(&self) -> bool {
        matches!(&self.kind, Kind::Inner { tee: Some(_), .. })
    }
}

impl<B: Body> ResponseBody<B> {
    pub(crate) fn copied(body: B, tee: Tee) -> Self {
        // A body that is known to have ended is never polled.
        if body.is_end_stream() {
            tee.finish();
            return Self::inner(body);
        }
        Self { kind: Kind::Inner { body, tee: Some(Box::new(tee)) } }
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
            KindProjection::Stored { rest } => {
                let rest = std::mem::take(rest);
                Poll::Ready((!rest.is_empty()).then(|| Ok(Frame::data(rest))))
            }
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
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Stored { rest } => rest.is_empty(),
            Kind::Inner { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Stored { rest } => SizeHint::with_exact(rest.len() as u64),
            Kind::Inner { body, .. } => body.size_hint(),
        }
    }
}

impl<B> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.kind {
            Kind::Inner { tee: None, .. } => "ResponseBody(inner)",
            Kind::Inner { tee: Some(_), .. } => "ResponseBody(inner, copied)",
            Kind::Stored { .. } => "ResponseBody(stored)",
        })
    }
}
