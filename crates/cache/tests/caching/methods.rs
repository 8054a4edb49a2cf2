//! Methods other than GET: RFC 9111 §4.4, RFC 9110 §9.

use crate::world::*;

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
async fn the_answer_to_a_post_serves_get_if_it_says_that_it_is_the_resource() {
    // RFC 9110 §9.3.3
    let lifetime = ("expires", "Mon, 07 Nov 1994 08:49:37 GMT");
    for (status, headers, stored) in [
        (200, &[lifetime, ("content-location", "/a")][..], true),
        (200, &[FRESH, ("content-location", "http://example.org/a")], true),
        (200, &[lifetime, ("content-location", "/b")], false),
        (200, &[lifetime, ("content-location", "https://example.org/a")], false),
        (200, &[lifetime], false),
        (200, &[MODIFIED, ("content-location", "/a")], false),
        (200, &[("cache-control", "no-store, max-age=60"), ("content-location", "/a")], false),
        (201, &[lifetime, ("content-location", "/a")], false),
        (404, &[lifetime, ("content-location", "/a")], false),
    ] {
        let world = World::new();
        world.answer(status, headers, "state");
        let posted = world.try_send("POST", "/a", &[], "order").await.unwrap();
        let expected = if stored { "rproxy; fwd=method; stored" } else { "rproxy; fwd=method" };
        assert_eq!(posted.cache_status(), expected, "{status} {headers:?}");
        if stored {
            let got = world.get(&[]).await;
            assert_eq!((got.cache, &got.body[..]), (Some(CacheStatus::Hit), &b"state"[..]));
        }
        assert_eq!(world.store.stats().entries, u64::from(stored), "{status} {headers:?}");
    }
    let world = World::new();
    world.answer(200, &[lifetime, ("content-location", "/a")], "state");
    world.send("POST", "/a", &[("cache-control", "no-store")]).await;
    assert_eq!(world.store.stats().entries, 0, "RFC 9111 §5.2.1.5");
}
