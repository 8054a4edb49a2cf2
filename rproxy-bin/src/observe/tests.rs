use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Mutex, PoisonError};
use std::task::Waker;

use bytes::Bytes;
use http::StatusCode;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use rproxy_cache::CacheStatus;
use rproxy_core::{RejectedHead, Rejection, RejectionDetail};
use tower::{BoxError, ServiceExt, service_fn};

use super::*;
use crate::error_response::{ErrorHooks, ErrorResponseLayer};

#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An [`ObserveLayer`] with a JSON access log whose output a test can read.
struct Recorder {
    layer: ObserveLayer,
    metrics: Metrics,
    writer: Writer,
    output: Output,
}

impl Recorder {
    fn new() -> Self {
        let (metrics, output) = (Metrics::new(), Output::default());
        let writer = Writer::start(output.clone()).unwrap();
        let layer = ObserveLayer::new(metrics.clone(), Some((Format::Json, writer.clone())));
        Self { layer, metrics, writer, output }
    }

    fn lines(&self) -> Vec<serde_json::Value> {
        assert!(self.writer.flush());
        let written = self.output.0.lock().unwrap().clone();
        serde_json::Deserializer::from_slice(&written).into_iter().map(Result::unwrap).collect()
    }

    fn metric(&self, series: &str) -> f64 {
        let text = self.metrics.exposition();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }
}

/// Returns a body of two frames with two bytes each, followed by the end of the body or an error.
fn parts(end: Option<Result<(), &'static str>>) -> impl Body<Data = Bytes, Error = BoxError> {
    let frames = [Ok(Frame::data(Bytes::from_static(b"ab"))), Ok(Frame::data(Bytes::from_static(b"cd")))];
    let end = end.and_then(Result::err).map(|error| Err(BoxError::from(error)));
    StreamBody::new(futures_util::stream::iter(frames.into_iter().chain(end)))
}

/// A body of known length that does not report its end after the last byte.
struct OfKnownLength(u64);

impl Body for OfKnownLength {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.0 == 0 {
            return Poll::Pending;
        }
        self.0 -= 1;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0)
    }
}

async fn respond<B: Body + 'static>(recorder: &Recorder, request: Request<()>, body: B) -> Response<ResponseBody<B>> {
    let body = Mutex::new(Some(body));
    let service = recorder.layer.layer(service_fn(move |_: Request<()>| {
        let response = Response::new(body.lock().unwrap().take().unwrap());
        async { Ok::<_, Infallible>(response) }
    }));
    service.oneshot(request).await.unwrap()
}

fn get() -> Request<()> {
    Request::get("/a").body(()).unwrap()
}

#[tokio::test]
async fn records_a_request_once_when_its_body_ends() {
    let recorder = Recorder::new();
    let response = respond(&recorder, get(), parts(None)).await;
    assert!(recorder.lines().is_empty());
    assert_eq!(recorder.metric("rproxy_requests_in_flight"), 1.0);

    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "abcd");
    let lines = recorder.lines();
    assert_eq!(lines.len(), 1);
    assert_eq!((&lines[0]["bytes"], &lines[0]["status"]), (&4.into(), &200.into()));
    assert_eq!(lines[0]["aborted"], false);
    for (series, value) in [
        ("rproxy_requests_in_flight", 0.0),
        ("rproxy_requests_total{method=\"GET\",code=\"200\"}", 1.0),
        ("rproxy_response_body_bytes_total", 4.0),
        ("rproxy_requests_aborted_total", 0.0),
        ("rproxy_request_duration_seconds_count", 1.0),
    ] {
        assert_eq!(recorder.metric(series), value, "{series}");
    }
}

#[tokio::test]
async fn dropped_body_counts_as_aborted() {
    let recorder = Recorder::new();
    let mut body = respond(&recorder, get(), parts(None)).await.into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    let lines = recorder.lines();
    assert_eq!((lines.len(), &lines[0]["bytes"], &lines[0]["aborted"]), (1, &2.into(), &true.into()));
    assert_eq!(recorder.metric("rproxy_requests_aborted_total"), 1.0);
    assert_eq!(recorder.metric("rproxy_requests_in_flight"), 0.0);
}

#[tokio::test]
async fn failed_body_counts_as_aborted() {
    let recorder = Recorder::new();
    let response = respond(&recorder, get(), parts(Some(Err("connection reset")))).await;
    assert!(response.into_body().collect().await.is_err());
    assert_eq!((&recorder.lines()[0]["bytes"], &recorder.lines()[0]["aborted"]), (&4.into(), &true.into()));
}

#[tokio::test]
async fn body_counts_as_complete_without_a_final_poll() {
    // hyper drops a body that reports its end, or whose length was sent, without polling it again.
    let recorder = Recorder::new();
    let mut body = respond(&recorder, get(), Full::new(Bytes::from_static(b"abc"))).await.into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    let mut body = respond(&recorder, get(), OfKnownLength(2)).await.into_body();
    body.frame().await.unwrap().unwrap();
    body.frame().await.unwrap().unwrap();
    drop(body);
    drop(respond(&recorder, get(), Empty::<Bytes>::new()).await);
    assert_eq!(recorder.lines().iter().filter(|line| line["aborted"] == false).count(), 3);

    let mut short = respond(&recorder, get(), OfKnownLength(2)).await.into_body();
    short.frame().await.unwrap().unwrap();
    drop(short);
    assert_eq!(recorder.lines()[3]["aborted"], true);
}

