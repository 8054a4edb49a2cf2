//! Bodies both ways. That of the response drives its connection, and gives it back at its end.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;

use crate::error::{BodyError, BoxError};
use crate::http1::Http1;
use crate::pool::Pool;

/// The body of a request as it is sent. One that is empty can be sent again.
pub(crate) struct RequestBody<B: Body> {
    /// What was taken out of the body already.
    ahead: Option<B::Data>,
    body: Option<B>,
}

impl<B: Body> RequestBody<B> {
    pub(crate) fn empty() -> Self {
        Self { ahead: None, body: None }
    }

    pub(crate) fn new(body: B) -> Self {
        Self { ahead: None, body: (!body.is_end_stream()).then_some(body) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ahead.is_none() && self.body.is_none()
    }

    /// Puts back what was taken out.
    pub(crate) fn preceded_by(self, data: B::Data) -> Self {
        Self { ahead: Some(data), ..self }
    }
}

// Neither is ever pinned in place.
impl<B: Body + Unpin> Unpin for RequestBody<B> {}

impl<B> Body for RequestBody<B>
where
    B: Body + Unpin,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        if let Some(data) = self.ahead.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_none() && self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        if let Some(ahead) = &self.ahead {
            let ahead = ahead.remaining() as u64;
            let (lower, upper) = (hint.lower(), hint.upper());
            hint = SizeHint::new();
            hint.set_lower(lower.saturating_add(ahead));
            if let Some(upper) = upper {
                hint.set_upper(upper.saturating_add(ahead));
            }
        }
        hint
    }
}

/// The body of a response from an [`Upstream`](crate::Upstream). Dropping it before its end closes
/// the connection to the backend.
pub struct UpstreamBody<B: Body + 'static> {
    kind: Kind<B>,
}

enum Kind<B: Body + 'static> {
    Http1 {
        /// Given back when the body has ended.
        connection: Option<Box<Http1<B>>>,
        pool: Arc<Pool<B>>,
    },
    /// Something else drives the connection: HTTP/2, an upgrade.
    Driven {
        incoming: Incoming,
    },
    Full {
        body: Full<Bytes>,
    },
}

impl<B: Body + 'static> UpstreamBody<B> {
    pub(crate) fn driven(incoming: Incoming) -> Self {
        Self { kind: Kind::Driven { incoming } }
    }

    pub(crate) fn full(body: Bytes) -> Self {
        Self { kind: Kind::Full { body: Full::new(body) } }
    }
}

impl<B> UpstreamBody<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    pub(crate) fn http1(connection: Box<Http1<B>>, pool: Arc<Pool<B>>) -> Self {
        if connection.has_ended() {
            pool.put(connection);
            return Self { kind: Kind::Full { body: Full::default() } };
        }
        Self { kind: Kind::Http1 { connection: Some(connection), pool } }
    }
}

impl<B> Body for UpstreamBody<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.get_mut().kind {
            Kind::Http1 { connection: slot, pool } => {
                let Some(connection) = slot else { return Poll::Ready(None) };
                let polled = ready!(connection.poll_body(cx));
                let has_failed = matches!(polled, Some(Err(_)));
                if (has_failed || connection.has_ended())
                    && let Some(connection) = slot.take()
                    && !has_failed
                {
                    pool.put(connection);
                }
                Poll::Ready(polled)
            }
            Kind::Driven { incoming } => Pin::new(incoming).poll_frame(cx).map_err(BodyError::Http),
            Kind::Full { body } => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Http1 { connection, .. } => connection.is_none(),
            Kind::Driven { incoming } => incoming.is_end_stream(),
            Kind::Full { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Http1 { connection: Some(connection), .. } => {
                connection.remaining().map_or_else(SizeHint::default, SizeHint::with_exact)
            }
            Kind::Http1 { connection: None, .. } => SizeHint::with_exact(0),
            Kind::Driven { incoming } => incoming.size_hint(),
            Kind::Full { body } => body.size_hint(),
        }
    }
}
