//! Request and response bodies. A response body drives its connection, and returns it to the pool at its end.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;

use crate::ClientConnection;
use crate::connection_auth;
use crate::error::{BodyError, BoxError};
use crate::http1::Http1Connection;
use crate::http1_pool::Pool;
use crate::http2::{Download, TunnelBody};
use crate::service::BackendState;
use crate::timeouts::{Deadline, Timeouts};
use crate::trailers;

/// A request body, with buffered parts that were read in advance or are resent in a retry.
pub(crate) struct RequestBody<B: Body> {
    /// Content that is sent before the rest of `body`.
    buffered: Option<Chunk<B::Data>>,
    body: Option<B>,
    /// The trailer section of the request, if it was already read.
    trailers: Option<HeaderMap>,
}

impl<B: Body> RequestBody<B> {
    pub(crate) fn empty() -> Self {
        Self { buffered: None, body: None, trailers: None }
    }

    pub(crate) fn new(body: B) -> Self {
        Self { buffered: None, body: (!body.is_end_stream()).then_some(body), trailers: None }
    }

    /// Returns whether the request has neither content nor a trailer section.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffered.is_none() && self.body.is_none() && self.trailers.is_none()
    }

    /// Returns the length of the content: `u64::MAX` if unknown, `None` without content.
    pub(crate) fn content_length(&self) -> Option<u64>
    where
        B: Unpin,
    {
        let buffered = self.buffered.as_ref().map_or(0, |data| data.remaining() as u64);
        match &self.body {
            Some(body) if !body.is_end_stream() => Some(self.size_hint().exact().unwrap_or(u64::MAX)),
            _ => (!self.is_end_stream()).then_some(buffered),
        }
    }

    /// Reads the next frame if it is available, so that the length of a short body becomes known.
    pub(crate) async fn peek(&mut self) -> Result<(), B::Error>
    where
        B: Unpin,
    {
        if self.buffered.is_some() || self.trailers.is_some() || self.body.is_none() {
            return Ok(());
        }
        let Poll::Ready(frame) = poll_fn(|cx| Poll::Ready(Pin::new(&mut *self).poll_frame(cx))).await else {
            return Ok(());
        };
        match frame.transpose()?.map(Frame::into_data) {
            Some(Ok(data)) => self.buffered = Some(data),
            Some(Err(frame)) => *self = Self { buffered: None, body: None, trailers: frame.into_trailers().ok() },
            None => self.body = None,
        }
        Ok(())
    }

    /// Restores content that was already read from the body.
    pub(crate) fn with_buffered(self, data: Chunk<B::Data>) -> Self {
        Self { buffered: Some(data), ..self }
    }

    /// Restores the content and the trailer section that were already read from the body.
    pub(crate) fn with_replay(self, data: Bytes, trailers: Option<HeaderMap>) -> Self {
        let buffered = (!data.is_empty()).then_some(Chunk::Replayed(data));
        // The trailer section is the end of the body.
        let body = if trailers.is_some() { None } else { self.body };
        Self { buffered, body, trailers }
    }
}

/// A chunk of the content of a request.
pub(crate) enum Chunk<D> {
    /// Data that has not been sent before.
    Original(D),
    /// Data that is sent again in a retry.
    Replayed(Bytes),
}

impl<D: Buf> Buf for Chunk<D> {
    fn remaining(&self) -> usize {
        match self {
            Self::Original(data) => data.remaining(),
            Self::Replayed(data) => data.remaining(),
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Original(data) => data.chunk(),
            Self::Replayed(data) => data.chunk(),
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Original(data) => data.advance(count),
            Self::Replayed(data) => data.advance(count),
        }
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        match self {
            // Without a copy if the data is `Bytes`.
            Self::Original(data) => data.copy_to_bytes(length),
            Self::Replayed(data) => data.copy_to_bytes(length),
        }
    }
}

// No field is pinned.
impl<B: Body + Unpin> Unpin for RequestBody<B> {}

impl<B> Body for RequestBody<B>
where
    B: Body + Unpin,
{
    type Data = Chunk<B::Data>;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, B::Error>>> {
        if let Some(data) = self.buffered.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        match &mut self.body {
            Some(body) => {
                let mut polled = ready!(Pin::new(body).poll_frame(cx));
                if let Some(Ok(frame)) = &mut polled
                    && let Some(trailers) = frame.trailers_mut()
                {
                    trailers::retain_integrity_fields(trailers);
                }
                Poll::Ready(polled.map(|frame| frame.map(|frame| frame.map_data(Chunk::Original))))
            }
            None => Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.buffered.is_none() && self.trailers.is_none() && self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        if let Some(buffered) = &self.buffered {
            let buffered = buffered.remaining() as u64;
            let (lower, upper) = (hint.lower(), hint.upper());
            hint = SizeHint::new();
            hint.set_lower(lower.saturating_add(buffered));
            if let Some(upper) = upper {
                hint.set_upper(upper.saturating_add(buffered));
            }
        }
        hint
    }
}

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
        return_to: ReturnTarget<B>,
    },
    // Boxed, because it is large and HTTP/1.1 is more common.
    Http2(Box<Download>),
    /// The response to an upgrade or an extended CONNECT, whose connection is driven by a separate task.
    Upgrade(Box<UpgradeContent>),
    Full {
        body: Full<Bytes>,
    },
}

