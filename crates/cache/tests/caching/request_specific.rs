//! Tests of responses with a value that is specific to their request, such as a nonce.

use rproxy_cache::RequestSpecificCheck;

use crate::harness::*;

const HTML: (&str, &str) = ("content-type", "text/html");
const CSS: (&str, &str) = ("content-type", "text/css");

fn is_html(headers: &HeaderMap) -> bool {
    headers.get("content-type").is_some_and(|value| value == "text/html")
}

async fn get_with_nonce(harness: &Harness, method: &str, path: &str) -> (Option<CacheStatus>, Bytes) {
    let mut request = Request::new(Full::new(Bytes::new()));
    *request.method_mut() = method.parse().unwrap();
    *request.uri_mut() = format!("http://example.org{path}").parse().unwrap();
    request.extensions_mut().insert::<RequestSpecificCheck>(is_html);
    let response = harness.service.clone().oneshot(request).await.unwrap();
    let cache = response.extensions().get().copied();
    (cache, response.into_body().collect().await.map_err(|_| "broken").unwrap().to_bytes())
}

#[tokio::test]
async fn does_not_store_or_share_a_page_with_a_nonce() {
    let harness = Harness::new();
    for page in ["one", "two"] {
        harness.respond(200, &[FRESH, ETAG, HTML], page);
        let (cache, body) = get_with_nonce(&harness, "GET", "/a").await;
        assert_eq!((cache, &body[..]), (Some(CacheStatus::Forwarded(ForwardReason::UriMiss)), page.as_bytes()));
    }
    assert_eq!(harness.store.stats().entries, 0);
    // RFC 9110 §9.3.3
    harness.respond(200, &[FRESH, HTML, ("content-location", "/a")], "posted");
    get_with_nonce(&harness, "POST", "/a").await;
    assert_eq!(harness.store.stats().entries, 0);
}

#[tokio::test]
async fn does_not_serve_a_stored_page_for_a_request_with_a_nonce() {
    let harness = Harness::new();
    harness.respond(200, &[FRESH, ETAG, HTML], "without");
    harness.get(&[]).await;
    harness.respond(200, &[FRESH, ETAG, HTML], "with");
    assert_eq!(get_with_nonce(&harness, "GET", "/a").await.1, "with");
    assert!(!harness.last_request().1.contains_key("if-none-match"));
    assert_eq!(harness.get(&[]).await.body, "without");
}

#[tokio::test]
async fn caches_css_responses_despite_a_nonce() {
    let harness = Harness::new();
    harness.respond(200, &[FRESH, CSS], "body {}");
    get_with_nonce(&harness, "GET", "/a.css").await;
    let (cache, body) = get_with_nonce(&harness, "GET", "/a.css").await;
    assert_eq!((cache, &body[..]), (Some(CacheStatus::Hit), &b"body {}"[..]));
}
