//! Bodies both ways. That of the response drives its connection, and gives it back at its end.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use pin_project_lite::pin_project;

use crate::error::BoxError;
use crate::http1::Http1;
use crate::pool::Pool;

pin_project! {
    /// The body of a request as it is sent. One that is empty can be sent again.
    #[project = RequestBodyProject]
    pub(crate) enum RequestBody<B> {
        Empty,
        Whole { #[pin] body: B },
    }
}

impl<B: Body> Body for RequestBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        match self.project() {
            RequestBodyProject::Empty => Poll::Ready(None),
            RequestBodyProject::Whole { body } => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RequestBody::Empty => true,
            RequestBody::Whole { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RequestBody::Empty => SizeHint::with_exact(0),
            RequestBody::Whole { body } => body.size_hint(),
        }
    }
}

/// The body of a response from an [`Upstream`](crate::Upstream). Dropping it before its end closes
/// the connection to the backend.
pub struct UpstreamBody<B: Body + 'static> {
    kind: Kind<B>,
}

enum Kind<B: Body + 'static> {
    Http1 {
        incoming: Incoming,
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
    pub(crate) fn http1(incoming: Incoming, connection: Box<Http1<B>>, pool: Arc<Pool<B>>) -> Self {
        if incoming.is_end_stream() {
            pool.put(connection);
            return Self::driven(incoming);
        }
        Self { kind: Kind::Http1 { incoming, connection: Some(connection), pool } }
    }
}

impl<B> Body for UpstreamBody<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let (incoming, slot, pool) = match &mut self.get_mut().kind {
            Kind::Http1 { incoming, connection, pool } => (incoming, connection, pool),
            Kind::Driven { incoming } => return Pin::new(incoming).poll_frame(cx),
            Kind::Full { body } => {
                return Pin::new(body).poll_frame(cx).map_err(|never| match never {});
            }
        };
        let mut polled = Pin::new(&mut *incoming).poll_frame(cx);
        // Polling told the connection that more is wanted; now it may read it.
        if polled.is_pending() && slot.as_mut().is_some_and(|connection| connection.drive(cx)) {
            polled = Pin::new(&mut *incoming).poll_frame(cx);
        }
        match &polled {
            Poll::Ready(None) => {}
            Poll::Ready(Some(Ok(_))) if incoming.is_end_stream() => {}
            Poll::Ready(Some(Err(_))) => {
                *slot = None;
                return polled;
            }
            _ => return polled,
        }
        if let Some(connection) = slot.take() {
            pool.put(connection);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Http1 { incoming, .. } | Kind::Driven { incoming } => incoming.is_end_stream(),
            Kind::Full { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Http1 { incoming, .. } | Kind::Driven { incoming } => incoming.size_hint(),
            Kind::Full { body } => body.size_hint(),
        }
    }
}
