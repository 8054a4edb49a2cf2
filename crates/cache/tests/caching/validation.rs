//! Tests of validation and conditional requests (RFC 9111 §4.3).

use crate::harness::*;

#[tokio::test]
async fn a_304_response_validates_and_updates_a_stale_response() {
    // RFC 9111 §4.3
    let harness = Harness::new();
    harness.respond(200, &[FRESH, ETAG, MODIFIED, ("x", "1"), ("y", "1")], "hello");
    harness.get(&[]).await;
    harness.advance(60);
    harness.respond(304, &[("cache-control", "max-age=100"), ETAG, ("x", "2"), ("set-cookie", "a=b")], "");
    let validated = harness.get(&[]).await;
    let (_, asked) = harness.last_request();
    assert_eq!(
        (&asked["if-none-match"], &asked["if-modified-since"]),
        (&ETAG.1.parse().unwrap(), &MODIFIED.1.parse().unwrap())
    );
    assert_eq!((validated.status, &validated.body[..]), (StatusCode::OK, &b"hello"[..]));
    assert_eq!(validated.cache_status(), "rproxy; fwd=stale; fwd-status=304; stored");
    assert_eq!(validated.cache, Some(CacheStatus::Revalidated));
    assert_eq!((&validated.headers["x"], &validated.headers["y"]), (&"2".parse().unwrap(), &"1".parse().unwrap()));
    assert_eq!(validated.headers["set-cookie"], "a=b", "for the client of the exchange");

    harness.advance(99);
    let hit = harness.get(&[]).await;
    assert_eq!((hit.cache_status(), hit.age(), &hit.body[..]), ("rproxy; hit; ttl=1", "99", &b"hello"[..]));
    assert_eq!(hit.headers["x"], "2");
    assert!(!hit.headers.contains_key("set-cookie"), "and for nobody else");
}

#[tokio::test]
async fn a_200_response_replaces_the_stale_response() {
    // RFC 9111 §4.3.3
    let harness = Harness::new();
    harness.respond(200, &[FRESH, ETAG], "old");
    harness.get(&[]).await;
    harness.advance(60);
    harness.respond(200, &[FRESH, ("etag", "\"v2\"")], "new");
    assert_eq!(harness.get(&[]).await.cache_status(), "rproxy; fwd=stale; stored");
    let hit = harness.get(&[]).await;
    assert_eq!((hit.cache, &hit.body[..]), (Some(CacheStatus::Hit), &b"new"[..]));
}

#[tokio::test]
async fn a_response_that_cannot_be_stored_removes_the_stale_response() {
    let harness = Harness::new();
    harness.respond(200, &[FRESH, ETAG], "old");
    harness.get(&[]).await;
    harness.advance(60);
    harness.respond(200, &[("cache-control", "private")], "new");
    assert_eq!(harness.get(&[]).await.cache_status(), "rproxy; fwd=stale");
    harness.fail();
    assert!(harness.try_send("GET", "/a", &[], "").await.is_err(), "no stale response is left");
}

#[tokio::test]
async fn does_not_merge_a_304_response_with_different_validators() {
    // RFC 9111 §4.3.4
    let harness = Harness::new();
    harness.respond(200, &[FRESH, ETAG], "old");
    harness.get(&[]).await;
    harness.advance(60);
    harness.respond(304, &[FRESH, ("etag", "\"v2\"")], "");
    let got = harness.get(&[]).await;
    assert_eq!((got.status, &got.headers["etag"]), (StatusCode::OK, &ETAG.1.parse().unwrap()));
    harness.respond(200, &[FRESH, ("etag", "\"v2\"")], "new");
    let got = harness.get(&[]).await;
    assert_eq!((got.cache_status(), &got.body[..]), ("rproxy; fwd=uri-miss; stored", &b"new"[..]));
}

