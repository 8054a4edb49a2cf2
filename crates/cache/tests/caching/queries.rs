//! Queries that mean the same, because the operator or the response says so.

use crate::world::*;

const ANY_UTM: (&str, &str) = ("no-vary-search", "params=(\"utm\"), key-order");

async fn store(world: &World, path: &str, fields: &[(&str, &str)], body: &'static str) {
    world.answer(200, &[&[FRESH, ETAG], fields].concat(), body);
    assert!(world.send("GET", path, &[]).await.cache_status().ends_with("; stored"));
}

async fn cached(world: &World, path: &str) -> Option<Bytes> {
    let got = world.send("GET", path, &[("cache-control", "only-if-cached")]).await;
    (got.cache == Some(CacheStatus::Hit)).then_some(got.body)
}

#[tokio::test]
async fn a_response_answers_all_queries_that_it_says_mean_the_same() {
    let world = World::with(|layer| layer.no_vary_search(true));
    store(&world, "/p?b=1&a=2&utm=x", &[ANY_UTM], "first").await;
    for same in ["/p?b=1&a=2&utm=x", "/p?a=2&b=1", "/p?utm=y&a=2&b=%31"] {
        assert_eq!(cached(&world, same).await.as_deref(), Some(&b"first"[..]), "{same}");
    }
    for other in ["/p", "/p?a=2", "/p?a=2&b=2", "/p?a=2&b=1&c", "/q?a=2&b=1"] {
        assert_eq!(cached(&world, other).await, None, "{other}");
    }
    store(&world, "/p?a=3", &[ANY_UTM], "second").await;
    assert_eq!(cached(&world, "/p?utm=z&a=3").await.as_deref(), Some(&b"second"[..]));
    assert_eq!(cached(&world, "/p?a=2&b=1").await.as_deref(), Some(&b"first"[..]));
}

#[tokio::test]
async fn a_response_that_says_nothing_of_it_answers_its_own_query_alone() {
    let world = World::with(|layer| layer.no_vary_search(true));
    store(&world, "/p?a=1", &[ANY_UTM], "first").await;
    store(&world, "/p?a=2&utm=x", &[], "exact").await;
    assert_eq!(cached(&world, "/p?a=2&utm=x").await.as_deref(), Some(&b"exact"[..]));
    for other in ["/p?a=2", "/p?a=2&utm=y"] {
        assert_eq!(cached(&world, other).await, None, "{other}");
    }
}

#[tokio::test]
async fn nothing_is_honoured_that_was_not_asked_for() {
    let world = World::new();
    store(&world, "/p?a=1&utm=x", &[ANY_UTM], "first").await;
    assert_eq!(cached(&world, "/p?a=1").await, None);
    assert!(cached(&world, "/p?a=1&utm=x").await.is_some());
}

#[tokio::test]
async fn what_means_the_same_is_invalidated_and_purged_with_it() {
    // RFC 9111 §4.4
    let world = World::with(|layer| layer.no_vary_search(true));
    let ways: [(&str, &str); 4] = [
        ("POST", "/p?a=1&utm=y"),
        ("", "http://example.org/p?utm=z&a=1"),
        ("", "/p?a=1"),
        ("", "http://example.org/p*"),
    ];
    for (method, what) in ways {
        store(&world, "/p?a=1&utm=x", &[ANY_UTM], "first").await;
        assert!(cached(&world, "/p?a=1").await.is_some());
        if method.is_empty() {
            assert_eq!(world.store.purge(&what.parse().unwrap()), 1, "{what}");
        } else {
            world.answer(200, &[], "");
            world.send(method, what, &[]).await;
        }
        assert_eq!(cached(&world, "/p?a=1").await, None, "{what}");
    }
    store(&world, "/p?a=1&utm=x", &[ANY_UTM], "first").await;
    assert_eq!(world.store.soft_purge(&"http://example.org/p?a=1".parse().unwrap()), 1);
    assert_eq!(cached(&world, "/p?a=1").await, None);
}

#[tokio::test]
async fn a_validated_response_stays_where_it_belongs() {
    let world = World::with(|layer| layer.no_vary_search(true));
    store(&world, "/p?a=1&utm=x", &[ANY_UTM], "first").await;
    world.wait(60);
    world.answer(304, &[FRESH, ETAG], "");
    let got = world.send("GET", "/p?a=1&utm=y", &[]).await;
    assert_eq!((got.cache, &got.body[..]), (Some(CacheStatus::Revalidated), &b"first"[..]));
    assert!(cached(&world, "/p?utm=z&a=1").await.is_some());

    world.wait(60);
    world.answer(304, &[FRESH, ETAG, ("no-vary-search", "params=(\"other\")")], "");
    world.send("GET", "/p?a=1&utm=y", &[]).await;
    assert!(cached(&world, "/p?a=1&utm=y&other=1").await.is_some());
    for other in ["/p?a=1", "/p?a=1&utm=z"] {
        assert_eq!(cached(&world, other).await, None, "{other}");
    }
}

#[tokio::test]
async fn the_operators_rules_come_first() {
    let rules = "sort, drop utm_*, fbclid".parse().unwrap();
    let world = World::with(|layer| layer.query(rules));
    store(&world, "/p?b=1&utm_source=x&a=2", &[], "first").await;
    for same in ["/p?a=2&b=1", "/p?fbclid=z&b=1&a=2"] {
        assert_eq!(cached(&world, same).await.as_deref(), Some(&b"first"[..]), "{same}");
    }
    assert_eq!(cached(&world, "/p?a=2").await, None);
}

#[tokio::test]
async fn the_key_is_told_on_request() {
    // RFC 9211 §2.7
    let world = World::with(|layer| {
        layer.status_key(true).paths("/p*".parse().unwrap()).query("sort".parse().unwrap()).no_vary_search(true)
    });
    world.answer(200, &[FRESH, ANY_UTM, ("cache-status", "Near; hit")], "x");
    let got = world.send("GET", "/p?b=1&a=2", &[]).await;
    assert_eq!(got.cache_status(), "Near; hit, rproxy; fwd=uri-miss; stored; key=\"http://example.org/p?a=2&b=1\"");
    let got = world.send("GET", "/p?b=1&a=2&utm=x", &[]).await;
    let key = "http://example.org/p?a=2&b=1#0";
    assert_eq!(got.cache_status(), format!("Near; hit, rproxy; hit; ttl=60; key=\"{key}\""));
    world.answer(200, &[("cache-status", "Near; hit")], "x");
    assert_eq!(world.send("GET", "/elsewhere", &[]).await.cache_status(), "Near; hit", "not a cached path");
}
