//! Tests of equivalent queries, by the operator's rules or by `No-Vary-Search`.

use crate::harness::*;

const ANY_UTM: (&str, &str) = ("no-vary-search", "params=(\"utm\"), key-order");

async fn store(harness: &Harness, path: &str, fields: &[(&str, &str)], body: &'static str) {
    harness.respond(200, &[&[FRESH, ETAG], fields].concat(), body);
    assert!(harness.send("GET", path, &[]).await.cache_status().ends_with("; stored"));
}

async fn cached(harness: &Harness, path: &str) -> Option<Bytes> {
    let got = harness.send("GET", path, &[("cache-control", "only-if-cached")]).await;
    (got.cache == Some(CacheStatus::Hit)).then_some(got.body)
}

#[tokio::test]
async fn no_vary_search_response_serves_equivalent_queries() {
    let harness = Harness::with(|layer| layer.no_vary_search(true));
    store(&harness, "/p?b=1&a=2&utm=x", &[ANY_UTM], "first").await;
    for same in ["/p?b=1&a=2&utm=x", "/p?a=2&b=1", "/p?utm=y&a=2&b=%31"] {
        assert_eq!(cached(&harness, same).await.as_deref(), Some(&b"first"[..]), "{same}");
    }
    for other in ["/p", "/p?a=2", "/p?a=2&b=2", "/p?a=2&b=1&c", "/q?a=2&b=1"] {
        assert_eq!(cached(&harness, other).await, None, "{other}");
    }
    store(&harness, "/p?a=3", &[ANY_UTM], "second").await;
    assert_eq!(cached(&harness, "/p?utm=z&a=3").await.as_deref(), Some(&b"second"[..]));
    assert_eq!(cached(&harness, "/p?a=2&b=1").await.as_deref(), Some(&b"first"[..]));
}

#[tokio::test]
async fn response_without_no_vary_search_serves_only_its_exact_query() {
    let harness = Harness::with(|layer| layer.no_vary_search(true));
    store(&harness, "/p?a=1", &[ANY_UTM], "first").await;
    store(&harness, "/p?a=2&utm=x", &[], "exact").await;
    assert_eq!(cached(&harness, "/p?a=2&utm=x").await.as_deref(), Some(&b"exact"[..]));
    for other in ["/p?a=2", "/p?a=2&utm=y"] {
        assert_eq!(cached(&harness, other).await, None, "{other}");
    }
}

#[tokio::test]
async fn ignores_no_vary_search_by_default() {
    let harness = Harness::new();
    store(&harness, "/p?a=1&utm=x", &[ANY_UTM], "first").await;
    assert_eq!(cached(&harness, "/p?a=1").await, None);
    assert!(cached(&harness, "/p?a=1&utm=x").await.is_some());
}

#[tokio::test]
async fn invalidation_and_purge_apply_to_equivalent_queries() {
    // RFC 9111 §4.4
    let harness = Harness::with(|layer| layer.no_vary_search(true));
    let ways: [(&str, &str); 4] = [
        ("POST", "/p?a=1&utm=y"),
        ("", "http://example.org/p?utm=z&a=1"),
        ("", "/p?a=1"),
        ("", "http://example.org/p*"),
    ];
    for (method, what) in ways {
        store(&harness, "/p?a=1&utm=x", &[ANY_UTM], "first").await;
        assert!(cached(&harness, "/p?a=1").await.is_some());
        if method.is_empty() {
            assert_eq!(harness.store.purge(&what.parse().unwrap()), 1, "{what}");
        } else {
            harness.respond(200, &[], "");
            harness.send(method, what, &[]).await;
        }
        assert_eq!(cached(&harness, "/p?a=1").await, None, "{what}");
    }
    store(&harness, "/p?a=1&utm=x", &[ANY_UTM], "first").await;
    assert_eq!(harness.store.soft_purge(&"http://example.org/p?a=1".parse().unwrap()), 1);
    assert_eq!(cached(&harness, "/p?a=1").await, None);
}

#[tokio::test]
async fn validated_response_keeps_its_cache_key() {
    let harness = Harness::with(|layer| layer.no_vary_search(true));
    store(&harness, "/p?a=1&utm=x", &[ANY_UTM], "first").await;
    harness.advance(60);
    harness.respond(304, &[FRESH, ETAG], "");
    let got = harness.send("GET", "/p?a=1&utm=y", &[]).await;
    assert_eq!((got.cache, &got.body[..]), (Some(CacheStatus::Revalidated), &b"first"[..]));
    assert!(cached(&harness, "/p?utm=z&a=1").await.is_some());

    harness.advance(60);
    harness.respond(304, &[FRESH, ETAG, ("no-vary-search", "params=(\"other\")")], "");
    harness.send("GET", "/p?a=1&utm=y", &[]).await;
    assert!(cached(&harness, "/p?a=1&utm=y&other=1").await.is_some());
    for other in ["/p?a=1", "/p?a=1&utm=z"] {
        assert_eq!(cached(&harness, other).await, None, "{other}");
    }
}

#[tokio::test]
async fn query_rules_apply_before_no_vary_search() {
    let rules = "sort, drop utm_*, fbclid".parse().unwrap();
    let harness = Harness::with(|layer| layer.query(rules));
    store(&harness, "/p?b=1&utm_source=x&a=2", &[], "first").await;
    for same in ["/p?a=2&b=1", "/p?fbclid=z&b=1&a=2"] {
        assert_eq!(cached(&harness, same).await.as_deref(), Some(&b"first"[..]), "{same}");
    }
    assert_eq!(cached(&harness, "/p?a=2").await, None);
}

#[tokio::test]
async fn cache_status_reports_the_cache_key_if_enabled() {
    // RFC 9211 §2.7
    let harness = Harness::with(|layer| {
        layer.status_key(true).paths("/p*".parse().unwrap()).query("sort".parse().unwrap()).no_vary_search(true)
    });
    harness.respond(200, &[FRESH, ANY_UTM, ("cache-status", "Near; hit")], "x");
    let got = harness.send("GET", "/p?b=1&a=2", &[]).await;
    assert_eq!(got.cache_status(), "Near; hit, rproxy; fwd=uri-miss; stored; key=\"http://example.org/p?a=2&b=1\"");
    let got = harness.send("GET", "/p?b=1&a=2&utm=x", &[]).await;
    let key = "http://example.org/p?a=2&b=1#0";
    assert_eq!(got.cache_status(), format!("Near; hit, rproxy; hit; ttl=60; key=\"{key}\""));
    harness.respond(200, &[("cache-status", "Near; hit")], "x");
    assert_eq!(harness.send("GET", "/elsewhere", &[]).await.cache_status(), "Near; hit", "not a cached path");
}