#[tokio::test]
async fn serves_conditional_requests_from_the_store() {
    // RFC 9111 §4.3.2
    let harness = Harness::new();
    harness.respond(200, &[FRESH, ETAG, MODIFIED, ("vary", "foo"), ("content-type", "text/plain")], "hello");
    harness.get(&[]).await;
    for (condition, expected) in [
        (("if-none-match", "\"v1\""), 304),
        (("if-none-match", "\"x\", W/\"v1\""), 304),
        (("if-none-match", "\"v2\""), 200),
        (("if-modified-since", MODIFIED.1), 304),
        (("if-modified-since", "Friday, 04-Nov-94 08:49:37 GMT"), 200),
    ] {
        let got = harness.get(&[condition]).await;
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
    assert_eq!(harness.origin_requests(), 1);
}

#[tokio::test]
async fn evaluates_the_precondition_of_the_client_after_validation() {
    // RFC 9111 §4.3.2
    let harness = Harness::new();
    harness.respond(200, &[FRESH, ETAG], "hello");
    harness.get(&[]).await;
    for (condition, expected) in [("\"v1\"", 304), ("\"other\"", 200)] {
        harness.advance(60);
        harness.respond(304, &[FRESH, ETAG], "");
        let got = harness.get(&[("if-none-match", condition)]).await;
        assert_eq!(harness.last_request().1["if-none-match"], ETAG.1, "ours, not the client's");
        assert_eq!((got.status.as_u16(), got.cache), (expected, Some(CacheStatus::Revalidated)));
    }
}

#[tokio::test]
async fn forwards_the_precondition_of_a_request_that_is_not_coalesced() {
    let harness = Harness::with(|layer| layer.coalesce_timeout(Duration::ZERO));
    harness.respond(304, &[ETAG], "");
    let got = harness.get(&[("if-none-match", ETAG.1)]).await;
    assert_eq!((got.status, got.cache_status()), (StatusCode::NOT_MODIFIED, "rproxy; fwd=uri-miss"));
    assert_eq!(harness.last_request().1["if-none-match"], ETAG.1);
    assert_eq!(harness.store.stats().stored, 0);
}

#[tokio::test]
async fn conditional_request_stores_the_complete_response() {
    // RFC 9111 §4.3.2: the condition is evaluated against the origin's new response.
    for (condition, has_it) in [
        (("if-none-match", ETAG.1), true),
        (("if-modified-since", MODIFIED.1), true),
        (("if-none-match", "\"v0\""), false),
    ] {
        let harness = Harness::new();
        harness.respond(200, &[FRESH, ETAG, MODIFIED, ("content-type", "text/css")], "hello");
        let got = harness.get(&[condition]).await;
        let (_, asked) = harness.last_request();
        assert!(!asked.contains_key("if-none-match") && !asked.contains_key("if-modified-since"));
        assert_eq!(got.cache_status(), "rproxy; fwd=uri-miss; stored");
        assert_eq!((got.status == StatusCode::NOT_MODIFIED, got.body.is_empty()), (has_it, has_it), "{condition:?}");
        assert_eq!(got.headers.contains_key("content-type"), !has_it);
        // The rest of the body is read in the background.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let hit = harness.get(&[]).await;
        assert_eq!((hit.cache, &hit.body[..]), (Some(CacheStatus::Hit), &b"hello"[..]), "{condition:?}");
    }
}

#[tokio::test]
async fn precondition_for_an_uncacheable_response_results_in_304() {
    let harness = Harness::new();
    for asked in [false, true] {
        harness.respond(if asked { 304 } else { 200 }, &[("cache-control", "private"), ETAG], "hello");
        let got = harness.get(&[("if-none-match", ETAG.1)]).await;
        assert_eq!((got.status, got.cache_status()), (StatusCode::NOT_MODIFIED, "rproxy; fwd=uri-miss"));
        assert_eq!(harness.last_request().1.contains_key("if-none-match"), asked, "once bitten");
    }
}
