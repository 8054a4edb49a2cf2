//! Clients, a cache whose clock stands still but where a test moves it, and an origin that answers when it is told.

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

/// A body that arrives as the test sends it.
pub(crate) struct Arriving(pub(crate) mpsc::UnboundedReceiver<Result<Frame<Bytes>, &'static str>>);

impl Body for Arriving {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        let frame = self.0.poll_recv(cx);
        assert!(!matches!(frame, Poll::Ready(Some(Err(PANIC)))), "{PANIC}");
        frame
    }
}

/// In the place of a frame, has the body panic.
pub(crate) const PANIC: &str = "the body panics";

pub(crate) type Answer = Result<Response<Arriving>, &'static str>;

#[derive(Clone)]
pub(crate) struct Origin(pub(crate) mpsc::UnboundedSender<(HeaderMap, oneshot::Sender<Answer>)>);

impl Service<Request<Empty<Bytes>>> for Origin {
    type Response = Response<Arriving>;
    type Error = &'static str;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Empty<Bytes>>) -> Self::Future {
        let (answer, answered) = oneshot::channel();
        let asked = self.0.send((request.headers().clone(), answer));
        Box::pin(async move { if asked.is_ok() { answered.await.unwrap_or(Err("gone")) } else { Err("gone") } })
    }
}

pub(crate) struct World {
    pub(crate) service: CacheService<Origin>,
    pub(crate) store: CacheStore,
    pub(crate) now: Arc<AtomicU64>,
    pub(crate) asked: mpsc::UnboundedReceiver<(HeaderMap, oneshot::Sender<Answer>)>,
}

pub(crate) type Got = Result<Response<ResponseBody<Arriving>>, &'static str>;
pub(crate) type Sending = mpsc::UnboundedSender<Result<Frame<Bytes>, &'static str>>;

impl World {
    pub(crate) fn new() -> Self {
        let (origin, asked) = mpsc::unbounded_channel();
        let store = CacheStore::in_memory(16 << 20);
        let now = Arc::new(AtomicU64::new(784_111_777));
        let clock = Arc::clone(&now);
        let layer = CacheLayer::new(store.clone())
            .max_object(1000)
            .empty_body(Empty::<Bytes>::new)
            .clock(move || UNIX_EPOCH + Duration::from_secs(clock.load(Ordering::SeqCst)));
        Self { service: layer.layer(Origin(origin)), store, now, asked }
    }

    pub(crate) fn ask(&self, headers: &[(&'static str, &str)]) -> JoinHandle<Got> {
        let mut request = Request::get("http://example.org/cold");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        tokio::spawn(self.service.clone().oneshot(request.body(Empty::new()).unwrap()))
    }

    /// The next request that reaches the origin.
    pub(crate) async fn next(&mut self) -> oneshot::Sender<Answer> {
        self.asked.recv().await.unwrap().1
    }

    /// How many requests reach the origin, once nobody has anything else to do.
    pub(crate) async fn reaching(&mut self) -> usize {
        settle().await;
        std::iter::from_fn(|| self.asked.try_recv().ok()).count()
    }
}

/// Lets every task run until it waits.
pub(crate) async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// An answer, and the way to send its body.
pub(crate) fn answer(headers: &[(&'static str, &'static str)]) -> (Answer, Sending) {
    let (sending, arriving) = mpsc::unbounded_channel();
    let mut response = Response::builder();
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    (Ok(response.body(Arriving(arriving)).unwrap()), sending)
}

pub(crate) fn data(text: &'static str) -> Result<Frame<Bytes>, &'static str> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

pub(crate) async fn text(got: JoinHandle<Got>) -> Bytes {
    got.await.unwrap().unwrap().into_body().collect().await.unwrap().to_bytes()
}

pub(crate) const FRESH: (&str, &str) = ("cache-control", "max-age=60");
pub(crate) const FIVE: (&str, &str) = ("content-length", "5");
