//! Tests of the hooks for cache keys and for requests that bypass the cache.

use rproxy_cache::QueryRules;

use crate::harness::*;

#[tokio::test]
async fn query_rules_map_equivalent_queries_to_one_response() {
    let rules = QueryRules::new().sorted().ignore("utm_*");
    let harness = Harness::with(|layer| layer.query(rules));
    harness.respond(200, &[FRESH], "one");
    harness.send("GET", "/a?b=1&a=2&utm_source=x", &[]).await;
    for same in ["/a?a=2&b=1", "/a?utm_medium=y&a=2&b=1"] {
        assert_eq!(harness.send("GET", same, &[]).await.cache, Some(CacheStatus::Hit), "{same}");
    }
    assert_eq!(harness.origin_requests(), 1);
    // RFC 9111 §4.4
    harness.respond(200, &[("content-location", "/a?b=1&utm_source=z&a=2")], "");
    harness.send("POST", "/x", &[]).await;
    harness.respond(200, &[FRESH], "two");
    assert_eq!(harness.send("GET", "/a?a=2&b=1", &[]).await.body, "two");
}

#[tokio::test]
async fn query_rules_do_not_change_the_forwarded_query() {
    let harness = Harness::with(|layer| layer.query(QueryRules::new().ignore("x")));
    harness.respond(200, &[FRESH], "");
    harness.send("GET", "/a?x=1", &[]).await;
    assert_eq!(harness.store.purge(&Purge::url("http://example.org/a").unwrap()), 1, "stored without it");
}

#[tokio::test]
async fn purge_by_url_removes_the_response_whose_custom_key_equals_the_url() {
    let harness = Harness::with(|layer| {
        layer.key(|head, url| match head.headers.get("x-tenant") {
            Some(tenant) => url.replacen("//", &format!("//{}.", tenant.to_str().unwrap_or_default()), 1),
            None => url.to_owned(),
        })
    });
    for tenant in ["a", "b"] {
        harness.respond(200, &[FRESH], tenant);
        harness.get(&[("x-tenant", tenant)]).await;
    }
    assert_eq!(harness.get(&[("x-tenant", "a")]).await.body, "a");
    assert_eq!(harness.store.purge(&Purge::url("http://a.example.org/a").unwrap()), 1);
    assert_eq!(harness.get(&[("x-tenant", "b")]).await.body, "b");
    assert_eq!(harness.origin_requests(), 2);
    harness.respond(200, &[FRESH], "no URL");
    assert_eq!(harness.get(&[("x-tenant", "a b")]).await.cache, Some(CacheStatus::Forwarded(ForwardReason::Bypass)));
}

#[tokio::test]
async fn bypassing_requests_neither_read_nor_write_the_store() {
    let harness = Harness::with(|layer| layer.bypass_when(|head| head.headers.contains_key("x-preview")));
    for text in ["draft", "draft 2"] {
        harness.respond(200, &[FRESH], text);
        let got = harness.get(&[("x-preview", "1")]).await;
        assert_eq!((got.body.as_ref(), got.cache_status()), (text.as_bytes(), "rproxy; fwd=bypass"));
    }
    harness.respond(200, &[FRESH], "public");
    assert_eq!(harness.get(&[]).await.body, "public");
}

#[tokio::test]
async fn excluded_response_is_served_and_not_stored() {
    let harness = Harness::with(|layer| layer.store_unless(|parts| parts.headers.contains_key("x-file")));
    // The cache evaluates the condition of the first request, to which the origin sends the complete response.
    harness.respond(200, &[FRESH, ETAG, ("x-file", "1")], "one");
    assert_eq!(harness.get(&[("if-none-match", ETAG.1)]).await.status, StatusCode::NOT_MODIFIED);
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    for text in ["two", "three"] {
        harness.respond(200, &[FRESH, ("x-file", "1")], text);
        let got = harness.get(&[]).await;
        assert_eq!((got.body.as_ref(), got.cache_status()), (text.as_bytes(), "rproxy; fwd=uri-miss"));
    }
    assert_eq!(harness.store.stats().stored, 0);
    harness.respond(200, &[FRESH], "other");
    harness.get(&[]).await;
    assert_eq!(harness.get(&[]).await.cache, Some(CacheStatus::Hit));
}
