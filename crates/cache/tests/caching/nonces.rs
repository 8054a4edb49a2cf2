//! Responses that depend on something that each request is given, such as a nonce.

use rproxy_cache::IsForOneRequest;

use crate::world::*;

const HTML: (&str, &str) = ("content-type", "text/html");
const CSS: (&str, &str) = ("content-type", "text/css");

fn is_html(headers: &HeaderMap) -> bool {
    headers.get("content-type").is_some_and(|value| value == "text/html")
}

async fn get_with_nonce(world: &World, method: &str, path: &str) -> (Option<CacheStatus>, Bytes) {
    let mut request = Request::new(Full::new(Bytes::new()));
    *request.method_mut() = method.parse().unwrap();
    *request.uri_mut() = format!("http://example.org{path}").parse().unwrap();
    request.extensions_mut().insert::<IsForOneRequest>(is_html);
    let response = world.service.clone().oneshot(request).await.unwrap();
    let cache = response.extensions().get().copied();
    (cache, response.into_body().collect().await.map_err(|_| "broken").unwrap().to_bytes())
}

#[tokio::test]
async fn a_page_with_a_nonce_is_neither_stored_nor_shared() {
    let world = World::new();
    for page in ["one", "two"] {
        world.answer(200, &[FRESH, ETAG, HTML], page);
        let (cache, body) = get_with_nonce(&world, "GET", "/a").await;
        assert_eq!((cache, &body[..]), (Some(CacheStatus::Forwarded(Forwarded::UriMiss)), page.as_bytes()));
    }
    assert_eq!(world.store.stats().entries, 0);
    // RFC 9110 §9.3.3
    world.answer(200, &[FRESH, HTML, ("content-location", "/a")], "posted");
    get_with_nonce(&world, "POST", "/a").await;
    assert_eq!(world.store.stats().entries, 0);
}

#[tokio::test]
async fn a_page_that_was_stored_without_a_nonce_is_not_used_with_one() {
    let world = World::new();
    world.answer(200, &[FRESH, ETAG, HTML], "without");
    world.get(&[]).await;
    world.answer(200, &[FRESH, ETAG, HTML], "with");
    assert_eq!(get_with_nonce(&world, "GET", "/a").await.1, "with");
    assert!(!world.last_asked().1.contains_key("if-none-match"));
    assert_eq!(world.get(&[]).await.body, "without");
}

#[tokio::test]
async fn what_is_no_page_is_cached_all_the_same() {
    let world = World::new();
    world.answer(200, &[FRESH, CSS], "body {}");
    get_with_nonce(&world, "GET", "/a.css").await;
    let (cache, body) = get_with_nonce(&world, "GET", "/a.css").await;
    assert_eq!((cache, &body[..]), (Some(CacheStatus::Hit), &b"body {}"[..]));
}
