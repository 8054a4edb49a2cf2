//! A test harness: clients, a cache with a settable clock, and an origin that responds on demand.

pub(crate) use std::pin::Pin;
pub(crate) use std::sync::Arc;
pub(crate) use std::sync::atomic::{AtomicU64, Ordering};
pub(crate) use std::task::{Context, Poll};
pub(crate) use std::time::{Duration, UNIX_EPOCH};

pub(crate) use bytes::Bytes;
pub(crate) use http::{HeaderMap, Request, Response};
pub(crate) use http_body::{Body, Frame};
pub(crate) use http_body_util::{BodyExt, Empty};
pub(crate) use rproxy_cache::{BodyError, CacheLayer, CacheService, CacheStatus, CacheStore, ResponseBody};
pub(crate) use tokio::sync::{mpsc, oneshot};
pub(crate) use tokio::task::{JoinHandle, JoinSet};
pub(crate) use tower::{Layer, Service, ServiceExt};

/// A response body whose frames the test sends through a channel.
pub(crate) struct ArrivingBody(pub(crate) mpsc::UnboundedReceiver<Result<Frame<Bytes>, &'static str>>);

impl Body for ArrivingBody {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        let frame = self.0.poll_recv(cx);
        assert!(!matches!(frame, Poll::Ready(Some(Err(PANIC)))), "{PANIC}");
        frame
    }
}

/// The error value that makes the response body panic.
pub(crate) const PANIC: &str = "the body panics";

pub(crate) type OriginResponse = Result<Response<ArrivingBody>, &'static str>;

#[derive(Clone)]
pub(crate) struct Origin(pub(crate) mpsc::UnboundedSender<(HeaderMap, oneshot::Sender<OriginResponse>)>);

impl Service<Request<Empty<Bytes>>> for Origin {
    type Response = Response<ArrivingBody>;
    type Error = &'static str;
    type Future = Pin<Box<dyn Future<Output = OriginResponse> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Empty<Bytes>>) -> Self::Future {
        let (sender, receiver) = oneshot::channel();
        let sent = self.0.send((request.headers().clone(), sender));
        Box::pin(async move { if sent.is_ok() { receiver.await.unwrap_or(Err("gone")) } else { Err("gone") } })
    }
}

pub(crate) struct Harness {
    pub(crate) service: CacheService<Origin>,
    pub(crate) store: CacheStore,
    pub(crate) now: Arc<AtomicU64>,
    pub(crate) requests: mpsc::UnboundedReceiver<(HeaderMap, oneshot::Sender<OriginResponse>)>,
}

pub(crate) type ClientResponse = Result<Response<ResponseBody<ArrivingBody>>, &'static str>;
pub(crate) type BodySender = mpsc::UnboundedSender<Result<Frame<Bytes>, &'static str>>;

impl Harness {
    pub(crate) fn new() -> Self {
        let (origin, requests) = mpsc::unbounded_channel();
        let store = CacheStore::in_memory(16 << 20);
        let now = Arc::new(AtomicU64::new(784_111_777));
        let clock = Arc::clone(&now);
        let layer = CacheLayer::new(store.clone())
            .max_object(1000)
            .empty_body(Empty::<Bytes>::new)
            .clock(move || UNIX_EPOCH + Duration::from_secs(clock.load(Ordering::SeqCst)));
        Self { service: layer.layer(Origin(origin)), store, now, requests }
    }

    pub(crate) fn request(&self, headers: &[(&'static str, &str)]) -> JoinHandle<ClientResponse> {
        let mut request = Request::get("http://example.org/cold");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        tokio::spawn(self.service.clone().oneshot(request.body(Empty::new()).unwrap()))
    }

    /// Waits for the next request to the origin, and returns the sender of its response.
    pub(crate) async fn next_request(&mut self) -> oneshot::Sender<OriginResponse> {
        self.requests.recv().await.unwrap().1
    }

    /// Waits until all tasks are idle, then returns the number of unanswered origin requests.
    pub(crate) async fn origin_requests(&mut self) -> usize {
        settle().await;
        std::iter::from_fn(|| self.requests.try_recv().ok()).count()
    }
}

/// Runs all tasks until they are idle.
pub(crate) async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// Returns a response and the sender of its body frames.
pub(crate) fn origin_response(headers: &[(&'static str, &'static str)]) -> (OriginResponse, BodySender) {
    let (sender, arriving) = mpsc::unbounded_channel();
    let mut response = Response::builder();
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    (Ok(response.body(ArrivingBody(arriving)).unwrap()), sender)
}

pub(crate) fn data(text: &'static str) -> Result<Frame<Bytes>, &'static str> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

pub(crate) async fn text(got: JoinHandle<ClientResponse>) -> Bytes {
    got.await.unwrap().unwrap().into_body().collect().await.unwrap().to_bytes()
}

pub(crate) const FRESH: (&str, &str) = ("cache-control", "max-age=60");
pub(crate) const FIVE: (&str, &str) = ("content-length", "5");
