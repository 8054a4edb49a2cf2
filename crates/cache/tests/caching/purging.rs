//! What is dropped, or made stale, on demand.

use crate::world::*;

/// Stores `path`, tagged as `fields` say.
async fn store(world: &World, path: &str, fields: &[(&str, &str)]) {
    world.answer(200, &[&[FRESH, ETAG], fields].concat(), "old");
    assert_eq!(world.send("GET", path, &[]).await.cache_status(), "rproxy; fwd=uri-miss; stored");
}

async fn is_hit(world: &World, path: &str) -> bool {
    let request = [("cache-control", "only-if-cached")];
    world.send("GET", path, &request).await.cache == Some(CacheStatus::Hit)
}

#[tokio::test]
async fn the_answer_to_an_unsafe_request_invalidates_groups() {
    // RFC 9875 §3
    let world = World::new();
    store(&world, "/a", &[("cache-groups", "\"news\", \"all\"")]).await;
    store(&world, "/b", &[("cache-groups", "\"all\"")]).await;
    store(&world, "/c", &[("cache-groups", "\"News\"")]).await;
    world.answer(200, &[("cache-group-invalidation", "\"news\"")], "");
    world.send("POST", "/x", &[]).await;
    assert!(!is_hit(&world, "/a").await);
    assert!(is_hit(&world, "/b").await && is_hit(&world, "/c").await);
    store(&world, "/a", &[("cache-groups", "\"news\"")]).await;
    assert!(is_hit(&world, "/a").await, "what came afterwards is current");
}

#[tokio::test]
async fn the_answer_to_a_safe_request_invalidates_no_groups() {
    // RFC 9875 §3
    let world = World::new();
    store(&world, "/a", &[("cache-groups", "\"news\"")]).await;
    world.answer(200, &[("cache-group-invalidation", "\"news\"")], "");
    world.send("GET", "/x", &[]).await;
    assert!(is_hit(&world, "/a").await);
}

#[tokio::test]
async fn a_group_of_one_variant_takes_no_other_with_it() {
    let world = World::new();
    for (language, group) in [("en", "\"english\""), ("de", "\"german\"")] {
        world.answer(200, &[FRESH, ("vary", "accept-language"), ("cache-groups", group)], language);
        world.get(&[("accept-language", language)]).await;
    }
    world.answer(204, &[("cache-group-invalidation", "\"english\"")], "");
    world.send("DELETE", "/x", &[]).await;
    let cached = [("cache-control", "only-if-cached"), ("accept-language", "de")];
    assert_eq!(world.get(&cached).await.body, "de");
    let cached = [("cache-control", "only-if-cached"), ("accept-language", "en")];
    assert_eq!(world.get(&cached).await.status, 504);
}

#[tokio::test]
async fn tags_are_purged_by_name() {
    let world = World::new();
    store(&world, "/a", &[("surrogate-key", "post-1 post-2")]).await;
    store(&world, "/b", &[("surrogate-key", "post-2")]).await;
    store(&world, "/c", &[("cache-groups", "\"post-2\"")]).await;
    store(&world, "/d", &[]).await;
    assert_eq!(world.store.purge(&Purge::tag("post-1")), 1);
    assert!(!is_hit(&world, "/a").await && is_hit(&world, "/b").await);
    assert_eq!(world.store.purge(&Purge::tag("post-2")), 2);
    assert!(!is_hit(&world, "/b").await && !is_hit(&world, "/c").await && is_hit(&world, "/d").await);
    assert_eq!(world.store.purge(&Purge::tag("post-2")), 0);
}

#[tokio::test]
async fn what_is_purged_softly_is_validated_before_it_is_used() {
    let world = World::new();
    for purge in [Purge::All, "/a".parse().unwrap(), "http://example.org/a".parse().unwrap(), Purge::tag("x")] {
        world.store.purge(&Purge::All);
        store(&world, "/a", &[("surrogate-key", "x")]).await;
        assert_eq!(world.store.soft_purge(&purge), 1, "{purge:?}");
        assert_eq!(world.store.soft_purge(&purge), 0, "it is stale already");
        assert!(!is_hit(&world, "/a").await);
        world.answer(304, &[FRESH, ETAG], "");
        let got = world.get(&[]).await;
        assert_eq!((got.cache, got.body.as_ref()), (Some(CacheStatus::Revalidated), &b"old"[..]), "{purge:?}");
        assert!(is_hit(&world, "/a").await, "and is as fresh as any then");
    }
    assert_eq!(world.store.soft_purge(&"/b*".parse().unwrap()), 0);
}

#[tokio::test]
async fn what_is_purged_softly_serves_while_it_is_validated_or_can_not_be() {
    // RFC 5861 §3
    let world = World::new();
    world.answer(200, &[("cache-control", "max-age=60, stale-while-revalidate=10"), ETAG], "old");
    world.get(&[]).await;
    world.store.soft_purge(&Purge::All);
    world.answer(200, &[FRESH], "new");
    let got = world.get(&[]).await;
    assert_eq!(
        (got.cache_status(), got.body.as_ref()),
        ("rproxy; hit; ttl=0; detail=stale-while-revalidate", &b"old"[..])
    );
    tokio::task::yield_now().await;
    assert_eq!(world.get(&[]).await.body, "new");

    // RFC 9111 §4.2.4
    world.store.soft_purge(&Purge::All);
    world.fail();
    let got = world.get(&[]).await;
    assert_eq!((got.cache, got.body.as_ref()), (Some(CacheStatus::Stale), &b"new"[..]));
}
