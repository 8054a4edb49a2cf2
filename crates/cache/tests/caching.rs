//! The cache as a client and an origin see it, with a clock that the tests hold.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::VecDeque;
use std::future::Ready;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use rproxy_cache::{CacheLayer, CacheService, CacheStatus, CacheStore, Forwarded, Purge};
use tower::{Layer, Service, ServiceExt};

/// 06 Nov 1994 08:49:37 GMT
const START: u64 = 784_111_777;
const MODIFIED: (&str, &str) = ("last-modified", "Sat, 05 Nov 1994 08:49:37 GMT");

/// A body of given frames; it may fail, and it may lie about its length.
#[derive(Default)]
struct Frames {
    frames: VecDeque<Result<Frame<Bytes>, &'static str>>,
}

impl Frames {
    fn data(chunks: &[&'static str]) -> Self {
        Self { frames: chunks.iter().map(|chunk| Ok(Frame::data(Bytes::from_static(chunk.as_bytes())))).collect() }
    }

    fn then(mut self, frame: Result<Frame<Bytes>, &'static str>) -> Self {
        self.frames.push_back(frame);
        self
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        Poll::Ready(self.frames.pop_front())
    }

    fn is_end_stream(&self) -> bool {
        false
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

type Answer = Result<Response<Frames>, &'static str>;

/// Answers in the order given, and remembers what it was asked.
#[derive(Clone, Default)]
struct Origin {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    asked: Arc<Mutex<Vec<(Method, HeaderMap)>>>,
}

impl Service<Request<Full<Bytes>>> for Origin {
    type Response = Response<Frames>;
    type Error = &'static str;
    type Future = Ready<Answer>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        self.asked.lock().unwrap().push((request.method().clone(), request.headers().clone()));
        let answer = self.answers.lock().unwrap().pop_front();
        std::future::ready(answer.unwrap_or(Err("the origin was not to be asked")))
    }
}

struct World {
    origin: Origin,
    store: CacheStore,
    now: Arc<AtomicU64>,
    service: CacheService<Origin>,
}

/// What a client gets.
struct Got {
    status: StatusCode,
    headers: HeaderMap,
    cache: Option<CacheStatus>,
    body: Bytes,
}

impl Got {
    fn cache_status(&self) -> &str {
        self.headers.get("cache-status").map_or("", |value| value.to_str().unwrap())
    }

    fn age(&self) -> &str {
        self.headers.get("age").map_or("", |value| value.to_str().unwrap())
    }
}

impl World {
    fn new() -> Self {
        Self::with(|layer| layer)
    }

    fn with(settings: impl FnOnce(CacheLayer) -> CacheLayer) -> Self {
        let origin = Origin::default();
        let store = CacheStore::in_memory(16 << 20);
        let now = Arc::new(AtomicU64::new(START));
        let clock = Arc::clone(&now);
        let layer = CacheLayer::new(store.clone())
            .clock(move || UNIX_EPOCH + Duration::from_secs(clock.load(Ordering::SeqCst)));
        let service = settings(layer).layer(origin.clone());
        Self { origin, store, now, service }
    }

    fn answer(&self, status: u16, headers: &[(&str, &str)], body: &'static str) {
        self.answer_with(status, headers, Frames::data(&[body]));
    }

    fn answer_with(&self, status: u16, headers: &[(&str, &str)], body: Frames) {
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        *response.headers_mut() = map(headers);
        self.origin.answers.lock().unwrap().push_back(Ok(response));
    }

    fn fail(&self) {
        self.origin.answers.lock().unwrap().push_back(Err("connection refused"));
    }

    fn wait(&self, seconds: u64) {
        self.now.fetch_add(seconds, Ordering::SeqCst);
    }

    fn asked(&self) -> usize {
        self.origin.asked.lock().unwrap().len()
    }

    fn last_asked(&self) -> (Method, HeaderMap) {
        self.origin.asked.lock().unwrap().last().cloned().unwrap()
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Got {
        self.try_send(method, path, headers, "").await.unwrap()
    }

    async fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        content: &'static str,
    ) -> Result<Got, &'static str> {
        let mut request = Request::new(Full::new(Bytes::from_static(content.as_bytes())));
        *request.method_mut() = method.parse().unwrap();
        *request.uri_mut() = path.parse().unwrap();
        *request.headers_mut() = map(headers);
        request.headers_mut().insert("host", HeaderValue::from_static("example.org"));
        let (parts, body) = self.service.clone().oneshot(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        let cache = parts.extensions.get().copied();
        Ok(Got { status: parts.status, headers: parts.headers, cache, body })
    }

    async fn get(&self, headers: &[(&str, &str)]) -> Got {
        self.send("GET", "/a", headers).await
    }
}

fn map(fields: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
    }
    map
}

const FRESH: (&str, &str) = ("cache-control", "max-age=60");
const ETAG: (&str, &str) = ("etag", "\"v1\"");

#[tokio::test]
async fn a_fresh_response_is_served_again_with_its_age() {
    // RFC 9111 §4
    let world = World::new();
    world.answer(200, &[FRESH, ("x", "1"), ("connection", "keep-alive")], "hello");
    let miss = world.get(&[]).await;
    assert_eq!((miss.cache_status(), &miss.body[..]), ("rproxy; fwd=uri-miss; stored", &b"hello"[..]));
    assert_eq!(miss.cache, Some(CacheStatus::Forwarded(Forwarded::UriMiss)));

    world.wait(7);
    let hit = world.get(&[]).await;
    assert_eq!((hit.cache_status(), &hit.body[..]), ("rproxy; hit; ttl=53", &b"hello"[..]));
    assert_eq!(
        (hit.age(), &hit.headers["x"], hit.cache),
        ("7", &HeaderValue::from_static("1"), Some(CacheStatus::Hit))
    );
    assert_eq!(hit.headers["date"], "Sun, 06 Nov 1994 08:49:37 GMT");
    assert_eq!(hit.headers["content-length"], "5");
    assert!(!hit.headers.contains_key("connection"));

    let stats = world.store.stats();
    assert_eq!((world.asked(), stats.hits, stats.misses, stats.stored, stats.entries), (1, 1, 1, 1, 1));
    assert!(stats.weighted_size > 300, "{stats:?}");
}

#[tokio::test]
async fn other_hosts_queries_and_schemes_are_other_resources() {
    let world = World::new();
    for (n, uri) in ["/a", "/a?b", "/A", "https://example.org/a", "http://example.net/a"].into_iter().enumerate() {
        world.answer(200, &[FRESH], "x");
        let got = world.send("GET", uri, &[]).await;
        assert_eq!((got.cache_status(), world.asked()), ("rproxy; fwd=uri-miss; stored", n + 1), "{uri}");
    }
    assert_eq!(world.send("GET", "http://EXAMPLE.org:80/a", &[]).await.cache, Some(CacheStatus::Hit));
}

#[tokio::test]
async fn a_stale_response_is_validated_and_freshened() {
    // RFC 9111 §4.3
    let world = World::new();
    world.answer(200, &[FRESH, ETAG, MODIFIED, ("x", "1"), ("y", "1")], "hello");
    world.get(&[]).await;
    world.wait(60);
    world.answer(304, &[("cache-control", "max-age=100"), ETAG, ("x", "2"), ("set-cookie", "a=b")], "");
    let validated = world.get(&[]).await;
    let (_, asked) = world.last_asked();
    assert_eq!(
        (&asked["if-none-match"], &asked["if-modified-since"]),
        (&ETAG.1.parse().unwrap(), &MODIFIED.1.parse().unwrap())
    );
    assert_eq!((validated.status, &validated.body[..]), (StatusCode::OK, &b"hello"[..]));
    assert_eq!(validated.cache_status(), "rproxy; fwd=stale; fwd-status=304; stored");
    assert_eq!(validated.cache, Some(CacheStatus::Revalidated));
    assert_eq!((&validated.headers["x"], &validated.headers["y"]), (&"2".parse().unwrap(), &"1".parse().unwrap()));
    assert_eq!(validated.headers["set-cookie"], "a=b", "for the one who asked");

    world.wait(99);
    let hit = world.get(&[]).await;
    assert_eq!((hit.cache_status(), hit.age(), &hit.body[..]), ("rproxy; hit; ttl=1", "99", &b"hello"[..]));
    assert_eq!(hit.headers["x"], "2");
    assert!(!hit.headers.contains_key("set-cookie"), "and for nobody else");
}

#[tokio::test]
async fn a_changed_response_takes_the_place_of_the_stale_one() {
    // RFC 9111 §4.3.3
    let world = World::new();
    world.answer(200, &[FRESH, ETAG], "old");
    world.get(&[]).await;
    world.wait(60);
    world.answer(200, &[FRESH, ("etag", "\"v2\"")], "new");
    assert_eq!(world.get(&[]).await.cache_status(), "rproxy; fwd=stale; stored");
    let hit = world.get(&[]).await;
    assert_eq!((hit.cache, &hit.body[..]), (Some(CacheStatus::Hit), &b"new"[..]));
}

#[tokio::test]
async fn an_answer_that_may_not_be_stored_ends_the_stale_one() {
    let world = World::new();
    world.answer(200, &[FRESH, ETAG], "old");
    world.get(&[]).await;
    world.wait(60);
    world.answer(200, &[("cache-control", "private")], "new");
    assert_eq!(world.get(&[]).await.cache_status(), "rproxy; fwd=stale");
    world.fail();
    assert!(world.try_send("GET", "/a", &[], "").await.is_err(), "nothing is left to stand in");
}

#[tokio::test]
async fn a_304_about_something_else_is_not_merged() {
    // RFC 9111 §4.3.4
    let world = World::new();
    world.answer(200, &[FRESH, ETAG], "old");
    world.get(&[]).await;
    world.wait(60);
    world.answer(304, &[FRESH, ("etag", "\"v2\"")], "");
    let got = world.get(&[]).await;
    assert_eq!((got.status, &got.headers["etag"]), (StatusCode::OK, &ETAG.1.parse().unwrap()));
    world.answer(200, &[FRESH, ("etag", "\"v2\"")], "new");
    let got = world.get(&[]).await;
    assert_eq!((got.cache_status(), &got.body[..]), ("rproxy; fwd=uri-miss; stored", &b"new"[..]));
}

#[tokio::test]
async fn conditional_requests_are_answered_from_the_store() {
    // RFC 9111 §4.3.2
    let world = World::new();
    world.answer(200, &[FRESH, ETAG, MODIFIED, ("vary", "foo"), ("content-type", "text/plain")], "hello");
    world.get(&[]).await;
    for (condition, expected) in [
        (("if-none-match", "\"v1\""), 304),
        (("if-none-match", "\"x\", W/\"v1\""), 304),
        (("if-none-match", "\"v2\""), 200),
        (("if-modified-since", MODIFIED.1), 304),
        (("if-modified-since", "Friday, 04-Nov-94 08:49:37 GMT"), 200),
    ] {
        let got = world.get(&[condition]).await;
        assert_eq!((got.status.as_u16(), got.cache), (expected, Some(CacheStatus::Hit)), "{condition:?}");
        assert_eq!(got.body.is_empty(), expected == 304);
        if expected == 304 {
            // RFC 9110 §15.4.5
            for kept in ["cache-control", "etag", "date", "vary", "age"] {
                assert!(got.headers.contains_key(kept), "{kept}");
            }
            assert!(!got.headers.contains_key("content-length") && !got.headers.contains_key("content-type"));
        }
    }
    assert_eq!(world.asked(), 1);
}

#[tokio::test]
async fn a_clients_condition_on_a_stale_response_is_answered_after_validation() {
    // RFC 9111 §4.3.2
    let world = World::new();
    world.answer(200, &[FRESH, ETAG], "hello");
    world.get(&[]).await;
    for (condition, expected) in [("\"v1\"", 304), ("\"other\"", 200)] {
        world.wait(60);
        world.answer(304, &[FRESH, ETAG], "");
        let got = world.get(&[("if-none-match", condition)]).await;
        assert_eq!(world.last_asked().1["if-none-match"], ETAG.1, "ours, not the client's");
        assert_eq!((got.status.as_u16(), got.cache), (expected, Some(CacheStatus::Revalidated)));
    }
}

#[tokio::test]
async fn a_clients_condition_goes_to_the_origin_when_nothing_is_stored() {
    let world = World::new();
    world.answer(304, &[ETAG], "");
    let got = world.get(&[("if-none-match", ETAG.1)]).await;
    assert_eq!((got.status, got.cache_status()), (StatusCode::NOT_MODIFIED, "rproxy; fwd=uri-miss"));
    assert_eq!(world.last_asked().1["if-none-match"], ETAG.1);
    assert_eq!(world.store.stats().stored, 0);
}

#[tokio::test]
async fn ranges_are_cut_from_the_whole() {
    // RFC 9110 §14.2, §15.3.7, §15.5.17
    let world = World::new();
    world.answer(200, &[FRESH, ETAG], "0123456789A");
    world.get(&[]).await;
    for (range, status, body, content_range) in [
        ("bytes=0-1", 206, "01", "bytes 0-1/11"),
        ("bytes=1-", 206, "123456789A", "bytes 1-10/11"),
        ("bytes=-1", 206, "A", "bytes 10-10/11"),
        ("bytes=11-", 416, "Range Not Satisfiable\n", "bytes */11"),
        ("bytes=0-1,3-4", 200, "0123456789A", ""),
    ] {
        let got = world.get(&[("range", range)]).await;
        assert_eq!((got.status.as_u16(), &got.body[..]), (status, body.as_bytes()), "{range}");
        assert_eq!(got.headers.get("content-range").map_or("", |value| value.to_str().unwrap()), content_range);
        assert_eq!(got.cache, Some(CacheStatus::Hit));
    }
    let length = |got: &Got| got.headers["content-length"].to_str().unwrap().to_owned();
    let matching = world.get(&[("range", "bytes=0-1"), ("if-range", ETAG.1)]).await;
    assert_eq!((matching.status.as_u16(), length(&matching)), (206, "2".into()));
    let other = world.get(&[("range", "bytes=0-1"), ("if-range", "\"v0\"")]).await;
    assert_eq!((other.status.as_u16(), length(&other)), (200, "11".into()));
}

#[tokio::test]
async fn a_part_is_passed_on_and_never_stored_as_the_whole() {
    // RFC 9111 §3.3
    let world = World::new();
    world.answer(206, &[FRESH, ETAG, ("content-range", "bytes 0-4/10")], "01234");
    let got = world.get(&[("range", "bytes=0-4")]).await;
    assert_eq!((got.status.as_u16(), got.cache_status()), (206, "rproxy; fwd=uri-miss"));
    world.answer(200, &[FRESH, ETAG], "0123456789");
    assert_eq!(world.get(&[]).await.body, "0123456789");
    assert_eq!(world.asked(), 2);
}

#[tokio::test]
async fn head_is_answered_from_a_stored_get_and_never_stored() {
    // RFC 9110 §9.3.2
    let world = World::new();
    world.answer(200, &[FRESH, ("content-length", "5")], "");
    assert_eq!(world.send("HEAD", "/a", &[]).await.cache_status(), "rproxy; fwd=uri-miss");
    world.answer(200, &[FRESH], "hello");
    assert_eq!(world.get(&[]).await.cache_status(), "rproxy; fwd=uri-miss; stored");
    let head = world.send("HEAD", "/a", &[("range", "bytes=0-1")]).await;
    assert_eq!((head.status, head.cache, head.body.len()), (StatusCode::OK, Some(CacheStatus::Hit), 0));
    assert_eq!(head.headers["content-length"], "5");
}

#[tokio::test]
async fn head_freshens_or_drops_what_is_stored() {
    // RFC 9111 §4.3.5
    let world = World::new();
    world.answer(200, &[FRESH, ETAG], "hello");
    world.get(&[]).await;
    world.wait(60);
    world.answer(200, &[("cache-control", "max-age=99"), ETAG, ("x", "2"), ("content-length", "5")], "");
    assert_eq!(world.send("HEAD", "/a", &[]).await.cache_status(), "rproxy; fwd=stale");
    assert!(!world.last_asked().1.contains_key("if-none-match"));
    let hit = world.get(&[]).await;
    assert_eq!(
        (hit.cache_status(), &hit.headers["x"], &hit.body[..]),
        ("rproxy; hit; ttl=99", &"2".parse().unwrap(), &b"hello"[..])
    );

    world.wait(99);
    world.answer(200, &[FRESH, ETAG, ("content-length", "6")], "");
    world.send("HEAD", "/a", &[]).await;
    assert_eq!(world.store.stats().entries, 0, "another length: another representation");
}

#[tokio::test]
async fn variants_are_kept_apart() {
    // RFC 9111 §4.1
    let world = World::new();
    let vary = ("vary", "Accept-Encoding");
    world.answer(200, &[FRESH, vary, ("content-encoding", "gzip")], "zipped");
    world.get(&[("accept-encoding", "gzip, br")]).await;
    world.answer(200, &[FRESH, vary], "plain");
    assert_eq!(world.get(&[]).await.cache_status(), "rproxy; fwd=vary-miss; stored");
    for (accept, body) in [("gzip, br", "zipped"), ("br,gzip;q=1.0", "zipped"), ("BR ,\tgzip", "zipped")] {
        assert_eq!(world.get(&[("accept-encoding", accept)]).await.body, body, "{accept}");
    }
    assert_eq!(world.get(&[]).await.body, "plain");
    assert_eq!(world.asked(), 2);
}

#[tokio::test]
async fn request_directives_are_obeyed() {
    // RFC 9111 §5.2.1
    let world = World::new();
    world.answer(200, &[FRESH, ETAG], "hello");
    world.get(&[]).await;
    world.wait(10);
    for (field, answer) in [
        (("cache-control", "no-cache"), 304),
        (("pragma", "no-cache"), 304),
        (("cache-control", "max-age=0"), 304),
        (("cache-control", "min-fresh=100"), 304),
    ] {
        world.answer(answer, &[FRESH, ETAG], "");
        let got = world.get(&[field]).await;
        assert_eq!(got.cache_status(), "rproxy; fwd=request; fwd-status=304; stored", "{field:?}");
        world.wait(5);
    }
    world.answer(200, &[FRESH, ETAG], "unstored");
    let got = world.get(&[("cache-control", "no-store")]).await;
    assert_eq!((got.cache_status(), &got.body[..]), ("rproxy; fwd=bypass", &b"unstored"[..]));

    world.wait(60);
    let got = world.get(&[("cache-control", "max-stale=30")]).await;
    assert_eq!((got.cache_status(), &got.body[..]), ("rproxy; hit; ttl=-5; detail=max-stale", &b"hello"[..]));
    let got = world.get(&[("cache-control", "only-if-cached")]).await;
    assert_eq!(
        (got.status.as_u16(), &got.body[..], got.cache),
        (504, &b"Gateway Timeout\n"[..], Some(CacheStatus::OnlyIfCached))
    );
    let got = world.get(&[("cache-control", "only-if-cached, max-stale")]).await;
    assert_eq!(got.status.as_u16(), 200);
}

#[tokio::test]
async fn unsafe_methods_that_succeed_invalidate() {
    // RFC 9111 §4.4
    for method in ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "FOO"] {
        for (status, invalidates) in [(200, true), (303, true), (404, false), (500, false)] {
            let world = World::new();
            for path in ["/a", "/b", "/c"] {
                world.answer(200, &[FRESH], "x");
                world.send("GET", path, &[]).await;
            }
            world.answer(status, &[("location", "/b"), ("content-location", "http://example.org/c")], "");
            let got = world.send(method, "/a", &[]).await;
            assert_eq!(got.cache_status(), "rproxy; fwd=method");
            assert_eq!(world.store.stats().entries, if invalidates { 0 } else { 3 }, "{method} {status}");
        }
    }
}

