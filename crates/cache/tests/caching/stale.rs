//! Stale responses: RFC 9111 §4.2.4, RFC 5861.

use crate::world::*;

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
