//! Tests of stale responses (RFC 9111 §4.2.4, RFC 5861).

use crate::harness::*;

#[tokio::test]
async fn serves_stale_responses_while_the_origin_is_unreachable() {
    // RFC 9111 §4.2.4
    let harness = Harness::with(|layer| layer.stale_when_unreachable(Duration::from_secs(100)));
    harness.respond(200, &[FRESH], "hello");
    harness.get(&[]).await;
    harness.advance(70);
    harness.fail();
    let got = harness.get(&[]).await;
    assert_eq!((got.cache, &got.body[..]), (Some(CacheStatus::StaleIfError), &b"hello"[..]));
    assert_eq!(got.cache_status(), "rproxy; fwd=stale; ttl=-10; detail=stale-if-error");
    harness.advance(91);
    harness.fail();
    assert!(harness.try_send("GET", "/a", &[], "").await.is_err());

    for forbidding in ["max-age=60, must-revalidate", "max-age=60, proxy-revalidate", "s-maxage=60"] {
        let harness = Harness::new();
        harness.respond(200, &[("cache-control", forbidding)], "hello");
        harness.get(&[]).await;
        harness.advance(60);
        harness.fail();
        assert_eq!(harness.try_send("GET", "/a", &[], "").await.err(), Some("connection refused"), "{forbidding}");
    }
}

#[tokio::test]
async fn server_error_is_replaced_by_a_stale_response_only_with_stale_if_error() {
    // RFC 5861 §4
    for (cache_control, after, expected) in
        [("max-age=60", 60, 503), ("max-age=60, stale-if-error=9", 68, 200), ("max-age=60, stale-if-error=9", 69, 503)]
    {
        let harness = Harness::new();
        harness.respond(200, &[("cache-control", cache_control)], "hello");
        harness.get(&[]).await;
        harness.advance(after);
        harness.respond(503, &[], "down");
        let got = harness.get(&[]).await;
        assert_eq!(got.status.as_u16(), expected, "{cache_control} after {after}");
        if expected == 200 {
            assert_eq!(got.cache_status(), "rproxy; fwd=stale; fwd-status=503; ttl=-8; detail=stale-if-error");
        }
    }
}

#[tokio::test]
async fn unreachable_hook_applies_to_502_responses_of_an_inner_proxy() {
    let harness = Harness::with(|layer| layer.unreachable_when(|parts| parts.headers.contains_key("x-unreachable")));
    harness.respond(200, &[FRESH], "hello");
    harness.get(&[]).await;
    harness.advance(60);
    harness.respond(502, &[("x-unreachable", "1"), FRESH], "bad gateway");
    assert_eq!(harness.get(&[]).await.body, "hello");
    harness.respond(502, &[("x-unreachable", "1"), FRESH], "bad gateway");
    let got = harness.send("GET", "/other", &[]).await;
    assert_eq!((got.status.as_u16(), got.cache_status()), (502, "rproxy; fwd=uri-miss"), "and is not stored");
}

#[tokio::test]
async fn serves_stale_responses_while_one_request_revalidates() {
    // RFC 5861 §3
    let harness = Harness::new();
    harness.respond(200, &[("cache-control", "max-age=60, stale-while-revalidate=30"), ETAG], "old");
    harness.get(&[]).await;
    harness.advance(70);
    harness.respond(200, &[FRESH], "new");
    let first = harness.get(&[]).await;
    assert_eq!((first.cache, &first.body[..]), (Some(CacheStatus::Stale), &b"old"[..]));
    assert_eq!(first.cache_status(), "rproxy; hit; ttl=-10; detail=stale-while-revalidate");
    // Only one revalidation at a time: it has not run yet, and the origin has one response.
    assert_eq!(harness.get(&[]).await.body, "old");
    let stored = async {
        while harness.store.stats().stored < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), stored).await.expect("no revalidation is sent");
    assert_eq!(harness.last_request().1["if-none-match"], ETAG.1);
    let hit = harness.get(&[]).await;
    assert_eq!((hit.cache, &hit.body[..], harness.origin_requests()), (Some(CacheStatus::Hit), &b"new"[..], 2));
}

#[tokio::test]
async fn validates_stale_responses_before_reuse_outside_a_tokio_runtime() {
    let harness = Harness::new();
    harness.respond(200, &[("cache-control", "max-age=60, stale-while-revalidate=30"), ETAG], "old");
    harness.get(&[]).await;
    harness.advance(70);
    harness.respond(304, &[FRESH, ETAG], "");
    let mut request = Request::get("/a").body(Full::default()).unwrap();
    request.headers_mut().insert("host", HeaderValue::from_static("example.org"));
    let mut service = harness.service.clone();
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