#[tokio::test]
async fn other_origins_and_safe_methods_do_not_invalidate() {
    let world = World::new();
    world.answer(200, &[FRESH], "x");
    world.send("GET", "http://example.net/b", &[]).await;
    world.answer(200, &[("location", "http://example.net/b")], "");
    world.send("POST", "/a", &[]).await;
    world.answer(200, &[], "");
    world.send("OPTIONS", "http://example.net/b", &[]).await;
    assert_eq!(world.store.stats().entries, 1);
}

#[tokio::test]
async fn a_response_asked_for_before_an_invalidation_is_not_stored() {
    // RFC 9111 §4.4
    let world = World::new();
    world.answer(200, &[FRESH], "old");
    let mut request = Request::get("/a").body(Full::default()).unwrap();
    request.headers_mut().insert("host", HeaderValue::from_static("example.org"));
    let reading = world.service.clone().oneshot(request).await.unwrap();
    world.answer(204, &[], "");
    world.send("DELETE", "/a", &[]).await;
    assert_eq!(reading.into_body().collect().await.unwrap().to_bytes(), "old");
    assert_eq!(world.store.stats().entries, 0);
}

#[tokio::test]
async fn a_stale_response_stands_in_for_an_unreachable_origin() {
    // RFC 9111 §4.2.4
    let world = World::with(|layer| layer.stale_when_unreachable(Duration::from_secs(100)));
    world.answer(200, &[FRESH], "hello");
    world.get(&[]).await;
    world.wait(70);
    world.fail();
    let got = world.get(&[]).await;
    assert_eq!((got.cache, &got.body[..]), (Some(CacheStatus::Stale), &b"hello"[..]));
    assert_eq!(got.cache_status(), "rproxy; fwd=stale; ttl=-10; detail=stale-if-error");
    world.wait(91);
    world.fail();
    assert!(world.try_send("GET", "/a", &[], "").await.is_err());

    for forbidding in ["max-age=60, must-revalidate", "max-age=60, proxy-revalidate", "s-maxage=60"] {
        let world = World::new();
        world.answer(200, &[("cache-control", forbidding)], "hello");
        world.get(&[]).await;
        world.wait(60);
        world.fail();
        assert_eq!(world.try_send("GET", "/a", &[], "").await.err(), Some("connection refused"), "{forbidding}");
    }
}

