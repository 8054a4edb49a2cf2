//! The request body that the server passes to the service.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::protocol::http1::RequestContent;
use crate::protocol::request_body_error::RequestBodyError;

/// The body of a client's request, which is empty for most requests.
#[derive(Debug, Default)]
pub struct RequestBody(Content);

#[derive(Debug, Default)]
enum Content {
    #[default]
    Empty,
    /// The content was received together with the head.
    Received(Bytes),
    Http1(RequestContent),
    Http2(Incoming),
}

impl RequestBody {
    /// Creates a body whose content has already been received.
    pub(crate) fn received(content: Bytes) -> Self {
        Self(if content.is_empty() { Content::Empty } else { Content::Received(content) })
    }
}

impl From<RequestContent> for RequestBody {
    fn from(content: RequestContent) -> Self {
        Self(Content::Http1(content))
    }
}

impl From<Incoming> for RequestBody {
    fn from(incoming: Incoming) -> Self {
        Self(Content::Http2(incoming))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let content = &mut self.get_mut().0;
        match content {
            Content::Empty => Poll::Ready(None),
            Content::Received(bytes) => {
                let bytes = std::mem::take(bytes);
                *content = Content::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Content::Http1(content) => content.poll_frame(cx),
            Content::Http2(incoming) => {
                Pin::new(incoming).poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(RequestBodyError::Http2)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Content::Empty => true,
            Content::Received(_) => false,
            Content::Http1(content) => content.is_end_stream(),
            Content::Http2(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Content::Empty => SizeHint::with_exact(0),
            Content::Received(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Http1(content) => content.size_hint(),
            Content::Http2(incoming) => incoming.size_hint(),
        }
    }
}
