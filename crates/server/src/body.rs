//! The body of a request, as the server hands it to the service.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::http1::Watch;

/// What a client sends after the head of its request; for most requests that is nothing.
#[derive(Debug, Default)]
pub struct RequestBody {
    incoming: Option<Incoming>,
    /// Learns of the end, where there is content.
    watch: Option<Arc<Watch>>,
}

impl RequestBody {
    /// The body of an HTTP/1 request, whose connection is told whether all of it has been taken.
    pub(crate) fn watched(incoming: Incoming, watch: &Arc<Watch>) -> Self {
        let has_content = !incoming.is_end_stream();
        watch.set_content_left(has_content);
        Self { incoming: Some(incoming), watch: has_content.then(|| Arc::clone(watch)) }
    }
}

impl From<Incoming> for RequestBody {
    fn from(incoming: Incoming) -> Self {
        Self { incoming: Some(incoming), watch: None }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let Some(incoming) = &mut this.incoming else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(&mut *incoming).poll_frame(cx));
        let has_ended = match &frame {
            None => true,
            Some(Ok(frame)) => frame.is_trailers() || incoming.is_end_stream(),
            Some(Err(_)) => false,
        };
        if has_ended && let Some(watch) = this.watch.take() {
            watch.set_content_left(false);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}