#[tokio::test]
async fn a_server_error_is_hidden_only_by_stale_if_error() {
    // RFC 5861 §4
    for (cache_control, after, expected) in
        [("max-age=60", 60, 503), ("max-age=60, stale-if-error=9", 68, 200), ("max-age=60, stale-if-error=9", 69, 503)]
    {
        let world = World::new();
        world.answer(200, &[("cache-control", cache_control)], "hello");
        world.get(&[]).await;
        world.wait(after);
        world.answer(503, &[], "down");
        let got = world.get(&[]).await;
        assert_eq!(got.status.as_u16(), expected, "{cache_control} after {after}");
        if expected == 200 {
            assert_eq!(got.cache_status(), "rproxy; fwd=stale; fwd-status=503; ttl=-8; detail=stale-if-error");
        }
    }
}

#[tokio::test]
async fn a_proxys_own_502_counts_as_unreachable_when_said_so() {
    let world = World::with(|layer| layer.unreachable_when(|parts| parts.headers.contains_key("x-unreachable")));
    world.answer(200, &[FRESH], "hello");
    world.get(&[]).await;
    world.wait(60);
    world.answer(502, &[("x-unreachable", "1"), FRESH], "bad gateway");
    assert_eq!(world.get(&[]).await.body, "hello");
    world.answer(502, &[("x-unreachable", "1"), FRESH], "bad gateway");
    let got = world.send("GET", "/other", &[]).await;
    assert_eq!((got.status.as_u16(), got.cache_status()), (502, "rproxy; fwd=uri-miss"), "and is not stored");
}