#[tokio::test]
async fn response_to_head_is_complete_without_body() {
    let recorder = Recorder::new();
    let request = Request::head("/").body(()).unwrap();
    drop(respond(&recorder, request, OfKnownLength(9)).await);
    let lines = recorder.lines();
    assert_eq!((&lines[0]["bytes"], &lines[0]["aborted"]), (&0.into(), &false.into()));
}

#[tokio::test]
async fn records_client_that_disconnects_before_the_response() {
    let recorder = Recorder::new();
    let service = recorder
        .layer
        .layer(service_fn(|_: Request<()>| poll_fn(|_| Poll::<Result<Response<Empty<Bytes>>, Infallible>>::Pending)));
    {
        let mut future = pin!(service.oneshot(get()));
        assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert!(recorder.lines().is_empty());
    }
    let lines = recorder.lines();
    assert_eq!((lines.len(), &lines[0]["status"], &lines[0]["aborted"]), (1, &499.into(), &true.into()));
    assert_eq!(recorder.metric("rproxy_requests_total{method=\"GET\",code=\"none\"}"), 1.0);
}

#[tokio::test]
async fn counts_and_logs_decisions_of_inner_layers() {
    let recorder = Recorder::new();
    let service = recorder.layer.layer(service_fn(|request: Request<()>| {
        let mut response = Response::new(Empty::<Bytes>::new());
        match request.uri().path() {
            "/hit" => drop(response.extensions_mut().insert(CacheStatus::Hit)),
            _ => {
                let detail = RejectionDetail::Rule("/.env".into());
                let rejection = Rejection::new("path_filter", "blocked_path", StatusCode::NOT_FOUND);
                response = rejection.with_detail(detail).into_response(Empty::new());
            }
        }
        std::future::ready(Ok::<_, Infallible>(response))
    }));
    for path in ["/hit", "/.env", "/.env"] {
        drop(service.clone().oneshot(Request::get(path).body(()).unwrap()).await.unwrap());
    }
    let lines = recorder.lines();
    assert_eq!(lines[0]["cache"], "hit");
    assert_eq!((&lines[1]["refused"], &lines[1]["blocked"]), (&"blocked_path".into(), &"/.env".into()));
    for (series, value) in [
        ("rproxy_cache_requests_total{status=\"hit\"}", 1.0),
        ("rproxy_refused_requests_total{reason=\"blocked_path\"}", 2.0),
        ("rproxy_requests_total{method=\"GET\",code=\"404\"}", 2.0),
    ] {
        assert_eq!(recorder.metric(series), value, "{series}");
    }
}

#[tokio::test]
async fn records_rejected_grpc_call_with_its_http_status() {
    let recorder = Recorder::new();
    let rejects = ErrorResponseLayer::with_hooks(ErrorHooks::default()).layer(service_fn(|_: Request<()>| {
        let rejection = Rejection::new("rate_limit", "rate_limited", StatusCode::TOO_MANY_REQUESTS);
        let response = rejection.into_response(Full::new(Bytes::from_static(b"Too Many Requests")));
        std::future::ready(Ok::<_, Infallible>(response))
    }));
    let call = Request::post("/a.B/C").header("content-type", "application/grpc").body(()).unwrap();
    let response = recorder.layer.layer(rejects).oneshot(call).await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["grpc-status"]), (200, &"8".parse().unwrap()));
    drop(response);
    let lines = recorder.lines();
    assert_eq!((&lines[0]["status"], &lines[0]["refused"]), (&429.into(), &"rate_limited".into()));
    assert_eq!(recorder.metric("rproxy_requests_total{method=\"POST\",code=\"429\"}"), 1.0);
    assert_eq!(recorder.metric("rproxy_refused_requests_total{reason=\"rate_limited\"}"), 1.0);
}

#[tokio::test]
async fn records_rejected_head_of_a_grpc_call_with_its_http_status() {
    let recorder = Recorder::new();
    let rejects = service_fn(|_: Request<()>| {
        let mut response = Response::new(Empty::<Bytes>::new());
        response.extensions_mut().insert(Rejection::new("request_guard", "target_too_long", StatusCode::URI_TOO_LONG));
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let rejected = Request::post("/").extension(RejectedHead::TargetTooLong).body(()).unwrap();
    drop(recorder.layer.layer(rejects).oneshot(rejected).await.unwrap());
    assert_eq!(recorder.lines()[0]["status"], 414);
    assert_eq!(recorder.metric("rproxy_refused_requests_total{reason=\"target_too_long\"}"), 1.0);
}

#[tokio::test]
async fn keeps_no_request_fields_without_an_access_log() {
    let sinks = ObserveLayer::new(Metrics::new(), None).layer(()).sinks;
    let request = get();
    let mut record = RequestRecord::begin(sinks, &request);
    assert!(record.has_no_log_entry());
    record.set_response(&Response::new(Empty::<Bytes>::new()));
    assert!(record.has_no_log_entry());
}

#[test]
fn layer_and_service_are_send_sync_and_clone() {
    fn check<T: Clone + Send + Sync + 'static>() {}
    check::<ObserveLayer>();
    check::<ObserveService<()>>();
    check::<Metrics>();
    check::<Writer>();
}
