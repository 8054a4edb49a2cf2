//! The response body of layers that respond to some requests themselves.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// The body of the inner service's response, or the content of a response that a layer creates.
    ///
    /// Errors are those of the inner body. [`Default`] is the default of the inner body, which other layers, such as the CORS
    /// layer of `tower-http`, require for their own responses.
    #[derive(Debug)]
    pub struct ResponseBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = KindProject]
    enum Kind<B> {
        Inner { #[pin] body: B },
        Own { content: Bytes },
    }
}

impl<B> ResponseBody<B> {
    /// Wraps the body of the inner service's response.
    pub fn inner(body: B) -> Self {
        Self { kind: Kind::Inner { body } }
    }

    /// Creates a body with this content, such as the text of an error.
    pub fn full(content: impl Into<Bytes>) -> Self {
        Self { kind: Kind::Own { content: content.into() } }
    }
}

impl<B: Default> Default for ResponseBody<B> {
    fn default() -> Self {
        Self::inner(B::default())
    }
}

impl<B: Body<Data = Bytes>> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            KindProject::Inner { body } => body.poll_frame(cx),
            KindProject::Own { content } if content.is_empty() => Poll::Ready(None),
            KindProject::Own { content } => Poll::Ready(Some(Ok(Frame::data(std::mem::take(content))))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Inner { body } => body.is_end_stream(),
            Kind::Own { content } => content.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Inner { body } => body.size_hint(),
            Kind::Own { content } => SizeHint::with_exact(content.len() as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// A body of one frame.
    #[derive(Debug, Default)]
    struct One(Option<&'static str>);

    impl Body for One {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            Poll::Ready(self.0.take().map(|text| Ok(Frame::data(Bytes::from_static(text.as_bytes())))))
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(self.0.map_or(0, str::len) as u64)
        }
    }

    /// Reads all data frames. Checks that the size hint is exact before each.
    fn content(mut body: ResponseBody<One>) -> Vec<u8> {
        let mut content = vec![];
        let mut cx = Context::from_waker(std::task::Waker::noop());
        loop {
            let expected = body.size_hint().exact().unwrap();
            match Pin::new(&mut body).poll_frame(&mut cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    let data = frame.into_data().unwrap();
                    assert_eq!(data.len() as u64, expected);
                    content.extend_from_slice(&data);
                }
                Poll::Ready(None) => return content,
                Poll::Pending => unreachable!("the body is in memory"),
            }
        }
    }

    #[test]
    fn returns_the_frames_of_the_inner_body() {
        assert_eq!(content(ResponseBody::inner(One(Some("inner")))), b"inner");
    }

    #[test]
    fn returns_the_content_of_a_layer_as_one_frame() {
        let body = ResponseBody::full("rejected\n");
        assert!(!Body::is_end_stream(&body));
        assert_eq!(content(body), b"rejected\n");
        let empty: ResponseBody<One> = ResponseBody::full("");
        assert!(empty.is_end_stream());
        assert_eq!(content(empty), b"");
    }

    #[test]
    fn default_is_the_default_of_the_inner_body() {
        assert_eq!(content(ResponseBody::default()), b"");
    }
}
