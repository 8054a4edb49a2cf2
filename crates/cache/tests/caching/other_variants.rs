//! Tests of validation with the entity tags of other variants (RFC 9111 §4.3.1).

use crate::harness::*;

const VARY: (&str, &str) = ("vary", "accept-language");

fn harness() -> Harness {
    Harness::with(|layer| layer.empty_body(Full::<Bytes>::default))
}

/// Stores a variant of a resource for a language.
async fn store(harness: &Harness, language: &str, etag: &str, body: &'static str) {
    harness.respond(200, &[FRESH, VARY, ("etag", etag), ("x", "1")], body);
    assert_eq!(harness.get(&[("accept-language", language)]).await.body, body);
}

fn condition(harness: &Harness) -> Option<String> {
    let (_, headers) = harness.last_request();
    let lines: Vec<_> = headers.get_all("if-none-match").iter().map(|line| line.to_str().unwrap()).collect();
    assert!(lines.len() <= 1);
    lines.first().map(|line| (*line).to_owned())
}

#[tokio::test]
async fn a_304_response_selects_and_updates_the_variant_with_its_entity_tag() {
    let harness = harness();
    store(&harness, "en", "\"en\"", "hello").await;
    store(&harness, "de", "\"de\"", "hallo").await;
    harness.advance(30);
    harness.respond(304, &[FRESH, VARY, ("etag", "\"en\""), ("x", "2"), ("set-cookie", "a=b")], "");
    let got = harness.get(&[("accept-language", "fr, en")]).await;
    assert_eq!(condition(&harness).unwrap(), "\"en\", \"de\"");
    assert_eq!((got.status, &got.body[..], got.age()), (StatusCode::OK, &b"hello"[..], "0"));
    assert_eq!(got.cache_status(), "rproxy; fwd=vary-miss; fwd-status=304; stored");
    assert_eq!((got.cache, &got.headers["x"]), (Some(CacheStatus::Revalidated), &"2".parse().unwrap()));
    assert_eq!(got.headers["set-cookie"], "a=b", "for the client of the exchange");

    // Both requests now select it, with the fields of the 304.
    harness.advance(40);
    for (language, expected) in [("fr, en", CacheStatus::Hit), ("en", CacheStatus::Hit)] {
        let got = harness.get(&[("accept-language", language)]).await;
        assert_eq!((got.cache, &got.body[..], got.age()), (Some(expected), &b"hello"[..], "40"), "{language}");
        assert_eq!(got.headers["x"], "2");
        assert!(!got.headers.contains_key("set-cookie"));
    }
    harness.fail();
    assert!(
        harness.try_send("GET", "/a", &[("accept-language", "de")], "").await.is_ok(),
        "served stale in place of the error"
    );
    assert_eq!(condition(&harness).unwrap(), "\"de\"", "which was not updated");
    // Two variants with one content now have the same tag.
    harness.respond(304, &[FRESH, VARY, ("etag", "\"en\"")], "");
    assert_eq!(harness.get(&[("accept-language", "it")]).await.body, "hello");
    assert_eq!(condition(&harness).unwrap().matches("\"en\"").count(), 1);
}

#[tokio::test]
async fn stores_a_200_response_as_a_new_variant() {
    let harness = harness();
    store(&harness, "en", "\"en\"", "hello").await;
    harness.respond(200, &[FRESH, VARY, ("etag", "\"fr\"")], "bonjour");
    let got = harness.get(&[("accept-language", "fr")]).await;
    assert_eq!(
        (condition(&harness).unwrap(), got.cache_status()),
        ("\"en\"".to_owned(), "rproxy; fwd=vary-miss; stored")
    );
    for (language, body) in [("en", "hello"), ("fr", "bonjour")] {
        let got = harness.get(&[("accept-language", language)]).await;
        assert_eq!((got.cache, &got.body[..]), (Some(CacheStatus::Hit), body.as_bytes()));
    }
}

#[tokio::test]
async fn ambiguous_304_response_causes_a_repeated_request_without_if_none_match() {
    for unclear in [&[FRESH, VARY][..], &[FRESH, VARY, ("etag", "\"other\"")], &[FRESH, VARY, ("etag", "\"en, \"de\"")]]
    {
        let harness = harness();
        store(&harness, "en", "\"en\"", "hello").await;
        store(&harness, "de", "\"de\"", "hallo").await;
        harness.respond(304, unclear, "");
        harness.respond(200, &[FRESH, VARY, ("etag", "\"fr\"")], "bonjour");
        let got = harness.get(&[("accept-language", "fr"), ("x-other", "kept")]).await;
        assert_eq!((got.status, &got.body[..]), (StatusCode::OK, &b"bonjour"[..]), "{unclear:?}");
        assert_eq!(got.cache_status(), "rproxy; fwd=vary-miss; stored");
        assert_eq!((harness.origin_requests(), condition(&harness)), (4, None));
        let (method, headers) = harness.last_request();
        assert_eq!(
            (method, &headers["x-other"], &headers["host"]),
            (Method::GET, &"kept".parse().unwrap(), &"example.org".parse().unwrap())
        );
        assert_eq!(harness.get(&[("accept-language", "fr")]).await.cache, Some(CacheStatus::Hit));
    }
}

