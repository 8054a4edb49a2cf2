//! The response body of one of two services.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// The response body of one of two services, like `Either` of `http-body-util`, but with a [`Default`].
    ///
    /// The default is that of the left body, which other layers, such as the CORS layer of `tower-http`, require for their own
    /// responses.
    #[derive(Debug)]
    pub struct EitherBody<L, R> {
        #[pin]
        kind: Kind<L, R>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = KindProject]
    enum Kind<L, R> {
        Left { #[pin] body: L },
        Right { #[pin] body: R },
    }
}

impl<L, R> EitherBody<L, R> {
    /// Wraps a body of the first type.
    pub fn left(body: L) -> Self {
        Self { kind: Kind::Left { body } }
    }

    /// Wraps a body of the second type.
    pub fn right(body: R) -> Self {
        Self { kind: Kind::Right { body } }
    }
}

impl<L: Default, R> Default for EitherBody<L, R> {
    fn default() -> Self {
        Self::left(L::default())
    }
}

impl<L, R, D> Body for EitherBody<L, R>
where
    L: Body<Data = D, Error: Into<BoxError>>,
    R: Body<Data = D, Error: Into<BoxError>>,
    D: Buf,
{
    type Data = D;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<D>, BoxError>>> {
        match self.project().kind.project() {
            KindProject::Left { body } => body.poll_frame(cx).map_err(Into::into),
            KindProject::Right { body } => body.poll_frame(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Left { body } => body.is_end_stream(),
            Kind::Right { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Left { body } => body.size_hint(),
            Kind::Right { body } => body.size_hint(),
        }
    }
}

type BoxError = Box<dyn Error + Send + Sync>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ResponseBody;

    type Text = ResponseBody<ResponseBody<NoBody>>;

    /// An empty body.
    #[derive(Debug, Default)]
    struct NoBody;

    impl Body for NoBody {
        type Data = bytes::Bytes;
        type Error = BoxError;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
            Poll::Ready(None)
        }
    }

    fn first_frame(body: EitherBody<Text, NoBody>) -> Option<bytes::Bytes> {
        let mut body = body;
        match Pin::new(&mut body).poll_frame(&mut Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(frame) => frame.map(|frame| frame.unwrap().into_data().unwrap()),
            Poll::Pending => unreachable!("the body is in memory"),
        }
    }

    #[test]
    fn forwards_frames_and_size_of_both_bodies() {
        let left: EitherBody<Text, NoBody> = EitherBody::left(ResponseBody::full("left"));
        assert_eq!(left.size_hint().exact(), Some(4));
        assert_eq!(first_frame(left).unwrap(), "left");
        let right = EitherBody::right(NoBody);
        assert_eq!((right.size_hint().exact(), right.is_end_stream()), (None, false));
        assert_eq!(first_frame(right), None);
    }

    #[test]
    fn default_is_the_default_of_the_left_body() {
        assert_eq!(first_frame(EitherBody::default()), None);
    }
}
