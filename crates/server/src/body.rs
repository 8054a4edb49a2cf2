//! The request body that the server passes to the service.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::http1::ConnectionState;

/// The body of a client's request, which is empty for most requests.
#[derive(Debug, Default)]
pub struct RequestBody {
    incoming: Option<Incoming>,
    /// The connection state, which is updated when the request content has been read completely. `None` if there is no
    /// content.
    state: Option<Arc<ConnectionState>>,
}

impl RequestBody {
    /// Creates the body of an HTTP/1 request, which records in `state` whether its content was read completely.
    pub(crate) fn tracked(incoming: Incoming, state: &Arc<ConnectionState>) -> Self {
        let has_content = !incoming.is_end_stream();
        state.set_unread_content(has_content);
        Self { incoming: Some(incoming), state: has_content.then(|| Arc::clone(state)) }
    }
}

impl From<Incoming> for RequestBody {
    fn from(incoming: Incoming) -> Self {
        Self { incoming: Some(incoming), state: None }
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
        if has_ended && let Some(state) = this.state.take() {
            state.set_unread_content(false);
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
