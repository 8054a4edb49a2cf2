//! Tests of the reuse of stored responses (RFC 9111 §4).

use crate::harness::*;

#[tokio::test]
async fn serves_a_fresh_response_with_an_age_field() {
    // RFC 9111 §4
    let harness = Harness::new();
    harness.respond(200, &[FRESH, ("x", "1"), ("connection", "keep-alive")], "hello");
    let miss = harness.get(&[]).await;
    assert_eq!((miss.cache_status(), &miss.body[..]), ("rproxy; fwd=uri-miss; stored", &b"hello"[..]));
    assert_eq!(miss.cache, Some(CacheStatus::Forwarded(ForwardReason::UriMiss)));

    harness.advance(7);
    let hit = harness.get(&[]).await;
    assert_eq!((hit.cache_status(), &hit.body[..]), ("rproxy; hit; ttl=53", &b"hello"[..]));
    assert_eq!(
        (hit.age(), &hit.headers["x"], hit.cache),
        ("7", &HeaderValue::from_static("1"), Some(CacheStatus::Hit))
    );
    assert_eq!(hit.headers["date"], "Sun, 06 Nov 1994 08:49:37 GMT");
    assert_eq!(hit.headers["content-length"], "5");
    assert!(!hit.headers.contains_key("connection"));

    let stats = harness.store.stats();
    assert_eq!((harness.origin_requests(), stats.hits, stats.misses, stats.stored, stats.entries), (1, 1, 1, 1, 1));
    assert!(stats.weighted_size > 300, "{stats:?}");
}

#[tokio::test]
async fn cache_keys_include_scheme_host_and_query() {
    let harness = Harness::new();
    for (n, uri) in ["/a", "/a?b", "/A", "https://example.org/a", "http://example.net/a"].into_iter().enumerate() {
        harness.respond(200, &[FRESH], "x");
        let got = harness.send("GET", uri, &[]).await;
        assert_eq!((got.cache_status(), harness.origin_requests()), ("rproxy; fwd=uri-miss; stored", n + 1), "{uri}");
    }
    assert_eq!(harness.send("GET", "http://EXAMPLE.org:80/a", &[]).await.cache, Some(CacheStatus::Hit));
}

#[tokio::test]
async fn stores_variants_of_a_resource_separately() {
    // RFC 9111 §4.1
    let harness = Harness::new();
    let vary = ("vary", "Accept-Encoding");
    harness.respond(200, &[FRESH, vary, ("content-encoding", "gzip")], "zipped");
    harness.get(&[("accept-encoding", "gzip, br")]).await;
    harness.respond(200, &[FRESH, vary], "plain");
    assert_eq!(harness.get(&[]).await.cache_status(), "rproxy; fwd=vary-miss; stored");
    for (accept, body) in [("gzip, br", "zipped"), ("br,gzip;q=1.0", "zipped"), ("BR ,\tgzip", "zipped")] {
        assert_eq!(harness.get(&[("accept-encoding", accept)]).await.body, body, "{accept}");
    }
    assert_eq!(harness.get(&[]).await.body, "plain");
    assert_eq!(harness.origin_requests(), 2);
}

#[tokio::test]
async fn request_directives_do_not_bypass_a_fresh_response_by_default() {
    let harness = Harness::new();
    harness.respond(200, &[FRESH, ETAG], "hello");
    harness.get(&[]).await;
    for field in [
        ("cache-control", "no-cache"),
        ("pragma", "no-cache"),
        ("cache-control", "max-age=0"),
        ("cache-control", "min-fresh=100"),
        ("cache-control", "no-store"),
        ("cache-control", "no-store, no-cache, max-age=0"),
    ] {
        let got = harness.get(&[field]).await;
        assert_eq!((got.cache, &got.body[..]), (Some(CacheStatus::Hit), &b"hello"[..]), "{field:?}");
    }
    assert_eq!(harness.origin_requests(), 1);

    // RFC 9111 §5.2.1.5: if no fresh response is stored, no-store prevents that the response is stored.
    harness.advance(60);
    harness.respond(200, &[FRESH, ETAG], "unstored");
    let got = harness.get(&[("cache-control", "no-store")]).await;
    assert_eq!((got.cache_status(), &got.body[..]), ("rproxy; fwd=bypass", &b"unstored"[..]));
    assert!(!harness.last_request().1.contains_key("if-none-match"));
    let got = harness.get(&[("cache-control", "only-if-cached, no-store")]).await;
    assert_eq!(got.status.as_u16(), 504);
    harness.respond(304, &[FRESH, ETAG], "");
    assert_eq!(harness.get(&[]).await.body, "hello");
}

#[tokio::test]
async fn request_with_no_store_prevents_background_validation() {
    // RFC 5861 §3
    let harness = Harness::new();
    harness.respond(200, &[("cache-control", "max-age=60, stale-while-revalidate=60"), ETAG], "hello");
    harness.get(&[]).await;
    harness.advance(70);
    let got = harness.get(&[("cache-control", "no-store")]).await;
    assert_eq!((got.cache, &got.body[..]), (Some(CacheStatus::Stale), &b"hello"[..]));
    tokio::task::yield_now().await;
    assert_eq!(harness.origin_requests(), 1);
}