#[tokio::test]
async fn error_of_the_repeated_request_is_returned_to_the_client() {
    let harness = harness();
    store(&harness, "en", "\"en\"", "hello").await;
    store(&harness, "de", "\"de\"", "hallo").await;
    harness.respond(304, &[], "");
    harness.fail();
    let got = harness.try_send("GET", "/a", &[("accept-language", "fr")], "").await;
    assert_eq!(got.err(), Some("connection refused"));
}

#[tokio::test]
async fn a_304_response_without_etag_validates_the_only_sent_entity_tag() {
    let harness = harness();
    store(&harness, "en", "\"en\"", "hello").await;
    harness.respond(304, &[FRESH, VARY], "");
    let got = harness.get(&[("accept-language", "fr")]).await;
    assert_eq!((got.status, &got.body[..], harness.origin_requests()), (StatusCode::OK, &b"hello"[..], 2));
}

#[tokio::test]
async fn sends_only_one_entity_tag_if_requests_cannot_be_repeated() {
    let harness = Harness::new();
    store(&harness, "en", "\"en\"", "hello").await;
    store(&harness, "de", "\"de\"", "hallo").await;
    harness.get(&[("accept-language", "en")]).await;
    harness.respond(304, &[FRESH, VARY], "");
    assert_eq!(harness.get(&[("accept-language", "fr")]).await.body, "hello");
    assert_eq!(condition(&harness).unwrap(), "\"en\"");
}

#[tokio::test]
async fn a_304_response_with_no_store_serves_only_one_request() {
    let harness = harness();
    store(&harness, "en", "\"en\"", "hello").await;
    harness.respond(304, &[("cache-control", "private"), VARY, ("etag", "\"en\"")], "");
    let got = harness.get(&[("accept-language", "fr")]).await;
    assert_eq!((&got.body[..], got.cache_status()), (&b"hello"[..], "rproxy; fwd=vary-miss; fwd-status=304"));
    assert_eq!(got.headers["cache-control"], "private");
    assert_eq!(harness.get(&[("accept-language", "en")]).await.cache, Some(CacheStatus::Hit));
    harness.respond(200, &[FRESH, VARY], "bonjour");
    assert_eq!(harness.get(&[("accept-language", "fr")]).await.body, "bonjour");
}

#[tokio::test]
async fn does_not_send_ambiguous_or_client_specific_entity_tags() {
    let en = ("accept-language", "en");
    let gzip = ("accept-encoding", "gzip");
    let tag = ("etag", "\"en\"");
    let public = ("cache-control", "public, max-age=60");
    for (request, status, response, why) in [
        (&[en][..], 200, &[FRESH, VARY, ("etag", "W/\"en\"")][..], "weak"),
        (&[en], 200, &[FRESH, VARY, ("etag", "en")], "not an entity-tag"),
        (&[en], 200, &[FRESH, VARY, ("etag", "\"a\", \"b\"")], "not one entity-tag"),
        (&[en], 200, &[FRESH, VARY, ("etag", "*")], "any"),
        (&[en], 404, &[FRESH, VARY, tag], "no representation"),
        (&[en, ("cookie", "a=b")], 200, &[public, VARY, tag], "requested with a cookie"),
        (&[en, ("authorization", "Basic eDp5")], 200, &[public, VARY, tag], "requested with credentials"),
        (&[en], 200, &[public, ("vary", "accept-language, cookie"), tag], "varies by a cookie"),
        (&[en], 200, &[public, ("vary", "accept-language, authorization"), tag], "varies by credentials"),
        (&[en, gzip], 200, &[FRESH, VARY, tag, ("content-encoding", "gzip")], "a coding that is not accepted"),
        (&[en, ("accept-encoding", "dcz")], 200, &[FRESH, VARY, tag, ("content-encoding", "dcz")], "a dictionary"),
        (&[en, gzip], 200, &[FRESH, ("vary", "accept-language, accept-encoding"), tag], "may be compressed for others"),
    ] {
        let harness = harness();
        harness.respond(status, response, "hello");
        assert_eq!(harness.get(request).await.status, status);
        harness.respond(200, &[FRESH, VARY], "bonjour");
        let got = harness.get(&[("accept-language", "fr"), ("accept-encoding", "br, dcz")]).await;
        assert_eq!((condition(&harness), &got.body[..]), (None, &b"bonjour"[..]), "{why}");
        assert_eq!(harness.origin_requests(), 2, "{why}");
    }
}

