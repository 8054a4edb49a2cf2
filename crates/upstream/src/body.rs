//! Bodies both ways. That of the response drives its connection, and gives it back at its end.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::deadline::{Deadline, Patience};
use crate::error::{BodyError, BoxError};
use crate::http1::Http1;
use crate::pool::Pool;
use crate::service::Member;
use crate::trailers;

/// The body of a request as it is sent. One that is empty can be sent again.
pub(crate) struct RequestBody<B: Body> {
    /// What was taken out of the body already.
    ahead: Option<B::Data>,
    body: Option<B>,
    /// Told of what is taken, where somebody watches.
    progress: Option<Watched>,
}

impl<B: Body> RequestBody<B> {
    pub(crate) fn empty() -> Self {
        Self { ahead: None, body: None, progress: None }
    }

    pub(crate) fn new(body: B) -> Self {
        Self { ahead: None, body: (!body.is_end_stream()).then_some(body), progress: None }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ahead.is_none() && self.body.is_none()
    }

    /// Puts back what was taken out.
    pub(crate) fn preceded_by(self, data: B::Data) -> Self {
        Self { ahead: Some(data), ..self }
    }

    /// Tells `progress` of what is taken.
    pub(crate) fn watched(self, progress: &Arc<Progress>) -> Self {
        if self.is_empty() {
            progress.ended();
            return self;
        }
        Self { progress: Some(Watched(Arc::clone(progress))), ..self }
    }
}

/// How far the client has come with its body.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    ended: OnceLock<Instant>,
}

impl Progress {
    fn ended(&self) {
        self.ended.get_or_init(Instant::now);
    }

    /// When it ended.
    pub(crate) fn last(&self) -> Option<Instant> {
        self.ended.get().copied()
    }
}

/// Ends with the body: one that is dropped is not waited for any longer.
struct Watched(Arc<Progress>);

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.ended();
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
            Some(body) => {
                let mut polled = ready!(Pin::new(body).poll_frame(cx));
                if polled.is_none() {
                    self.progress = None;
                }
                if let Some(Ok(frame)) = &mut polled
                    && let Some(trailers) = frame.trailers_mut()
                {
                    trailers::keep_checks(trailers);
                }
                Poll::Ready(polled)
            }
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
    lease: Option<Box<Lease>>,
}

enum Kind<B: Body + 'static> {
    Http1 {
        /// Given back when the body has ended.
        connection: Option<Box<Http1<B>>>,
        pool: Arc<Pool<B>>,
    },
    /// Something else drives the connection: HTTP/2, an upgrade.
    // Boxed: it is large, and HTTP/1.1 is the usual case.
    Driven(Box<Driven>),
    Full {
        body: Full<Bytes>,
    },
}

struct Driven {
    incoming: Incoming,
    patience: Patience,
    /// Made when there is something to wait for.
    deadline: Option<Deadline>,
}

impl Driven {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(polled) = Pin::new(&mut self.incoming).poll_frame(cx) {
            if let Some(deadline) = &mut self.deadline {
                deadline.is_answered();
            }
            return Poll::Ready(polled.map(|frame| frame.map(trailers::filtered).map_err(BodyError::Http)));
        }
        ready!(self.deadline.get_or_insert_with(Deadline::new).poll_silence(cx, &self.patience));
        Poll::Ready(Some(Err(BodyError::Timeout)))
    }
}

impl<B: Body + 'static> UpstreamBody<B> {
    pub(crate) fn driven(incoming: Incoming, patience: Patience) -> Self {
        Self { kind: Kind::Driven(Box::new(Driven { incoming, patience, deadline: None })), lease: None }
    }

    pub(crate) fn full(body: Bytes) -> Self {
        Self { kind: Kind::Full { body: Full::new(body) }, lease: None }
    }
}

impl<B: Body + 'static> fmt::Debug for UpstreamBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.kind {
            Kind::Http1 { .. } => "UpstreamBody(HTTP/1.1)",
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
    pub(crate) fn http1(connection: Box<Http1<B>>, pool: Arc<Pool<B>>) -> Self {
        if connection.has_ended() {
            pool.put(connection);
            return Self { kind: Kind::Full { body: Full::default() }, lease: None };
        }
        Self { kind: Kind::Http1 { connection: Some(connection), pool }, lease: None }
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
                if slot.is_none() {
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
            Kind::Driven(driven) => driven.incoming.is_end_stream(),
            Kind::Full { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Http1 { connection: Some(connection), .. } => {
                connection.remaining().map_or_else(SizeHint::default, SizeHint::with_exact)
            }
            Kind::Http1 { connection: None, .. } => SizeHint::with_exact(0),
            Kind::Driven(driven) => driven.incoming.size_hint(),
            Kind::Full { body } => body.size_hint(),
        }
    }
}
