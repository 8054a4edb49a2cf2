//! The streams of a connection: what each may not have, and whether its client still takes what it asked for.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Buf;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};

use super::frames::Seen;
use crate::http1::{HeadLimits, RefusedHead, is_disguised};

/// What the connection's task, its socket and its streams tell each other.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// Tasks that run: of requests, and of tunnels.
    open: AtomicUsize,
    requests: AtomicU64,
    /// Bytes that the socket took.
    written: AtomicU64,
    /// Frames and parts of responses that somebody wanted, since the last tick.
    useful: AtomicU64,
    /// Frames that ask for nothing, since the last tick.
    idle: AtomicU64,
    begun: AtomicUsize,
}

impl Streams {
    pub(super) fn are_open(&self) -> bool {
        self.open.load(Relaxed) > 0
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    pub(super) fn written(&self) -> u64 {
        self.written.load(Relaxed)
    }

    pub(super) fn wrote(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Relaxed);
    }

    /// Whether the client has sent a frame.
    pub(super) fn have_begun(&self) -> bool {
        self.begun.load(Relaxed) > 0
    }

    /// Counts frames; whether there are too many that ask for nothing.
    pub(super) fn pay(&self, seen: Seen) -> bool {
        let useful = self.useful.fetch_add(seen.useful.into(), Relaxed) + u64::from(seen.useful);
        let idle = self.idle.fetch_add(seen.idle.into(), Relaxed) + u64::from(seen.idle);
        self.begun.fetch_or(usize::from(useful + idle > 0), Relaxed);
        idle > FREE + PER_USEFUL * useful
    }

    /// Begins to count anew: a connection that lives long may say something now and then.
    pub(super) fn forgive(&self) {
        self.useful.store(0, Relaxed);
        self.idle.store(0, Relaxed);
    }

    /// A part of a response earns the window updates that it brings about.
    fn earn(&self, bytes: usize) {
        self.useful.fetch_add(1 + (bytes / 4096) as u64, Relaxed);
    }
}

/// Frames that ask for nothing, between two ticks of a connection that does nothing else.
const FREE: u64 = 2000;

/// How many more for each frame that is of use. A download takes two window updates for a frame at most.
const PER_USEFUL: u64 = 8;

/// The service of a connection, as HTTP/2 sees it.
#[derive(Clone, Debug)]
pub(super) struct StreamService<S> {
    inner: S,
    streams: Arc<Streams>,
    limits: HeadLimits,
}

impl<S> StreamService<S> {
    pub(super) fn new(inner: S, streams: Arc<Streams>, limits: HeadLimits) -> Self {
        Self { inner, streams, limits }
    }

    /// h2 knows the size of a head only; an HTTP/1.1 head is held to the same by its scanner.
    fn refusal<B>(&self, request: &Request<B>) -> Option<RefusedHead> {
        let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
        match () {
            () if target > self.limits.target => Some(RefusedHead::TargetTooLong),
            () if request.headers().len() > self.limits.fields => Some(RefusedHead::TooLarge),
            () if request.headers().keys().any(|name| is_disguised(name.as_str().as_bytes())) => {
                Some(RefusedHead::Framing)
            }
            () => None,
        }
    }
}

impl<S, B> hyper::service::Service<Request<Incoming>> for StreamService<S>
where
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>>,
{
    type Response = Response<StreamBody<B>>;
    type Error = S::Error;
    type Future = StreamFuture<S::Future>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        self.streams.requests.fetch_add(1, Relaxed);
        if let Some(refused) = self.refusal(&request) {
            request.extensions_mut().insert(refused);
        }
        StreamFuture { inner: self.inner.call(request), streams: Some(Arc::clone(&self.streams)) }
    }
}

pin_project! {
    /// Waits for the response.
    pub(super) struct StreamFuture<F> {
        #[pin]
        inner: F,
        streams: Option<Arc<Streams>>,
    }
}

impl<F, B, E> Future for StreamFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<StreamBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(cx));
        let streams = this.streams.take();
        Poll::Ready(response.map(|response| response.map(|inner| StreamBody { inner, streams })))
    }
}

pin_project! {
    /// A response body that tells the task that sends it when there is something to send.
    pub(super) struct StreamBody<B> {
        #[pin]
        inner: B,
        streams: Option<Arc<Streams>>,
    }
}

impl<B: Body> Body for StreamBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let polled = this.inner.poll_frame(cx);
        let data = match &polled {
            Poll::Ready(Some(Ok(frame))) => frame.data_ref().map(Buf::remaining),
            _ => None,
        };
        OWED.set(Some(data.is_some()));
        if let (Some(bytes), Some(streams)) = (data, this.streams) {
            streams.earn(bytes);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

thread_local! {
    /// What the body said that was polled last within the task that is being polled: whether it gave data to send.
    static OWED: Cell<Option<bool>> = const { Cell::new(None) };
}

/// Runs the streams of one connection, each as a task.
#[derive(Clone, Debug)]
pub(super) struct StreamExecutor {
    streams: Arc<Streams>,
    send_timeout: Duration,
}

impl StreamExecutor {
    pub(super) fn new(streams: Arc<Streams>, send_timeout: Duration) -> Self {
        Self { streams, send_timeout }
    }
}

impl<F> hyper::rt::Executor<F> for StreamExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, inner: F) {
        self.streams.open.fetch_add(1, Relaxed);
        let open = Open(Arc::clone(&self.streams));
        tokio::spawn(StreamTask { inner, is_owed: false, timer: None, send_timeout: self.send_timeout, _open: open });
    }
}

/// Counts a task until it is dropped.
#[derive(Debug)]
struct Open(Arc<Streams>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

pin_project! {
    /// One stream. It ends, and is reset by that, when there is data for a client that opens no window for it.
    ///
    /// Only the body can say that there is data, and it is not polled while there is no window: so it leaves word.
    struct StreamTask<F> {
        #[pin]
        inner: F,
        is_owed: bool,
        // Made when a stream waits for its client first, which most do not.
        timer: Option<Pin<Box<Sleep>>>,
        send_timeout: Duration,
        _open: Open,
    }
}

impl<F> Future for StreamTask<F>
where
    F: Future<Output = ()>,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        OWED.set(None);
        if this.inner.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let said = OWED.take();
        *this.is_owed = said.unwrap_or(*this.is_owed);
        if !*this.is_owed {
            return Poll::Pending;
        }
        let timeout = *this.send_timeout;
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep(timeout)));
        if said.is_some() {
            timer.as_mut().reset(Instant::now() + timeout);
        }
        timer.as_mut().poll(cx)
    }
}