#[tokio::test]
async fn honours_request_directives_if_enabled() {
    // RFC 9111 §5.2.1
    let harness = Harness::with(|layer| layer.request_directives(true));
    harness.respond(200, &[FRESH, ETAG], "hello");
    harness.get(&[]).await;
    harness.advance(10);
    for (field, answer) in [
        (("cache-control", "no-cache"), 304),
        (("pragma", "no-cache"), 304),
        (("cache-control", "max-age=0"), 304),
        (("cache-control", "min-fresh=100"), 304),
    ] {
        harness.respond(answer, &[FRESH, ETAG], "");
        let got = harness.get(&[field]).await;
        assert_eq!(got.cache_status(), "rproxy; fwd=request; fwd-status=304; stored", "{field:?}");
        harness.advance(5);
    }
    harness.respond(200, &[FRESH, ETAG], "unstored");
    let got = harness.get(&[("cache-control", "no-store")]).await;
    assert_eq!((got.cache_status(), &got.body[..]), ("rproxy; fwd=bypass", &b"unstored"[..]));

    harness.advance(60);
    let got = harness.get(&[("cache-control", "max-stale=30")]).await;
    assert_eq!((got.cache_status(), &got.body[..]), ("rproxy; hit; ttl=-5; detail=max-stale", &b"hello"[..]));
    let got = harness.get(&[("cache-control", "only-if-cached")]).await;
    assert_eq!(
        (got.status.as_u16(), &got.body[..], got.cache),
        (504, &b"Gateway Timeout\n"[..], Some(CacheStatus::OnlyIfCached))
    );
    let got = harness.get(&[("cache-control", "only-if-cached, max-stale")]).await;
    assert_eq!(got.status.as_u16(), 200);
}

#[tokio::test]
async fn preserves_cache_status_members_of_other_caches() {
    // RFC 9211 §2
    let harness = Harness::new();
    harness.respond(200, &[FRESH, ("cache-status", "Origin; hit"), ("age", "20")], "x");
    harness.get(&[]).await;
    let hit = harness.get(&[]).await;
    assert_eq!((hit.cache_status(), hit.age()), ("Origin; hit, rproxy; hit; ttl=40", "20"));
}

#[tokio::test]
async fn purged_resources_are_fetched_from_the_origin_again() {
    let harness = Harness::new();
    harness.respond(200, &[FRESH], "x");
    harness.get(&[]).await;
    assert_eq!(harness.store.purge(&Purge::url("http://example.org/a").unwrap()), 1);
    harness.respond(200, &[FRESH], "y");
    assert_eq!(harness.get(&[]).await.body, "y");
}

#[tokio::test]
async fn cache_hit_shares_the_stored_bytes_without_copying_them() {
    let harness = Harness::new();
    harness.respond(200, &[FRESH], "hello");
    harness.get(&[]).await;
    let (one, two) = (harness.get(&[]).await.body, harness.get(&[]).await.body);
    assert_eq!(one.as_ptr(), two.as_ptr());
}

#[tokio::test]
async fn targeted_cache_control_fields_override_cache_control() {
    // RFC 9213 §2.2
    let harness = Harness::new();
    for (headers, reused) in [
        (&[("cdn-cache-control", "max-age=60"), ("cache-control", "no-store")][..], true),
        (&[("cdn-cache-control", "max-age=60"), ("expires", "0")], true),
        (&[("cdn-cache-control", "max-age=0"), FRESH], false),
        (&[("cdn-cache-control", "no-store"), FRESH], false),
        (&[("cdn-cache-control", "no-cache"), FRESH], false),
        (&[("cdn-cache-control", "private"), FRESH], false),
        (&[("cdn-cache-control", "max-age=60, &&"), ("cache-control", "no-store")], false),
        (&[("rproxy-cache-control", "max-age=60"), ("cdn-cache-control", "no-store")], true),
    ] {
        for age in [0, 20] {
            harness.respond(200, headers, "x");
            if age == 0 || !reused {
                harness.get(&[]).await;
            }
            harness.advance(age);
            harness.origin.responses.lock().unwrap().clear();
        }
        harness.respond(200, headers, "y");
        let got = harness.get(&[]).await;
        assert_eq!(got.cache == Some(CacheStatus::Hit), reused, "{headers:?}");
        assert_eq!(got.headers[headers[0].0], headers[0].1, "passed on, RFC 9213 §2");
        harness.store.purge(&Purge::All);
        harness.origin.responses.lock().unwrap().clear();
    }
}

#[tokio::test]
async fn a_stored_response_contains_no_cookie_of_another_client() {
    // RFC 9111 §7.3
    let harness = Harness::new();
    harness.respond(200, &[FRESH, ("set-cookie", "session=1"), ("set-cookie", "x=1")], "page");
    assert_eq!(harness.get(&[]).await.headers.get_all("set-cookie").iter().count(), 2);
    let hit = harness.get(&[("cookie", "other=1")]).await;
    assert_eq!((hit.cache, &hit.body[..]), (Some(CacheStatus::Hit), &b"page"[..]));
    assert!(!hit.headers.contains_key("set-cookie"));
}

#[tokio::test]
async fn reuses_responses_of_all_supported_status_codes_with_explicit_freshness() {
    // RFC 9111 §3
    for status in (200..600).filter(|status| !matches!(status, 205 | 206 | 304 | 412 | 416)) {
        let harness = Harness::new();
        harness.respond(status, &[FRESH], if status == 204 { "" } else { "x" });
        harness.get(&[]).await;
        let hit = harness.get(&[]).await;
        assert_eq!((hit.status.as_u16(), hit.cache), (status, Some(CacheStatus::Hit)));
        harness.advance(60);
        harness.respond(200, &[], "new");
        assert_eq!(harness.get(&[]).await.body, "new", "{status}");
    }
}
