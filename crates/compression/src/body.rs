//! Response bodies, which are compressed or forwarded unchanged from the inner service.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::{Future, Ready, ready};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::header::ACCEPT_ENCODING;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_http::compression::predicate::Predicate;
use tower_http::compression::{Compression, CompressionBody};
use tower_service::Service;

use crate::budget::BudgetedBody;
use crate::coding::Coding;
use crate::encoder_limit::EncoderPermit;
use crate::response::remove_digests;

pin_project! {
    /// The response body of [`CompressionService`](crate::CompressionService).
    pub struct ResponseBody<B>
    where
        B: Body,
    {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<B>
    where
        B: Body,
    {
        // The state of an encoder takes about 6 kB, which each outer layer would move.
        Coded { body: Pin<Box<CompressionBody<BudgetedBody<B>>>>, _permit: EncoderPermit },
        Original { #[pin] body: B },
        Head { _body: B },
    }
}

impl<B: Body> ResponseBody<B> {
    pub(crate) fn original(body: B) -> Self {
        Self { kind: Kind::Original { body } }
    }

    /// Creates the empty body of a response to HEAD, which does not know the size of the content for GET.
    pub(crate) fn head(body: B) -> Self {
        Self { kind: Kind::Head { _body: body } }
    }

    /// Compresses `body` with a content coding.
    ///
    /// The future of tower-http that creates the body is always ready.
    pub(crate) fn coded(body: B, coding: Coding, permit: EncoderPermit, cx: &mut Context<'_>) -> Poll<Self> {
        let mut request = Request::new(BudgetedBody::new(body));
        request.headers_mut().insert(ACCEPT_ENCODING, coding.header_value());
        let mut compression = Compression::new(Echo).compress_when(Always);
        pin!(compression.call(request)).poll(cx).map(|outcome| {
            let Ok(response) = outcome;
            Self { kind: Kind::Coded { body: Box::pin(response.into_body()), _permit: permit } }
        })
    }
}

impl<B: Body + Default> Default for ResponseBody<B> {
    fn default() -> Self {
        Self::original(B::default())
    }
}

/// A service that returns the request body as the response body.
struct Echo;

impl<B> Service<Request<B>> for Echo {
    type Response = Response<B>;
    type Error = Infallible;
    type Future = Ready<Result<Response<B>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        ready(Ok(Response::new(request.into_body())))
    }
}

/// A predicate that accepts every response, because this crate has already selected the responses to compress.
#[derive(Clone, Copy)]
struct Always;

impl Predicate for Always {
    fn should_compress<B: Body>(&self, _: &Response<B>) -> bool {
        true
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match self.project().kind.project() {
            KindProjection::Original { body } => body.poll_frame(cx).map(|frame| {
                let frame = frame?.map_err(Into::into);
                Some(frame.map(|frame| frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))))
            }),
            KindProjection::Coded { body, .. } => body.as_mut().poll_frame(cx).map_ok(|mut frame| {
                if let Some(trailers) = frame.trailers_mut() {
                    remove_digests(trailers);
                }
                frame
            }),
            KindProjection::Head { .. } => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Original { body } => body.is_end_stream(),
            Kind::Coded { body, .. } => body.is_end_stream(),
            Kind::Head { .. } => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Original { body } => body.size_hint(),
            Kind::Coded { body, .. } => body.size_hint(),
            // axum derives Content-Length from an exact size.
            Kind::Head { .. } => SizeHint::new(),
        }
    }
}

impl<B: Body> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody")
            .field("is_coded", &matches!(self.kind, Kind::Coded { .. }))
            .finish_non_exhaustive()
    }
}
