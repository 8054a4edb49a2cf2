//! What a program decides about keys.

use rproxy_cache::QueryRules;

use crate::world::*;

#[tokio::test]
async fn queries_that_mean_the_same_are_one_resource() {
    let rules = QueryRules::new().sorted().ignore("utm_*");
    let world = World::with(|layer| layer.query(rules));
    world.answer(200, &[FRESH], "one");
    world.send("GET", "/a?b=1&a=2&utm_source=x", &[]).await;
    for same in ["/a?a=2&b=1", "/a?utm_medium=y&a=2&b=1"] {
        assert_eq!(world.send("GET", same, &[]).await.cache, Some(CacheStatus::Hit), "{same}");
    }
    assert_eq!(world.asked(), 1);
    // RFC 9111 §4.4
    world.answer(200, &[("content-location", "/a?b=1&utm_source=z&a=2")], "");
    world.send("POST", "/x", &[]).await;
    world.answer(200, &[FRESH], "two");
    assert_eq!(world.send("GET", "/a?a=2&b=1", &[]).await.body, "two");
}

#[tokio::test]
async fn the_origin_is_asked_with_the_query_as_it_came() {
    let world = World::with(|layer| layer.query(QueryRules::new().ignore("x")));
    world.answer(200, &[FRESH], "");
    world.send("GET", "/a?x=1", &[]).await;
    assert_eq!(world.store.purge(&Purge::url("http://example.org/a").unwrap()), 1, "stored without it");
}

#[tokio::test]
async fn a_key_of_ones_own_is_a_url_that_can_be_purged() {
    let world = World::with(|layer| {
        layer.key(|head, url| match head.headers.get("x-tenant") {
            Some(tenant) => url.replacen("//", &format!("//{}.", tenant.to_str().unwrap_or_default()), 1),
            None => url.to_owned(),
        })
    });
    for tenant in ["a", "b"] {
        world.answer(200, &[FRESH], tenant);
        world.get(&[("x-tenant", tenant)]).await;
    }
    assert_eq!(world.get(&[("x-tenant", "a")]).await.body, "a");
    assert_eq!(world.store.purge(&Purge::url("http://a.example.org/a").unwrap()), 1);
    assert_eq!(world.get(&[("x-tenant", "b")]).await.body, "b");
    assert_eq!(world.asked(), 2);
    world.answer(200, &[FRESH], "no URL");
    assert_eq!(world.get(&[("x-tenant", "a b")]).await.cache, Some(CacheStatus::Forwarded(Forwarded::Bypass)));
}

#[tokio::test]
async fn who_bypasses_is_not_answered_from_the_store_and_leaves_nothing_in_it() {
    let world = World::with(|layer| layer.bypass_when(|head| head.headers.contains_key("x-preview")));
    for text in ["draft", "draft 2"] {
        world.answer(200, &[FRESH], text);
        let got = world.get(&[("x-preview", "1")]).await;
        assert_eq!((got.body.as_ref(), got.cache_status()), (text.as_bytes(), "rproxy; fwd=bypass"));
    }
    world.answer(200, &[FRESH], "public");
    assert_eq!(world.get(&[]).await.body, "public");
}
