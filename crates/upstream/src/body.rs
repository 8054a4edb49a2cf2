//! Bodies both ways. That of the response drives its connection, and gives it back at its end.

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
use crate::bound;
use crate::deadline::{Deadline, Patience};
use crate::error::{BodyError, BoxError};
use crate::http1::Http1;
use crate::http2::{Download, TunnelBody};
use crate::pool::Pool;
use crate::service::Member;
use crate::trailers;

/// The body of a request as it is sent. One that is empty can be sent again.
pub(crate) struct RequestBody<B: Body> {
    /// What was taken out of the body already.
    ahead: Option<Chunk<B::Data>>,
    body: Option<B>,
    /// The trailer section, if that was taken out, too.
    trailers: Option<HeaderMap>,
}

impl<B: Body> RequestBody<B> {
    pub(crate) fn empty() -> Self {
        Self { ahead: None, body: None, trailers: None }
    }

    pub(crate) fn new(body: B) -> Self {
        Self { ahead: None, body: (!body.is_end_stream()).then_some(body), trailers: None }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ahead.is_none() && self.body.is_none() && self.trailers.is_none()
    }

    /// Returns the length of the content, `u64::MAX` if it is not known, and `None` if there is none.
    pub(crate) fn content(&self) -> Option<u64>
    where
        B: Unpin,
    {
        let ahead = self.ahead.as_ref().map_or(0, |data| data.remaining() as u64);
        match &self.body {
            Some(body) if !body.is_end_stream() => Some(self.size_hint().exact().unwrap_or(u64::MAX)),
            _ => (!self.is_end_stream()).then_some(ahead),
        }
    }

    /// Takes the next frame out of the body if it has arrived, so that the length of a short body is known.
    pub(crate) async fn peek(&mut self) -> Result<(), B::Error>
    where
        B: Unpin,
    {
        if self.ahead.is_some() || self.trailers.is_some() || self.body.is_none() {
            return Ok(());
        }
        let Poll::Ready(frame) = poll_fn(|cx| Poll::Ready(Pin::new(&mut *self).poll_frame(cx))).await else {
            return Ok(());
        };
        match frame.transpose()?.map(Frame::into_data) {
            Some(Ok(data)) => self.ahead = Some(data),
            Some(Err(frame)) => *self = Self { ahead: None, body: None, trailers: frame.into_trailers().ok() },
            None => self.body = None,
        }
        Ok(())
    }

    /// Puts back a frame that was taken out.
    pub(crate) fn preceded_by(self, data: Chunk<B::Data>) -> Self {
        Self { ahead: Some(data), ..self }
    }

    /// Puts back all that was taken out.
    pub(crate) fn replayed(self, data: Bytes, trailers: Option<HeaderMap>) -> Self {
        let ahead = (!data.is_empty()).then_some(Chunk::Again(data));
        // After its trailers there is nothing left of a body.
        let body = if trailers.is_some() { None } else { self.body };
        Self { ahead, body, trailers }
    }
}

/// A part of a request's content.
pub(crate) enum Chunk<D> {
    /// As the client's side of the proxy has it.
    New(D),
    /// Sent before.
    Again(Bytes),
}

impl<D: Buf> Buf for Chunk<D> {
    fn remaining(&self) -> usize {
        match self {
            Self::New(data) => data.remaining(),
            Self::Again(data) => data.remaining(),
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::New(data) => data.chunk(),
            Self::Again(data) => data.chunk(),
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::New(data) => data.advance(count),
            Self::Again(data) => data.advance(count),
        }
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        match self {
            // Without a copy, where it is `Bytes` already.
            Self::New(data) => data.copy_to_bytes(length),
            Self::Again(data) => data.copy_to_bytes(length),
        }
    }
}

// Neither is ever pinned in place.
impl<B: Body + Unpin> Unpin for RequestBody<B> {}

impl<B> Body for RequestBody<B>
where
    B: Body + Unpin,
{
    type Data = Chunk<B::Data>;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, B::Error>>> {
        if let Some(data) = self.ahead.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        match &mut self.body {
            Some(body) => {
                let mut polled = ready!(Pin::new(body).poll_frame(cx));
                if let Some(Ok(frame)) = &mut polled
                    && let Some(trailers) = frame.trailers_mut()
                {
                    trailers::keep_checks(trailers);
                }
                Poll::Ready(polled.map(|frame| frame.map(|frame| frame.map_data(Chunk::New))))
            }
            None => Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_none() && self.trailers.is_none() && self.body.as_ref().is_none_or(Body::is_end_stream)
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
    lease: Option<Box<Lease>>,
}

enum Kind<B: Body + 'static> {
    Http1 {
        /// Given back when the body has ended.
        connection: Option<Box<Http1<B>>>,
        home: Home<B>,
    },
    // Boxed: it is large, and HTTP/1.1 is the usual case.
    Http2(Box<Download>),
    /// Something else drives the connection: an upgrade, a tunnel.
    Driven(Box<Driven>),
    Full {
        body: Full<Bytes>,
    },
}

/// Where an HTTP/1.1 connection goes after the response.
pub(crate) enum Home<B: Body + 'static> {
    Pool(Arc<Pool<B>>),
    /// For further requests of the same client, because the backend may have authenticated it.
    Client(ClientConnection, Arc<Member>),
    /// It is closed.
    None,
}

