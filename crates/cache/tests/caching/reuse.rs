//! What is answered from the store: RFC 9111 §4.

use crate::world::*;

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
async fn clients_do_not_send_their_requests_past_a_fresh_response() {
    let world = World::new();
    world.answer(200, &[FRESH, ETAG], "hello");
    world.get(&[]).await;
    for field in [
        ("cache-control", "no-cache"),
        ("pragma", "no-cache"),
        ("cache-control", "max-age=0"),
        ("cache-control", "min-fresh=100"),
        ("cache-control", "no-store"),
        ("cache-control", "no-store, no-cache, max-age=0"),
    ] {
        let got = world.get(&[field]).await;
        assert_eq!((got.cache, &got.body[..]), (Some(CacheStatus::Hit), &b"hello"[..]), "{field:?}");
    }
    assert_eq!(world.asked(), 1);

    // RFC 9111 §5.2.1.5: where nothing fresh is stored, no-store keeps the response out of the store.
    world.wait(60);
    world.answer(200, &[FRESH, ETAG], "unstored");
    let got = world.get(&[("cache-control", "no-store")]).await;
    assert_eq!((got.cache_status(), &got.body[..]), ("rproxy; fwd=bypass", &b"unstored"[..]));
    assert!(!world.last_asked().1.contains_key("if-none-match"));
    let got = world.get(&[("cache-control", "only-if-cached, no-store")]).await;
    assert_eq!(got.status.as_u16(), 504);
    world.answer(304, &[FRESH, ETAG], "");
    assert_eq!(world.get(&[]).await.body, "hello");
}

#[tokio::test]
async fn a_client_that_forbids_storing_starts_no_validation_in_the_background() {
    // RFC 5861 §3
    let world = World::new();
    world.answer(200, &[("cache-control", "max-age=60, stale-while-revalidate=60"), ETAG], "hello");
    world.get(&[]).await;
    world.wait(70);
    let got = world.get(&[("cache-control", "no-store")]).await;
    assert_eq!((got.cache, &got.body[..]), (Some(CacheStatus::Stale), &b"hello"[..]));
    tokio::task::yield_now().await;
    assert_eq!(world.asked(), 1);
}

#[tokio::test]
async fn request_directives_are_obeyed_where_they_are_honoured() {
    // RFC 9111 §5.2.1
    let world = World::with(|layer| layer.request_directives(true));
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
async fn what_is_said_to_this_cache_counts_and_not_what_is_said_to_all() {
    // RFC 9213 §2.2
    let world = World::new();
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
            world.answer(200, headers, "x");
            if age == 0 || !reused {
                world.get(&[]).await;
            }
            world.wait(age);
            world.origin.answers.lock().unwrap().clear();
        }
        world.answer(200, headers, "y");
        let got = world.get(&[]).await;
        assert_eq!(got.cache == Some(CacheStatus::Hit), reused, "{headers:?}");
        assert_eq!(got.headers[headers[0].0], headers[0].1, "passed on, RFC 9213 §2");
        world.store.purge(&Purge::All);
        world.origin.answers.lock().unwrap().clear();
    }
}

#[tokio::test]
async fn a_cookie_reaches_the_one_it_was_made_for_and_nobody_else() {
    // RFC 9111 §7.3
    let world = World::new();
    world.answer(200, &[FRESH, ("set-cookie", "session=1"), ("set-cookie", "x=1")], "page");
    assert_eq!(world.get(&[]).await.headers.get_all("set-cookie").iter().count(), 2);
    let hit = world.get(&[("cookie", "other=1")]).await;
    assert_eq!((hit.cache, &hit.body[..]), (Some(CacheStatus::Hit), &b"page"[..]));
    assert!(!hit.headers.contains_key("set-cookie"));
}

#[tokio::test]
async fn every_final_status_is_reused_while_explicitly_fresh() {
    // RFC 9111 §3
    for status in (200..600).filter(|status| !matches!(status, 205 | 206 | 304 | 412 | 416)) {
        let world = World::new();
        world.answer(status, &[FRESH], if status == 204 { "" } else { "x" });
        world.get(&[]).await;
        let hit = world.get(&[]).await;
        assert_eq!((hit.status.as_u16(), hit.cache), (status, Some(CacheStatus::Hit)));
        world.wait(60);
        world.answer(200, &[], "new");
        assert_eq!(world.get(&[]).await.body, "new", "{status}");
    }
}
