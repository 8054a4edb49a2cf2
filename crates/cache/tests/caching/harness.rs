//! A test harness: a client, a cache with a settable clock, and an origin with scripted responses.

pub(crate) use std::collections::VecDeque;
pub(crate) use std::future::Ready;
pub(crate) use std::pin::Pin;
pub(crate) use std::sync::atomic::{AtomicU64, Ordering};
pub(crate) use std::sync::{Arc, Mutex};
pub(crate) use std::task::{Context, Poll};
pub(crate) use std::time::{Duration, UNIX_EPOCH};

pub(crate) use bytes::Bytes;
pub(crate) use http::header::HeaderName;
pub(crate) use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
pub(crate) use http_body::{Body, Frame, SizeHint};
pub(crate) use http_body_util::{BodyExt, Full};
pub(crate) use rproxy_cache::{BodyError, CacheLayer, CacheService, CacheStatus, CacheStore, ForwardReason, Purge};
pub(crate) use tokio::sync::mpsc;
pub(crate) use tower::{Layer, Service, ServiceExt};

/// The initial time of the clock in seconds since the Unix epoch: 06 Nov 1994 08:49:37 GMT.
pub(crate) const START: u64 = 784_111_777;
pub(crate) const MODIFIED: (&str, &str) = ("last-modified", "Sat, 05 Nov 1994 08:49:37 GMT");

/// A response body with scripted frames, which can fail or have an unexpected length.
#[derive(Default)]
pub(crate) struct Frames {
    pub(crate) frames: VecDeque<Result<Frame<Bytes>, &'static str>>,
    /// The frames that arrive after the scripted frames.
    pub(crate) late: Option<mpsc::UnboundedReceiver<Result<Frame<Bytes>, &'static str>>>,
}

impl Frames {
    pub(crate) fn data(chunks: &[&'static str]) -> Self {
        let frames = chunks.iter().map(|chunk| Ok(Frame::data(Bytes::from_static(chunk.as_bytes()))));
        Self { frames: frames.collect(), late: None }
    }

    pub(crate) fn then(mut self, frame: Result<Frame<Bytes>, &'static str>) -> Self {
        self.frames.push_back(frame);
        self
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        match (self.frames.pop_front(), &mut self.late) {
            (None, Some(late)) => late.poll_recv(cx),
            (frame, _) => Poll::Ready(frame),
        }
    }

    fn is_end_stream(&self) -> bool {
        false
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

pub(crate) type OriginResponse = Result<Response<Frames>, &'static str>;

/// An origin that returns scripted responses in order and records the requests.
#[derive(Clone, Default)]
pub(crate) struct Origin {
    pub(crate) responses: Arc<Mutex<VecDeque<OriginResponse>>>,
    pub(crate) requests: Arc<Mutex<Vec<(Method, HeaderMap)>>>,
}

impl Service<Request<Full<Bytes>>> for Origin {
    type Response = Response<Frames>;
    type Error = &'static str;
    type Future = Ready<OriginResponse>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        self.requests.lock().unwrap().push((request.method().clone(), request.headers().clone()));
        let response = self.responses.lock().unwrap().pop_front();
        std::future::ready(response.unwrap_or(Err("unexpected request to the origin")))
    }
}

pub(crate) struct Harness {
    pub(crate) origin: Origin,
    pub(crate) store: CacheStore,
    pub(crate) now: Arc<AtomicU64>,
    pub(crate) service: CacheService<Origin>,
}

/// A response as received by the client.
pub(crate) struct ClientResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) cache: Option<CacheStatus>,
    pub(crate) body: Bytes,
}

impl ClientResponse {
    pub(crate) fn cache_status(&self) -> &str {
        self.headers.get("cache-status").map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn age(&self) -> &str {
        self.headers.get("age").map_or("", |value| value.to_str().unwrap())
    }
}

impl Harness {
    pub(crate) fn new() -> Self {
        Self::with(|layer| layer)
    }

    pub(crate) fn with(settings: impl FnOnce(CacheLayer) -> CacheLayer) -> Self {
        let origin = Origin::default();
        let store = CacheStore::in_memory(16 << 20);
        let now = Arc::new(AtomicU64::new(START));
        let clock = Arc::clone(&now);
        let layer = CacheLayer::new(store.clone())
            .clock(move || UNIX_EPOCH + Duration::from_secs(clock.load(Ordering::SeqCst)));
        let service = settings(layer).layer(origin.clone());
        Self { origin, store, now, service }
    }

    pub(crate) fn respond(&self, status: u16, headers: &[(&str, &str)], body: &'static str) {
        self.respond_with_body(status, headers, Frames::data(&[body]));
    }

    pub(crate) fn respond_with_body(&self, status: u16, headers: &[(&str, &str)], body: Frames) {
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        *response.headers_mut() = map(headers);
        self.origin.responses.lock().unwrap().push_back(Ok(response));
    }

    pub(crate) fn fail(&self) {
        self.origin.responses.lock().unwrap().push_back(Err("connection refused"));
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.now.fetch_add(seconds, Ordering::SeqCst);
    }

    pub(crate) fn origin_requests(&self) -> usize {
        self.origin.requests.lock().unwrap().len()
    }

    pub(crate) fn last_request(&self) -> (Method, HeaderMap) {
        self.origin.requests.lock().unwrap().last().cloned().unwrap()
    }

    pub(crate) async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> ClientResponse {
        self.try_send(method, path, headers, "").await.unwrap()
    }

    pub(crate) async fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        content: &'static str,
    ) -> Result<ClientResponse, &'static str> {
        let mut request = Request::new(Full::new(Bytes::from_static(content.as_bytes())));
        *request.method_mut() = method.parse().unwrap();
        *request.uri_mut() = path.parse().unwrap();
        *request.headers_mut() = map(headers);
        request.headers_mut().insert("host", HeaderValue::from_static("example.org"));
        let (parts, body) = self.service.clone().oneshot(request).await?.into_parts();
        let body = body.collect().await.map_err(|error| match error {
            BodyError::Inner(error) => error,
            _ => "incomplete",
        })?;
        let body = body.to_bytes();
        let cache = parts.extensions.get().copied();
        Ok(ClientResponse { status: parts.status, headers: parts.headers, cache, body })
    }

    pub(crate) async fn get(&self, headers: &[(&str, &str)]) -> ClientResponse {
        self.send("GET", "/a", headers).await
    }
}

pub(crate) fn map(fields: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
    }
    map
}

pub(crate) const FRESH: (&str, &str) = ("cache-control", "max-age=60");
pub(crate) const ETAG: (&str, &str) = ("etag", "\"v1\"");
