//! Responses to requests with credentials never reach another client.

use crate::world::*;

/// Fields by which an application may know who the client is.
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

async fn picture(world: &World, headers: &[(&str, &str)]) -> Got {
    world.send("GET", "/photos/1.jpg", headers).await
}

#[tokio::test]
async fn a_response_that_says_nothing_to_a_client_with_credentials_is_not_stored() {
    for heuristic in [false, true] {
        for credential in CREDENTIALS {
            let world = World::with(|layer| layer.heuristic_freshness(heuristic));
            world.answer(200, &PICTURE, "alice");
            let got = picture(&world, &[credential]).await;
            assert_eq!(got.cache_status(), "rproxy; fwd=uri-miss", "{credential:?}");
            for stranger in [&[][..], &[("cache-control", "max-stale")], &[("cookie", "session=bob")]] {
                world.answer(403, &[], "sign in");
                let got = picture(&world, stranger).await;
                assert_eq!((got.status.as_u16(), &got.body[..]), (403, &b"sign in"[..]), "{credential:?}");
                let (_, asked) = world.last_asked();
                assert!(!asked.contains_key("if-none-match") && !asked.contains_key("if-modified-since"));
            }
            world.fail();
            assert!(world.try_send("GET", "/photos/1.jpg", &[], "").await.is_err(), "nor where the origin is down");
        }
    }
}

#[tokio::test]
async fn a_response_that_says_nothing_is_used_only_with_the_word_of_the_origin() {
    let world = World::new();
    world.answer(200, &PICTURE, "picture");
    assert_eq!(picture(&world, &[]).await.cache_status(), "rproxy; fwd=uri-miss; stored");
    world.answer(304, &[ETAG], "");
    let got = picture(&world, &[("cache-control", "max-stale")]).await;
    assert_eq!((got.cache, &got.body[..]), (Some(CacheStatus::Revalidated), &b"picture"[..]));
    assert_eq!(world.last_asked().1["if-none-match"], ETAG.1);

    // The origin may have another page with the same validators for a client with credentials.
    world.answer(200, &PICTURE, "alice");
    let got = picture(&world, &[("cookie", "session=alice")]).await;
    assert_eq!((got.cache_status(), &got.body[..]), ("rproxy; fwd=vary-miss", &b"alice"[..]));
    assert!(!world.last_asked().1.contains_key("if-none-match"));
    world.answer(304, &[ETAG], "");
    assert_eq!(picture(&world, &[]).await.body, "picture", "that leaves what is stored as it was");

    for failure in [500, 503] {
        world.answer(failure, &[], "down");
        assert_eq!(picture(&world, &[("cache-control", "stale-if-error=1000")]).await.status.as_u16(), failure);
    }
    world.fail();
    assert!(world.try_send("GET", "/photos/1.jpg", &[], "").await.is_err());
}

#[tokio::test]
async fn a_lifetime_is_guessed_only_where_that_is_wanted() {
    // RFC 9111 §4.2.2
    let world = World::with(|layer| layer.heuristic_freshness(true));
    world.answer(200, &PICTURE, "picture");
    picture(&world, &[]).await;
    assert_eq!(picture(&world, &[]).await.cache, Some(CacheStatus::Hit));
    world.answer(200, &PICTURE, "alice");
    assert_eq!(picture(&world, &[("cookie", "session=alice")]).await.body, "alice", "nor is a guess for her");
    // A day is a tenth of ten.
    world.wait(86_400);
    world.fail();
    assert!(world.try_send("GET", "/photos/1.jpg", &[("cache-control", "max-stale")], "").await.is_err());

    let world = World::with(|layer| layer.heuristic_freshness(true));
    for (path, vary) in [("/c", "cookie"), ("/a", "accept, Authorization"), ("/k", "x-api-key")] {
        world.answer(200, &[("vary", vary), MODIFIED, ETAG], "hello");
        world.send("GET", path, &[]).await;
        world.answer(304, &[ETAG], "");
        assert_eq!(world.send("GET", path, &[]).await.cache, Some(CacheStatus::Revalidated), "{vary}");
    }
}

#[tokio::test]
async fn what_says_that_it_may_be_shared_is_shared() {
    for (cache_control, expected) in [
        ("max-age=60", Some(CacheStatus::Hit)),
        ("public, max-age=60", Some(CacheStatus::Hit)),
        ("no-cache", Some(CacheStatus::Revalidated)),
        ("public", Some(CacheStatus::Revalidated)),
    ] {
        let world = World::new();
        world.answer(200, &[("cache-control", cache_control), ETAG], "page");
        world.get(&[("cookie", "session=alice")]).await;
        world.answer(304, &[("cache-control", cache_control), ETAG], "");
        let got = world.get(&[("cookie", "session=bob")]).await;
        assert_eq!((got.cache, &got.body[..]), (expected, &b"page"[..]), "{cache_control}");
    }
}

#[tokio::test]
async fn a_stale_response_to_credentials_is_served_only_where_the_origin_says_so() {
    // RFC 9111 §4.2.4, RFC 5861 §4
    for (cache_control, served) in [
        ("max-age=1", false),
        ("max-age=0", false),
        ("max-age=1, stale-if-error=600", true),
        ("public, max-age=1", true),
    ] {
        let world = World::new();
        world.answer(200, &[("cache-control", cache_control), ETAG], "alice");
        world.get(&[("cookie", "session=alice")]).await;
        world.wait(10);
        world.fail();
        let got = world.try_send("GET", "/a", &[], "").await;
        assert_eq!(got.is_ok(), served, "{cache_control}");
    }
}