impl<B> Home<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    fn put(&self, connection: Box<Http1<B>>) {
        match self {
            Self::Pool(pool) => pool.put(connection),
            Self::Client(client, member) => bound::put(client, member, connection),
            Self::None => {}
        }
    }
}

/// The body of a response to an upgrade or a tunnel.
pub(crate) enum Switched {
    Http1(Incoming),
    Http2(TunnelBody),
}

struct Driven {
    body: Switched,
    patience: Patience,
    /// Made when there is something to wait for.
    deadline: Option<Deadline>,
}

impl Driven {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = match &mut self.body {
            Switched::Http1(incoming) => Pin::new(incoming).poll_frame(cx).map_err(BodyError::Http),
            Switched::Http2(body) => Pin::new(body).poll_frame(cx),
        };
        if let Poll::Ready(polled) = polled {
            if let Some(deadline) = &mut self.deadline {
                deadline.is_answered();
            }
            return Poll::Ready(polled.map(|frame| frame.map(trailers::filtered)));
        }
        ready!(self.deadline.get_or_insert_with(Deadline::new).poll_silence(cx, &self.patience));
        Poll::Ready(Some(Err(BodyError::Timeout)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Switched::Http1(incoming) => incoming.is_end_stream(),
            Switched::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Switched::Http1(incoming) => incoming.size_hint(),
            Switched::Http2(body) => body.size_hint(),
        }
    }
}

impl<B: Body + 'static> UpstreamBody<B> {
    pub(crate) fn driven(body: Switched, patience: Patience) -> Self {
        Self { kind: Kind::Driven(Box::new(Driven { body, patience, deadline: None })), lease: None }
    }

    pub(crate) fn http2(download: Box<Download>) -> Self {
        if download.is_end_stream() {
            return Self::full(Bytes::new());
        }
        Self { kind: Kind::Http2(download), lease: None }
    }

    pub(crate) fn full(body: Bytes) -> Self {
        Self { kind: Kind::Full { body: Full::new(body) }, lease: None }
    }
}

impl<B: Body + 'static> fmt::Debug for UpstreamBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.kind {
            Kind::Http1 { .. } => "UpstreamBody(HTTP/1.1)",
            Kind::Http2(_) => "UpstreamBody(HTTP/2)",
            Kind::Driven(_) => "UpstreamBody(driven)",
            Kind::Full { .. } => "UpstreamBody(full)",
        })
    }
}

/// What a request holds of its backend until the response has ended.
#[derive(Default)]
pub(crate) struct Lease {
    pending: Option<Arc<Member>>,
    slot: Option<OwnedSemaphorePermit>,
}

impl Lease {
    /// Counted as one that is not answered yet.
    pub(crate) fn pending(member: &Arc<Member>) -> Box<Self> {
        member.pending.fetch_add(1, Relaxed);
        Box::new(Self { pending: Some(Arc::clone(member)), slot: None })
    }

    pub(crate) fn occupy(&mut self, slot: OwnedSemaphorePermit) {
        self.slot = Some(slot);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(member) = &self.pending {
            member.pending.fetch_sub(1, Relaxed);
        }
    }
}

impl<B> UpstreamBody<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    pub(crate) fn http1(connection: Box<Http1<B>>, home: Home<B>) -> Self {
        if connection.has_ended() {
            home.put(connection);
            return Self { kind: Kind::Full { body: Full::default() }, lease: None };
        }
        Self { kind: Kind::Http1 { connection: Some(connection), home }, lease: None }
    }

    /// Gives the lease back with the end of the body.
    pub(crate) fn holding(self, lease: Option<Box<Lease>>) -> Self {
        Self { lease: lease.filter(|_| !self.is_end_stream()), ..self }
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
            Kind::Http1 { connection: slot, home } => {
                let Some(connection) = slot else { return Poll::Ready(None) };
                let polled = ready!(connection.poll_body(cx));
                let has_failed = matches!(polled, Some(Err(_)));
                if (has_failed || connection.has_ended())
                    && let Some(connection) = slot.take()
                    && !has_failed
                {
                    home.put(connection);
                }
                if slot.is_none() {
                    this.lease = None;
                }
                Poll::Ready(polled)
            }
            Kind::Http2(download) => {
                let polled = ready!(download.poll_frame(cx));
                if download.is_end_stream() {
                    this.lease = None;
                }
                Poll::Ready(polled)
            }
            Kind::Driven(driven) => driven.poll_frame(cx),
            Kind::Full { body } => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Http1 { connection, .. } => connection.is_none(),
            Kind::Http2(download) => download.is_end_stream(),
            Kind::Driven(driven) => driven.is_end_stream(),
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
            Kind::Driven(driven) => driven.size_hint(),
            Kind::Full { body } => body.size_hint(),
        }
    }
}