/// The destination of an HTTP/1.1 connection after the end of the response.
pub(crate) enum ReturnTarget<B: Body + 'static> {
    Pool(Arc<Pool<B>>),
    /// The client's connection state, because the backend may have authenticated the connection.
    Client(ClientConnection, Arc<BackendState>),
    /// No destination: the connection is closed.
    Discard,
}

impl<B> ReturnTarget<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    fn put(&self, connection: Box<Http1Connection<B>>) {
        match self {
            Self::Pool(pool) => pool.put(connection),
            Self::Client(client, backend) => connection_auth::put(client, backend, connection),
            Self::Discard => {}
        }
    }
}

/// The response body of an upgrade or an extended CONNECT.
pub(crate) enum UpgradeBody {
    Http1(Incoming),
    Http2(TunnelBody),
}

/// The response body of an upgrade or an extended CONNECT, with a read timeout.
struct UpgradeContent {
    body: UpgradeBody,
    timeouts: Timeouts,
    /// The deadline for the next frame, created when the body first returns `Poll::Pending`.
    deadline: Option<Deadline>,
}

impl UpgradeContent {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = match &mut self.body {
            UpgradeBody::Http1(incoming) => Pin::new(incoming).poll_frame(cx).map_err(BodyError::Http),
            UpgradeBody::Http2(body) => Pin::new(body).poll_frame(cx),
        };
        if let Poll::Ready(polled) = polled {
            if let Some(deadline) = &mut self.deadline {
                deadline.record_progress();
            }
            return Poll::Ready(polled.map(|frame| frame.map(trailers::filter_frame)));
        }
        ready!(self.deadline.get_or_insert_with(Deadline::new).poll_read_timeout(cx, &self.timeouts));
        Poll::Ready(Some(Err(BodyError::Timeout)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            UpgradeBody::Http1(incoming) => incoming.is_end_stream(),
            UpgradeBody::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            UpgradeBody::Http1(incoming) => incoming.size_hint(),
            UpgradeBody::Http2(body) => body.size_hint(),
        }
    }
}

impl<B: Body + 'static> UpstreamBody<B> {
    pub(crate) fn upgrade(body: UpgradeBody, timeouts: Timeouts) -> Self {
        Self { kind: Kind::Upgrade(Box::new(UpgradeContent { body, timeouts, deadline: None })), guard: None }
    }

    pub(crate) fn http2(download: Box<Download>) -> Self {
        if download.is_end_stream() {
            return Self::full(Bytes::new());
        }
        Self { kind: Kind::Http2(download), guard: None }
    }

    pub(crate) fn full(body: Bytes) -> Self {
        Self { kind: Kind::Full { body: Full::new(body) }, guard: None }
    }
}

impl<B: Body + 'static> fmt::Debug for UpstreamBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.kind {
            Kind::Http1 { .. } => "UpstreamBody(HTTP/1.1)",
            Kind::Http2(_) => "UpstreamBody(HTTP/2)",
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
    pub(crate) fn http1(connection: Box<Http1Connection<B>>, return_to: ReturnTarget<B>) -> Self {
        if connection.has_ended() {
            return_to.put(connection);
            return Self { kind: Kind::Full { body: Full::default() }, guard: None };
        }
        Self { kind: Kind::Http1 { connection: Some(connection), return_to }, guard: None }
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
            Kind::Http1 { connection: open, return_to } => {
                let Some(connection) = open else { return Poll::Ready(None) };
                let polled = ready!(connection.poll_body(cx));
                let has_failed = matches!(polled, Some(Err(_)));
                if (has_failed || connection.has_ended())
                    && let Some(connection) = open.take()
                    && !has_failed
                {
                    return_to.put(connection);
                }
                if open.is_none() {
                    this.guard = None;
                }
                Poll::Ready(polled)
            }
            Kind::Http2(download) => {
                let polled = ready!(download.poll_frame(cx));
                if download.is_end_stream() {
                    this.guard = None;
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
            Kind::Http2(download) => download.is_end_stream(),
            Kind::Upgrade(upgrade) => upgrade.is_end_stream(),
            Kind::Full { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Http1 { connection: Some(connection), .. } => {
                connection.remaining().map_or_else(SizeHint::default, SizeHint::with_exact)
            }
            Kind::Http1 { connection: None, .. } => SizeHint::with_exact(0),
            Kind::Http2(download) => download.size_hint(),
            Kind::Upgrade(upgrade) => upgrade.size_hint(),
            Kind::Full { body } => body.size_hint(),
        }
    }
}