#[tokio::test]
async fn stale_while_revalidate_serves_now_and_asks_once() {
    // RFC 5861 §3
    let world = World::new();
    world.answer(200, &[("cache-control", "max-age=60, stale-while-revalidate=30"), ETAG], "old");
    world.get(&[]).await;
    world.wait(70);
    world.answer(200, &[FRESH], "new");
    let first = world.get(&[]).await;
    assert_eq!((first.cache, &first.body[..]), (Some(CacheStatus::Stale), &b"old"[..]));
    assert_eq!(first.cache_status(), "rproxy; hit; ttl=-10; detail=stale-while-revalidate");
    // One revalidation at a time: nothing has yielded to it yet, and the origin has one answer.
    assert_eq!(world.get(&[]).await.body, "old");
    let stored = async {
        while world.store.stats().stored < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), stored).await.expect("the revalidation is never made");
    assert_eq!(world.last_asked().1["if-none-match"], ETAG.1);
    let hit = world.get(&[]).await;
    assert_eq!((hit.cache, &hit.body[..], world.asked()), (Some(CacheStatus::Hit), &b"new"[..], 2));
}

#[tokio::test]
async fn without_a_runtime_stale_while_revalidate_asks_first() {
    let world = World::new();
    world.answer(200, &[("cache-control", "max-age=60, stale-while-revalidate=30"), ETAG], "old");
    world.get(&[]).await;
    world.wait(70);
    world.answer(304, &[FRESH, ETAG], "");
    let mut request = Request::get("/a").body(Full::default()).unwrap();
    request.headers_mut().insert("host", HeaderValue::from_static("example.org"));
    let mut service = world.service.clone();
    let response = std::thread::spawn(move || {
        let future = service.call(request);
        let mut future = std::pin::pin!(future);
        match future.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(response) => response.unwrap(),
            Poll::Pending => panic!("the origin answers at once"),
        }
    });
    let response = response.join().unwrap();
    assert_eq!(response.extensions().get(), Some(&CacheStatus::Revalidated));
}

