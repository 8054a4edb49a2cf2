//! Tests that responses to requests with credentials are never served to other clients.

use rproxy_core::Authenticated;

use crate::harness::*;

/// Header fields by which an application can identify a client.
const CREDENTIALS: [(&str, &str); 7] = [
    ("cookie", "session=alice"),
    ("authorization", "Bearer alice"),
    ("x-api-key", "alice"),
    ("x-auth-token", "alice"),
    ("remote-user", "alice"),
    ("client-cert", ":alice:"),
    ("x-forwarded-email", "alice@example.org"),
];

const PICTURE: [(&str, &str); 3] = [("content-type", "image/jpeg"), MODIFIED, ETAG];

async fn picture(harness: &Harness, headers: &[(&str, &str)]) -> ClientResponse {
    harness.send("GET", "/photos/1.jpg", headers).await
}

#[tokio::test]
async fn does_not_store_responses_without_caching_fields_for_requests_with_credentials() {
    for heuristic in [false, true] {
        for credential in CREDENTIALS {
            let harness = Harness::with(|layer| layer.heuristic_freshness(heuristic));
            harness.respond(200, &PICTURE, "alice");
            let got = picture(&harness, &[credential]).await;
            assert_eq!(got.cache_status(), "rproxy; fwd=uri-miss", "{credential:?}");
            for stranger in [&[][..], &[("cache-control", "max-stale")], &[("cookie", "session=bob")]] {
                harness.respond(403, &[], "sign in");
                let got = picture(&harness, stranger).await;
                assert_eq!((got.status.as_u16(), &got.body[..]), (403, &b"sign in"[..]), "{credential:?}");
                let (_, asked) = harness.last_request();
                assert!(!asked.contains_key("if-none-match") && !asked.contains_key("if-modified-since"));
            }
            harness.fail();
            assert!(
                harness.try_send("GET", "/photos/1.jpg", &[], "").await.is_err(),
                "not even while the origin is unreachable"
            );
        }
    }
}

#[tokio::test]
async fn revalidates_responses_without_caching_fields_before_each_reuse() {
    let harness = Harness::new();
    harness.respond(200, &PICTURE, "picture");
    assert_eq!(picture(&harness, &[]).await.cache_status(), "rproxy; fwd=uri-miss; stored");
    harness.respond(304, &[ETAG], "");
    let got = picture(&harness, &[("cache-control", "max-stale")]).await;
    assert_eq!((got.cache, &got.body[..]), (Some(CacheStatus::Revalidated), &b"picture"[..]));
    assert_eq!(harness.last_request().1["if-none-match"], ETAG.1);

    // The origin can have another page with the same validators for a client with credentials.
    harness.respond(200, &PICTURE, "alice");
    let got = picture(&harness, &[("cookie", "session=alice")]).await;
    assert_eq!((got.cache_status(), &got.body[..]), ("rproxy; fwd=vary-miss", &b"alice"[..]));
    assert!(!harness.last_request().1.contains_key("if-none-match"));
    harness.respond(304, &[ETAG], "");
    assert_eq!(picture(&harness, &[]).await.body, "picture", "the stored response is unchanged");

    for failure in [500, 503] {
        harness.respond(failure, &[], "down");
        assert_eq!(picture(&harness, &[("cache-control", "stale-if-error=1000")]).await.status.as_u16(), failure);
    }
    harness.fail();
    assert!(harness.try_send("GET", "/photos/1.jpg", &[], "").await.is_err());
}

