//! Tests of purge and soft purge, and of invalidation by cache groups.

use crate::harness::*;

/// Stores a response with these header fields under `path`.
async fn store(harness: &Harness, path: &str, fields: &[(&str, &str)]) {
    harness.respond(200, &[&[FRESH, ETAG], fields].concat(), "old");
    assert_eq!(harness.send("GET", path, &[]).await.cache_status(), "rproxy; fwd=uri-miss; stored");
}

async fn is_hit(harness: &Harness, path: &str) -> bool {
    let request = [("cache-control", "only-if-cached")];
    harness.send("GET", path, &request).await.cache == Some(CacheStatus::Hit)
}

#[tokio::test]
async fn unsafe_requests_invalidate_cache_groups() {
    // RFC 9875 §3
    let harness = Harness::new();
    store(&harness, "/a", &[("cache-groups", "\"news\", \"all\"")]).await;
    store(&harness, "/b", &[("cache-groups", "\"all\"")]).await;
    store(&harness, "/c", &[("cache-groups", "\"News\"")]).await;
    harness.respond(200, &[("cache-group-invalidation", "\"news\"")], "");
    harness.send("POST", "/x", &[]).await;
    assert!(!is_hit(&harness, "/a").await);
    assert!(is_hit(&harness, "/b").await && is_hit(&harness, "/c").await);
    store(&harness, "/a", &[("cache-groups", "\"news\"")]).await;
    assert!(is_hit(&harness, "/a").await, "what came afterwards is current");
}

#[tokio::test]
async fn safe_requests_invalidate_no_cache_groups() {
    // RFC 9875 §3
    let harness = Harness::new();
    store(&harness, "/a", &[("cache-groups", "\"news\"")]).await;
    harness.respond(200, &[("cache-group-invalidation", "\"news\"")], "");
    harness.send("GET", "/x", &[]).await;
    assert!(is_hit(&harness, "/a").await);
}

#[tokio::test]
async fn invalidates_only_the_variants_in_a_cache_group() {
    let harness = Harness::new();
    for (language, group) in [("en", "\"english\""), ("de", "\"german\"")] {
        harness.respond(200, &[FRESH, ("vary", "accept-language"), ("cache-groups", group)], language);
        harness.get(&[("accept-language", language)]).await;
    }
    harness.respond(204, &[("cache-group-invalidation", "\"english\"")], "");
    harness.send("DELETE", "/x", &[]).await;
    let cached = [("cache-control", "only-if-cached"), ("accept-language", "de")];
    assert_eq!(harness.get(&cached).await.body, "de");
    let cached = [("cache-control", "only-if-cached"), ("accept-language", "en")];
    assert_eq!(harness.get(&cached).await.status, 504);
}

#[tokio::test]
async fn purges_responses_by_cache_tag() {
    let harness = Harness::new();
    store(&harness, "/a", &[("surrogate-key", "post-1 post-2")]).await;
    store(&harness, "/b", &[("surrogate-key", "post-2")]).await;
    store(&harness, "/c", &[("cache-groups", "\"post-2\"")]).await;
    store(&harness, "/d", &[]).await;
    assert_eq!(harness.store.purge(&Purge::tag("post-1")), 1);
    assert!(!is_hit(&harness, "/a").await && is_hit(&harness, "/b").await);
    assert_eq!(harness.store.purge(&Purge::tag("post-2")), 2);
    assert!(!is_hit(&harness, "/b").await && !is_hit(&harness, "/c").await && is_hit(&harness, "/d").await);
    assert_eq!(harness.store.purge(&Purge::tag("post-2")), 0);
}

#[tokio::test]
async fn soft_purged_responses_are_validated_before_reuse() {
    let harness = Harness::new();
    for purge in [Purge::All, "/a".parse().unwrap(), "http://example.org/a".parse().unwrap(), Purge::tag("x")] {
        harness.store.purge(&Purge::All);
        store(&harness, "/a", &[("surrogate-key", "x")]).await;
        assert_eq!(harness.store.soft_purge(&purge), 1, "{purge:?}");
        assert_eq!(harness.store.soft_purge(&purge), 0, "it is stale already");
        assert!(!is_hit(&harness, "/a").await);
        harness.respond(304, &[FRESH, ETAG], "");
        let got = harness.get(&[]).await;
        assert_eq!((got.cache, got.body.as_ref()), (Some(CacheStatus::Revalidated), &b"old"[..]), "{purge:?}");
        assert!(is_hit(&harness, "/a").await, "and is as fresh as any then");
    }
    assert_eq!(harness.store.soft_purge(&"/b*".parse().unwrap()), 0);
}

#[tokio::test]
async fn soft_purged_responses_are_served_stale_while_revalidating() {
    // RFC 5861 §3
    let harness = Harness::new();
    harness.respond(200, &[("cache-control", "max-age=60, stale-while-revalidate=10"), ETAG], "old");
    harness.get(&[]).await;
    harness.store.soft_purge(&Purge::All);
    harness.respond(200, &[FRESH], "new");
    let got = harness.get(&[]).await;
    assert_eq!(
        (got.cache_status(), got.body.as_ref()),
        ("rproxy; hit; ttl=0; detail=stale-while-revalidate", &b"old"[..])
    );
    tokio::task::yield_now().await;
    assert_eq!(harness.get(&[]).await.body, "new");

    // RFC 9111 §4.2.4
    harness.store.soft_purge(&Purge::All);
    harness.fail();
    let got = harness.get(&[]).await;
    assert_eq!((got.cache, got.body.as_ref()), (Some(CacheStatus::StaleIfError), &b"new"[..]));
}