#[tokio::test]
async fn does_not_send_an_entity_tag_shared_by_two_representations() {
    let harness = harness();
    store(&harness, "en", "\"same\"", "hello").await;
    store(&harness, "de", "\"same\"", "guten Tag").await;
    store(&harness, "it", "\"it\"", "ciao").await;
    assert_eq!(condition(&harness), None);
    harness.respond(304, &[FRESH, VARY, ("etag", "\"it\"")], "");
    assert_eq!(harness.get(&[("accept-language", "fr")]).await.body, "ciao");
    assert_eq!(condition(&harness).unwrap(), "\"it\"");
}

#[tokio::test]
async fn sends_entity_tags_of_encoded_variants_only_if_the_client_accepts_the_coding() {
    let vary = ("vary", "accept-encoding");
    for (accepted, is_sent) in [
        ("br, gzip", true),
        ("gzip;q=0.1, br", true),
        ("*", true),
        ("br", false),
        ("br, gzip;q=0", false),
        ("identity", false),
        ("*;q=0", false),
    ] {
        let harness = harness();
        harness.respond(200, &[FRESH, vary, ("etag", "\"gz\""), ("content-encoding", "gzip")], "zipped");
        harness.get(&[("accept-encoding", "gzip")]).await;
        if is_sent {
            harness.respond(304, &[FRESH, vary, ("etag", "\"gz\"")], "");
        } else {
            harness.respond(200, &[FRESH, vary], "other");
        }
        let got = harness.get(&[("accept-encoding", accepted)]).await;
        assert_eq!(&got.body[..], if is_sent { &b"zipped"[..] } else { b"other" }, "{accepted}");
        assert_eq!(condition(&harness).is_some(), is_sent, "{accepted}");
    }
}

#[tokio::test]
async fn adds_no_entity_tags_to_conditional_range_and_head_requests() {
    for (method, field, forwarded) in [
        ("GET", ("if-none-match", "\"mine\""), None),
        ("GET", ("if-modified-since", MODIFIED.1), None),
        ("GET", ("range", "bytes=0-1"), None),
        ("HEAD", ("x", "1"), None),
        ("GET", ("if-match", "\"mine\""), None),
        ("GET", ("x", "1"), Some("\"en\"")),
    ] {
        let harness = harness();
        store(&harness, "en", "\"en\"", "hello").await;
        harness.respond(200, &[FRESH, VARY], "bonjour");
        harness.send(method, "/a", &[("accept-language", "fr"), field]).await;
        let named = condition(&harness).filter(|named| named.contains("\"en\""));
        assert_eq!(named.as_deref(), forwarded, "{method} {field:?}");
    }
}

#[tokio::test]
async fn sends_at_most_16_entity_tags_in_if_none_match() {
    let harness = harness();
    for number in 0..30 {
        let answer = [FRESH, VARY, ("etag", &*format!("\"{number}\""))];
        harness.respond(200, &answer, "hello");
        harness.get(&[("accept-language", &format!("x-{number}"))]).await;
        let named = condition(&harness).map_or(0, |named| named.split(", ").count());
        assert_eq!(named, number.min(16));
    }
}

/// A service that must be polled ready before each call, like a service with a concurrency limit.
struct ReadyOnce {
    origin: Origin,
    is_ready: bool,
}

impl Service<Request<Full<Bytes>>> for ReadyOnce {
    type Response = Response<Frames>;
    type Error = &'static str;
    type Future = Ready<OriginResponse>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        self.is_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        assert!(std::mem::take(&mut self.is_ready), "called before it was ready");
        self.origin.call(request)
    }
}

impl Clone for ReadyOnce {
    fn clone(&self) -> Self {
        Self { origin: self.origin.clone(), is_ready: false }
    }
}

#[tokio::test]
async fn repeats_the_request_only_when_the_service_is_ready() {
    let harness = harness();
    store(&harness, "en", "\"en\"", "hello").await;
    store(&harness, "de", "\"de\"", "hallo").await;
    harness.respond(304, &[], "");
    harness.respond(200, &[VARY], "bonjour");
    let origin = ReadyOnce { origin: harness.origin.clone(), is_ready: false };
    let now = Arc::clone(&harness.now);
    let service = CacheLayer::new(harness.store.clone())
        .clock(move || UNIX_EPOCH + Duration::from_secs(now.load(Ordering::SeqCst)))
        .empty_body(Full::<Bytes>::default)
        .layer(origin);
    let request = Request::get("http://example.org/a").header("accept-language", "fr").body(Full::default());
    let response = service.oneshot(request.unwrap()).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "bonjour");
}