#[tokio::test]
async fn uses_heuristic_freshness_only_if_enabled() {
    // RFC 9111 §4.2.2
    let harness = Harness::with(|layer| layer.heuristic_freshness(true));
    harness.respond(200, &PICTURE, "picture");
    picture(&harness, &[]).await;
    assert_eq!(picture(&harness, &[]).await.cache, Some(CacheStatus::Hit));
    harness.respond(200, &PICTURE, "alice");
    assert_eq!(
        picture(&harness, &[("cookie", "session=alice")]).await.body,
        "alice",
        "an estimated lifetime does not serve her either"
    );
    // One day is a tenth of ten days.
    harness.advance(86_400);
    harness.fail();
    assert!(harness.try_send("GET", "/photos/1.jpg", &[("cache-control", "max-stale")], "").await.is_err());

    let harness = Harness::with(|layer| layer.heuristic_freshness(true));
    for (path, vary) in [("/c", "cookie"), ("/a", "accept, Authorization"), ("/k", "x-api-key")] {
        harness.respond(200, &[("vary", vary), MODIFIED, ETAG], "hello");
        harness.send("GET", path, &[]).await;
        harness.respond(304, &[ETAG], "");
        assert_eq!(harness.send("GET", path, &[]).await.cache, Some(CacheStatus::Revalidated), "{vary}");
    }
}

#[tokio::test]
async fn serves_explicitly_cacheable_responses_to_requests_with_credentials() {
    for (cache_control, expected) in [
        ("max-age=60", Some(CacheStatus::Hit)),
        ("public, max-age=60", Some(CacheStatus::Hit)),
        ("no-cache", Some(CacheStatus::Revalidated)),
        ("public", Some(CacheStatus::Revalidated)),
    ] {
        let harness = Harness::new();
        harness.respond(200, &[("cache-control", cache_control), ETAG], "page");
        harness.get(&[("cookie", "session=alice")]).await;
        harness.respond(304, &[("cache-control", cache_control), ETAG], "");
        let got = harness.get(&[("cookie", "session=bob")]).await;
        assert_eq!((got.cache, &got.body[..]), (expected, &b"page"[..]), "{cache_control}");
    }
}

#[tokio::test]
async fn serves_stale_responses_to_requests_with_credentials_only_if_explicitly_permitted() {
    // RFC 9111 §4.2.4, RFC 5861 §4
    for (cache_control, served) in [
        ("max-age=1", false),
        ("max-age=0", false),
        ("max-age=1, stale-if-error=600", true),
        ("public, max-age=1", true),
    ] {
        let harness = Harness::new();
        harness.respond(200, &[("cache-control", cache_control), ETAG], "alice");
        harness.get(&[("cookie", "session=alice")]).await;
        harness.advance(10);
        harness.fail();
        let got = harness.try_send("GET", "/a", &[], "").await;
        assert_eq!(got.is_ok(), served, "{cache_control}");
    }
}

/// Sends a request of a client that a layer authenticated, with credentials that the cache cannot see.
async fn get_authenticated(harness: &Harness) -> (Option<CacheStatus>, Bytes) {
    let mut request = Request::new(Full::new(Bytes::new()));
    *request.uri_mut() = "http://example.org/a".parse().unwrap();
    request.extensions_mut().insert(Authenticated::new());
    let response = harness.service.clone().oneshot(request).await.unwrap();
    let cache = response.extensions().get().copied();
    (cache, response.into_body().collect().await.map_err(|_| "broken").unwrap().to_bytes())
}

// RFC 9111 §3.5
#[tokio::test]
async fn stores_responses_to_authenticated_requests_only_with_permission() {
    let miss = Some(CacheStatus::Forwarded(ForwardReason::UriMiss));
    for (cache_control, is_stored) in [
        ("max-age=60", false),
        ("max-age=60, must-revalidate", true),
        ("max-age=60, public", true),
        ("s-maxage=60", true),
        ("s-maxage=60, private", false),
    ] {
        for has_authorization in [false, true] {
            let harness = Harness::new();
            harness.respond(200, &[("cache-control", cache_control), ETAG], "alice");
            if has_authorization {
                harness.get(&[("authorization", "Basic eDp5")]).await;
            } else {
                assert_eq!(get_authenticated(&harness).await, (miss, Bytes::from("alice")));
            }
            assert_eq!(harness.store.stats().entries, u64::from(is_stored), "{cache_control} {has_authorization}");
        }
    }
}
