//! The body of a response, which drives its connection and returns it to the pool at its end.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use tokio::sync::OwnedSemaphorePermit;

use crate::backend_state::BackendState;
use crate::connection_auth;
use crate::error::{BodyError, BoxError};
use crate::extensions::ClientConnection;
use crate::http1::Http1Connection;
use crate::http2::{Download, TunnelBody};
use crate::pools::BackendPools;
use crate::timeouts::{Deadline, Timeouts};
use crate::trailers;

/// The body of a response from an [`Upstream`](crate::Upstream).
///
/// If it is dropped before its end, the HTTP/1.1 connection to the backend is closed, or the HTTP/2 stream is reset.
pub struct UpstreamBody<B: Body + 'static> {
    kind: Kind<B>,
    guard: Option<Box<InFlightGuard>>,
}

/// The source from which a response body is read.
enum Kind<B: Body + 'static> {
    Http1 {
        /// The HTTP/1.1 connection, until the body ends.
        connection: Option<Box<Http1Connection<B>>>,
        return_to: ReturnTarget,
        /// The pools of the backend, which are in use until the body ends.
        pools: Option<Arc<BackendPools<B>>>,
    },
    Http2 {
        // Boxed, because it is large and HTTP/1.1 is more common.
        download: Box<Download>,
        /// The pools of the backend, which are in use until the body ends.
        pools: Option<Arc<BackendPools<B>>>,
    },
    /// The response to an extended CONNECT, whose connection is driven by a separate task.
    Upgrade(Box<UpgradeContent>),
    Full {
        body: Full<Bytes>,
    },
}

/// The destination of an HTTP/1.1 connection after the end of the response.
pub(crate) enum ReturnTarget {
    /// The pool of the backend.
    Pool,
    /// The client's connection state, because the backend may have authenticated the connection.
    Client(ClientConnection),
    /// No destination: the connection is closed.
    Discard,
}

impl ReturnTarget {
    fn put<B>(&self, connection: Box<Http1Connection<B>>, pools: &BackendPools<B>)
    where
        B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
    {
        match self {
            Self::Pool => pools.http1.put(connection),
            Self::Client(client) => connection_auth::put(client, &pools.backend, connection),
            Self::Discard => {}
        }
    }
}

/// The response body of an extended CONNECT, with a read timeout.
struct UpgradeContent {
    body: TunnelBody,
    timeouts: Timeouts,
    /// The deadline for the next frame, created when the body first returns `Poll::Pending`.
    deadline: Option<Deadline>,
}

impl UpgradeContent {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(polled) = Pin::new(&mut self.body).poll_frame(cx) {
            if let Some(deadline) = &mut self.deadline {
                deadline.record_progress();
            }
            return Poll::Ready(polled.map(|frame| frame.map(trailers::filter_frame)));
        }
        ready!(self.deadline.get_or_insert_with(Deadline::new).poll_read_timeout(cx, &self.timeouts));
        Poll::Ready(Some(Err(BodyError::Timeout)))
    }
}

impl<B: Body + 'static> UpstreamBody<B> {
    pub(crate) fn upgrade(body: TunnelBody, timeouts: Timeouts) -> Self {
        Self { kind: Kind::Upgrade(Box::new(UpgradeContent { body, timeouts, deadline: None })), guard: None }
    }

    pub(crate) fn http2(download: Box<Download>, pools: &Arc<BackendPools<B>>) -> Self {
        if download.is_end_stream() {
            return Self::full(Bytes::new());
        }
        Self { kind: Kind::Http2 { download, pools: Some(Arc::clone(pools)) }, guard: None }
    }

    pub(crate) fn full(body: Bytes) -> Self {
        Self { kind: Kind::Full { body: Full::new(body) }, guard: None }
    }
}

impl<B: Body + 'static> fmt::Debug for UpstreamBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.kind {
            Kind::Http1 { .. } => "UpstreamBody(HTTP/1.1)",
            Kind::Http2 { .. } => "UpstreamBody(HTTP/2)",
            Kind::Upgrade(_) => "UpstreamBody(upgrade)",
            Kind::Full { .. } => "UpstreamBody(full)",
        })
    }
}

/// The backend resources that a request occupies until the end of its response.
#[derive(Default)]
pub(crate) struct InFlightGuard {
    backend: Option<Arc<BackendState>>,
    permit: Option<OwnedSemaphorePermit>,
}

impl InFlightGuard {
    /// Creates a guard that counts the request as an in-flight request of the backend.
    pub(crate) fn counted(backend: &Arc<BackendState>) -> Box<Self> {
        backend.in_flight.fetch_add(1, Relaxed);
        Box::new(Self { backend: Some(Arc::clone(backend)), permit: None })
    }

    /// Holds the connection permit until the end of the response.
    pub(crate) fn hold_permit(&mut self, permit: OwnedSemaphorePermit) {
        self.permit = Some(permit);
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        if let Some(backend) = &self.backend {
            backend.in_flight.fetch_sub(1, Relaxed);
        }
    }
}

impl<B> UpstreamBody<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    pub(crate) fn http1(
        connection: Box<Http1Connection<B>>,
        pools: &Arc<BackendPools<B>>,
        return_to: ReturnTarget,
    ) -> Self {
        if connection.has_ended() {
            return_to.put(connection, pools);
            return Self { kind: Kind::Full { body: Full::default() }, guard: None };
        }
        let kind = Kind::Http1 { connection: Some(connection), return_to, pools: Some(Arc::clone(pools)) };
        Self { kind, guard: None }
    }

    /// Holds the guard until the end of the response body.
    pub(crate) fn with_guard(self, guard: Option<Box<InFlightGuard>>) -> Self {
        Self { guard: guard.filter(|_| !self.is_end_stream()), ..self }
    }
}

impl<B> Body for UpstreamBody<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match &mut this.kind {
            Kind::Http1 { connection: open, return_to, pools } => {
                let Some(connection) = open else { return Poll::Ready(None) };
                let polled = ready!(connection.poll_body(cx));
                let has_failed = matches!(polled, Some(Err(_)));
                if (has_failed || connection.has_ended())
                    && let (Some(connection), Some(pools)) = (open.take(), pools.take())
                    && !has_failed
                {
                    return_to.put(connection, &pools);
                }
                if open.is_none() {
                    this.guard = None;
                }
                Poll::Ready(polled)
            }
            Kind::Http2 { download, pools } => {
                let polled = ready!(download.poll_frame(cx));
                if download.is_end_stream() {
                    (this.guard, *pools) = (None, None);
                }
                Poll::Ready(polled)
            }
            Kind::Upgrade(upgrade) => upgrade.poll_frame(cx),
            Kind::Full { body } => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Http1 { connection, .. } => connection.is_none(),
            Kind::Http2 { download, .. } => download.is_end_stream(),
            Kind::Upgrade(upgrade) => upgrade.body.is_end_stream(),
            Kind::Full { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Http1 { connection: Some(connection), .. } => {
                connection.remaining().map_or_else(SizeHint::default, SizeHint::with_exact)
            }
            Kind::Http1 { connection: None, .. } => SizeHint::with_exact(0),
            Kind::Http2 { download, .. } => download.size_hint(),
            Kind::Upgrade(upgrade) => upgrade.body.size_hint(),
            Kind::Full { body } => body.size_hint(),
        }
    }
}
