//! Tests of methods other than GET (RFC 9111 §4.4, RFC 9110 §9).

use crate::harness::*;

#[tokio::test]
async fn serves_head_requests_from_a_stored_get_response() {
    // RFC 9110 §9.3.2
    let harness = Harness::new();
    harness.respond(200, &[FRESH, ("content-length", "5")], "");
    assert_eq!(harness.send("HEAD", "/a", &[]).await.cache_status(), "rproxy; fwd=uri-miss");
    harness.respond(200, &[FRESH], "hello");
    assert_eq!(harness.get(&[]).await.cache_status(), "rproxy; fwd=uri-miss; stored");
    let head = harness.send("HEAD", "/a", &[("range", "bytes=0-1")]).await;
    assert_eq!((head.status, head.cache, head.body.len()), (StatusCode::OK, Some(CacheStatus::Hit), 0));
    assert_eq!(head.headers["content-length"], "5");
}

#[tokio::test]
async fn response_to_head_updates_or_removes_the_stored_response() {
    // RFC 9111 §4.3.5
    let harness = Harness::new();
    harness.respond(200, &[FRESH, ETAG], "hello");
    harness.get(&[]).await;
    harness.advance(60);
    harness.respond(200, &[("cache-control", "max-age=99"), ETAG, ("x", "2"), ("content-length", "5")], "");
    assert_eq!(harness.send("HEAD", "/a", &[]).await.cache_status(), "rproxy; fwd=stale");
    assert!(!harness.last_request().1.contains_key("if-none-match"));
    let hit = harness.get(&[]).await;
    assert_eq!(
        (hit.cache_status(), &hit.headers["x"], &hit.body[..]),
        ("rproxy; hit; ttl=99", &"2".parse().unwrap(), &b"hello"[..])
    );

    harness.advance(99);
    harness.respond(200, &[FRESH, ETAG, ("content-length", "6")], "");
    harness.send("HEAD", "/a", &[]).await;
    assert_eq!(harness.store.stats().entries, 0, "another length: another representation");
}

#[tokio::test]
async fn successful_unsafe_requests_invalidate_the_target_url() {
    // RFC 9111 §4.4
    for method in ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "FOO"] {
        for (status, invalidates) in [(200, true), (303, true), (404, false), (500, false)] {
            let harness = Harness::new();
            for path in ["/a", "/b", "/c"] {
                harness.respond(200, &[FRESH], "x");
                harness.send("GET", path, &[]).await;
            }
            harness.respond(status, &[("location", "/b"), ("content-location", "http://example.org/c")], "");
            let got = harness.send(method, "/a", &[]).await;
            assert_eq!(got.cache_status(), "rproxy; fwd=method");
            assert_eq!(harness.store.stats().entries, if invalidates { 0 } else { 3 }, "{method} {status}");
        }
    }
}

#[tokio::test]
async fn safe_requests_and_references_to_other_origins_invalidate_no_responses() {
    let harness = Harness::new();
    harness.respond(200, &[FRESH], "x");
    harness.send("GET", "http://example.net/b", &[]).await;
    harness.respond(200, &[("location", "http://example.net/b")], "");
    harness.send("POST", "/a", &[]).await;
    harness.respond(200, &[], "");
    harness.send("OPTIONS", "http://example.net/b", &[]).await;
    assert_eq!(harness.store.stats().entries, 1);
}

#[tokio::test]
async fn does_not_store_a_response_that_was_fetched_before_an_invalidation() {
    // RFC 9111 §4.4
    let harness = Harness::new();
    harness.respond(200, &[FRESH], "old");
    let mut request = Request::get("/a").body(Full::default()).unwrap();
    request.headers_mut().insert("host", HeaderValue::from_static("example.org"));
    let reading = harness.service.clone().oneshot(request).await.unwrap();
    harness.respond(204, &[], "");
    harness.send("DELETE", "/a", &[]).await;
    assert_eq!(reading.into_body().collect().await.unwrap().to_bytes(), "old");
    assert_eq!(harness.store.stats().entries, 0);
}

#[tokio::test]
async fn unsafe_requests_invalidate_the_urls_in_location_and_content_location() {
    let harness = Harness::with(|layer| layer.paths("/static/**".parse().unwrap()));
    harness.respond(200, &[FRESH], "x");
    harness.send("GET", "/static/x", &[]).await;
    harness.respond(201, &[("location", "/static/x")], "");
    let got = harness.send("POST", "/upload", &[]).await;
    assert_eq!((got.cache_status(), got.cache), ("", None));
    assert_eq!(harness.store.stats().entries, 0);
}

#[tokio::test]
async fn post_response_with_content_location_serves_later_get_requests() {
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
        let harness = Harness::new();
        harness.respond(status, headers, "state");
        let posted = harness.try_send("POST", "/a", &[], "order").await.unwrap();
        let expected = if stored { "rproxy; fwd=method; stored" } else { "rproxy; fwd=method" };
        assert_eq!(posted.cache_status(), expected, "{status} {headers:?}");
        if stored {
            let got = harness.get(&[]).await;
            assert_eq!((got.cache, &got.body[..]), (Some(CacheStatus::Hit), &b"state"[..]));
        }
        assert_eq!(harness.store.stats().entries, u64::from(stored), "{status} {headers:?}");
    }
    let harness = Harness::new();
    harness.respond(200, &[lifetime, ("content-location", "/a")], "state");
    harness.send("POST", "/a", &[("cache-control", "no-store")]).await;
    assert_eq!(harness.store.stats().entries, 0, "RFC 9111 §5.2.1.5");
}
