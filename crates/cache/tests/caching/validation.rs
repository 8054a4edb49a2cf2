//! Conditional requests: RFC 9111 §4.3.

use crate::world::*;

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
async fn a_clients_condition_goes_to_the_origin_when_nothing_is_to_be_shared() {
    let world = World::with(|layer| layer.collapse(Duration::ZERO));
    world.answer(304, &[ETAG], "");
    let got = world.get(&[("if-none-match", ETAG.1)]).await;
    assert_eq!((got.status, got.cache_status()), (StatusCode::NOT_MODIFIED, "rproxy; fwd=uri-miss"));
    assert_eq!(world.last_asked().1["if-none-match"], ETAG.1);
    assert_eq!(world.store.stats().stored, 0);
}

#[tokio::test]
async fn a_client_that_has_it_already_fills_the_store_all_the_same() {
    // RFC 9111 §4.3.2: evaluated on what the origin says now.
    for (condition, has_it) in [
        (("if-none-match", ETAG.1), true),
        (("if-modified-since", MODIFIED.1), true),
        (("if-none-match", "\"v0\""), false),
    ] {
        let world = World::new();
        world.answer(200, &[FRESH, ETAG, MODIFIED, ("content-type", "text/css")], "hello");
        let got = world.get(&[condition]).await;
        let (_, asked) = world.last_asked();
        assert!(!asked.contains_key("if-none-match") && !asked.contains_key("if-modified-since"));
        assert_eq!(got.cache_status(), "rproxy; fwd=uri-miss; stored");
        assert_eq!((got.status == StatusCode::NOT_MODIFIED, got.body.is_empty()), (has_it, has_it), "{condition:?}");
        assert_eq!(got.headers.contains_key("content-type"), !has_it);
        // The rest of it is read in the background.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let hit = world.get(&[]).await;
        assert_eq!((hit.cache, &hit.body[..]), (Some(CacheStatus::Hit), &b"hello"[..]), "{condition:?}");
    }
}

#[tokio::test]
async fn a_client_that_has_what_may_not_be_stored_is_told_so() {
    let world = World::new();
    for asked in [false, true] {
        world.answer(if asked { 304 } else { 200 }, &[("cache-control", "private"), ETAG], "hello");
        let got = world.get(&[("if-none-match", ETAG.1)]).await;
        assert_eq!((got.status, got.cache_status()), (StatusCode::NOT_MODIFIED, "rproxy; fwd=uri-miss"));
        assert_eq!(world.last_asked().1.contains_key("if-none-match"), asked, "once bitten");
    }
}