#[tokio::test]
async fn a_body_is_stored_only_if_it_ends_cleanly_and_fits() {
    let trailers = || Frame::trailers(map(&[("x", "1")]));
    let length = |length| [FRESH, ("content-length", length)];
    for (what, headers, body, stored) in [
        ("in pieces", &[FRESH][..], Frames::data(&["he", "", "llo"]), true),
        ("of the announced length", &length("5"), Frames::data(&["he", "llo"]), true),
        ("empty", &[FRESH], Frames::default(), true),
        ("shorter than announced", &length("6"), Frames::data(&["he", "llo"]), false),
        ("longer than announced", &length("4"), Frames::data(&["he", "llo"]), false),
        ("of nonsensical length", &length("5, 5"), Frames::data(&["hello"]), false),
        ("too large", &[FRESH], Frames::data(&["hello", "hello", "h"]), false),
        ("announced too large", &length("11"), Frames::data(&["hello", "hello", "h"]), false),
        ("as large as may be", &[FRESH], Frames::data(&["hello", "hello"]), true),
        ("with trailers", &[FRESH], Frames::data(&["hello"]).then(Ok(trailers())), false),
    ] {
        let world = World::with(|layer| layer.max_object(10));
        world.answer_with(200, headers, body);
        let got = world.get(&[]).await;
        assert_eq!(world.store.stats().entries, u64::from(stored), "{what}");
        if stored {
            let hit = world.get(&[]).await;
            assert_eq!((hit.cache, &hit.body), (Some(CacheStatus::Hit), &got.body), "{what}");
        }
    }
}

#[tokio::test]
async fn a_body_that_fails_is_an_error_to_its_client_and_not_stored() {
    // RFC 9111 §3.3
    let world = World::new();
    world.answer_with(200, &[FRESH], Frames::data(&["hel"]).then(Err("reset")));
    assert_eq!(world.try_send("GET", "/a", &[], "").await.err(), Some("reset"));
    assert_eq!(world.store.stats().entries, 0);
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing_behind() {
    let world = World::new();
    world.answer_with(200, &[FRESH], Frames::data(&["hel", "lo"]));
    let mut request = Request::get("/a").body(Full::default()).unwrap();
    request.headers_mut().insert("host", HeaderValue::from_static("example.org"));
    let mut body = world.service.clone().oneshot(request).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    assert_eq!(world.store.stats().entries, 0);
}

#[tokio::test]
async fn a_server_that_stops_reading_at_content_length_still_stores() {
    let world = World::new();
    world.answer_with(200, &[FRESH, ("content-length", "5")], Frames::data(&["hel", "lo"]));
    let mut request = Request::get("/a").body(Full::default()).unwrap();
    request.headers_mut().insert("host", HeaderValue::from_static("example.org"));
    let mut body = world.service.clone().oneshot(request).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    body.frame().await.unwrap().unwrap();
    drop(body);
    assert_eq!(world.store.stats().entries, 1);
}

#[tokio::test]
async fn what_is_not_for_a_cache_passes_by() {
    let world = World::with(|layer| layer.paths("/static/**".parse().unwrap()));
    for (method, path, headers, content, expected) in [
        ("GET", "/elsewhere", &[][..], "", ""),
        ("OPTIONS", "/elsewhere", &[], "", ""),
        ("POST", "/elsewhere", &[], "x", ""),
        ("GET", "/static/x", &[("upgrade", "websocket"), ("connection", "upgrade")], "", ""),
        ("GET", "/static/x", &[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")], "", ""),
        ("GET", "/static/x", &[], "content", "rproxy; fwd=bypass"),
        ("GET", "/static/x", &[("if-match", "\"x\"")], "", "rproxy; fwd=bypass"),
        ("GET", "/static/x", &[("if-unmodified-since", MODIFIED.1)], "", "rproxy; fwd=bypass"),
        ("OPTIONS", "/static/x", &[], "", "rproxy; fwd=method"),
        ("GET", "/static/../x", &[], "", ""),
    ] {
        world.answer(200, &[FRESH], "x");
        let got = world.try_send(method, path, headers, content).await.unwrap();
        assert_eq!(got.cache_status(), expected, "{method} {path} {headers:?}");
        assert_eq!(got.cache.is_some(), !expected.is_empty());
        assert_eq!(world.store.stats().entries, 0, "{method} {path} {headers:?}");
    }
}

#[tokio::test]
async fn an_unsafe_request_elsewhere_invalidates_what_it_names() {
    let world = World::with(|layer| layer.paths("/static/**".parse().unwrap()));
    world.answer(200, &[FRESH], "x");
    world.send("GET", "/static/x", &[]).await;
    world.answer(201, &[("location", "/static/x")], "");
    let got = world.send("POST", "/upload", &[]).await;
    assert_eq!((got.cache_status(), got.cache), ("", None));
    assert_eq!(world.store.stats().entries, 0);
}

#[tokio::test]
async fn two_hosts_are_no_key() {
    let world = World::new();
    world.answer(200, &[FRESH], "x");
    let mut request = Request::get("/a").body(Full::<Bytes>::default()).unwrap();
    for host in ["one.example", "two.example"] {
        request.headers_mut().append("host", HeaderValue::from_static(host));
    }
    let response = world.service.clone().oneshot(request).await.unwrap();
    assert_eq!(response.headers()["cache-status"], "rproxy; fwd=bypass");
}

#[tokio::test]
async fn an_account_page_in_disguise_is_never_stored() {
    let world = World::with(|layer| layer.paths("**/*.{css,js}".parse().unwrap()));
    world.answer(200, &[MODIFIED, ETAG, ("content-type", "text/html")], "your balance");
    assert_eq!(world.send("GET", "/account/x.css", &[]).await.cache_status(), "rproxy; fwd=uri-miss");
    assert_eq!(world.store.stats().entries, 0);
}

#[tokio::test]
async fn upstream_caches_keep_their_place_in_cache_status() {
    // RFC 9211 §2
    let world = World::new();
    world.answer(200, &[FRESH, ("cache-status", "Origin; hit"), ("age", "20")], "x");
    world.get(&[]).await;
    let hit = world.get(&[]).await;
    assert_eq!((hit.cache_status(), hit.age()), ("Origin; hit, rproxy; hit; ttl=40", "20"));
}

#[tokio::test]
async fn a_purge_drops_and_the_next_request_asks() {
    let world = World::new();
    world.answer(200, &[FRESH], "x");
    world.get(&[]).await;
    assert_eq!(world.store.purge(&Purge::url("http://example.org/a").unwrap()), 1);
    world.answer(200, &[FRESH], "y");
    assert_eq!(world.get(&[]).await.body, "y");
}

#[tokio::test]
async fn a_hit_shares_the_stored_bytes() {
    let world = World::new();
    world.answer(200, &[FRESH], "hello");
    world.get(&[]).await;
    let (one, two) = (world.get(&[]).await.body, world.get(&[]).await.body);
    assert_eq!(one.as_ptr(), two.as_ptr());
}

#[tokio::test]
async fn only_the_ready_service_is_called() {
    let (mut service, mut handle) =
        tower_test::mock::spawn_with(|inner| CacheLayer::new(CacheStore::in_memory(1 << 20)).layer(inner));
    handle.allow(0);
    assert!(service.poll_ready().is_pending());
    handle.allow(1);
    assert!(service.poll_ready().is_ready());
    let request: Request<Full<Bytes>> = Request::get("/a").body(Full::default()).unwrap();
    let response = service.call(request);
    let (_, send) = handle.next_request().await.unwrap();
    send.send_response(Response::new(Full::<Bytes>::from("x")));
    assert_eq!(response.await.unwrap().into_body().collect().await.unwrap().to_bytes(), "x");
}
