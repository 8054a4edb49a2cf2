//! Requests that select no stored variant, validated with the entity-tags of others: RFC 9111 §4.3.1.

use crate::world::*;

const VARY: (&str, &str) = ("vary", "accept-language");

fn world() -> World {
    World::with(|layer| layer.empty_body(Full::<Bytes>::default))
}

/// Has the variant of a language stored.
async fn store(world: &World, language: &str, etag: &str, body: &'static str) {
    world.answer(200, &[FRESH, VARY, ("etag", etag), ("x", "1")], body);
    assert_eq!(world.get(&[("accept-language", language)]).await.body, body);
}

fn condition(world: &World) -> Option<String> {
    let (_, headers) = world.last_asked();
    let lines: Vec<_> = headers.get_all("if-none-match").iter().map(|line| line.to_str().unwrap()).collect();
    assert!(lines.len() <= 1);
    lines.first().map(|line| (*line).to_owned())
}

#[tokio::test]
async fn a_304_selects_the_variant_that_it_names_and_freshens_it() {
    let world = world();
    store(&world, "en", "\"en\"", "hello").await;
    store(&world, "de", "\"de\"", "hallo").await;
    world.wait(30);
    world.answer(304, &[FRESH, VARY, ("etag", "\"en\""), ("x", "2"), ("set-cookie", "a=b")], "");
    let got = world.get(&[("accept-language", "fr, en")]).await;
    assert_eq!(condition(&world).unwrap(), "\"en\", \"de\"");
    assert_eq!((got.status, &got.body[..], got.age()), (StatusCode::OK, &b"hello"[..], "0"));
    assert_eq!(got.cache_status(), "rproxy; fwd=vary-miss; fwd-status=304; stored");
    assert_eq!((got.cache, &got.headers["x"]), (Some(CacheStatus::Revalidated), &"2".parse().unwrap()));
    assert_eq!(got.headers["set-cookie"], "a=b", "for the client of the exchange");

    // Both requests select it now, and both have what the 304 said.
    world.wait(40);
    for (language, expected) in [("fr, en", CacheStatus::Hit), ("en", CacheStatus::Hit)] {
        let got = world.get(&[("accept-language", language)]).await;
        assert_eq!((got.cache, &got.body[..], got.age()), (Some(expected), &b"hello"[..], "40"), "{language}");
        assert_eq!(got.headers["x"], "2");
        assert!(!got.headers.contains_key("set-cookie"));
    }
    world.fail();
    assert!(world.try_send("GET", "/a", &[("accept-language", "de")], "").await.is_ok(), "stale, in place of an error");
    assert_eq!(condition(&world).unwrap(), "\"de\"", "which was not freshened");
    // The one tag stands for two variants by now, with one content.
    world.answer(304, &[FRESH, VARY, ("etag", "\"en\"")], "");
    assert_eq!(world.get(&[("accept-language", "it")]).await.body, "hello");
    assert_eq!(condition(&world).unwrap().matches("\"en\"").count(), 1);
}

#[tokio::test]
async fn a_200_is_stored_as_the_variant_that_it_is() {
    let world = world();
    store(&world, "en", "\"en\"", "hello").await;
    world.answer(200, &[FRESH, VARY, ("etag", "\"fr\"")], "bonjour");
    let got = world.get(&[("accept-language", "fr")]).await;
    assert_eq!(
        (condition(&world).unwrap(), got.cache_status()),
        ("\"en\"".to_owned(), "rproxy; fwd=vary-miss; stored")
    );
    for (language, body) in [("en", "hello"), ("fr", "bonjour")] {
        let got = world.get(&[("accept-language", language)]).await;
        assert_eq!((got.cache, &got.body[..]), (Some(CacheStatus::Hit), body.as_bytes()));
    }
}

#[tokio::test]
async fn a_304_that_names_none_of_several_variants_has_the_request_repeated_without_condition() {
    for unclear in [&[FRESH, VARY][..], &[FRESH, VARY, ("etag", "\"other\"")], &[FRESH, VARY, ("etag", "\"en, \"de\"")]]
    {
        let world = world();
        store(&world, "en", "\"en\"", "hello").await;
        store(&world, "de", "\"de\"", "hallo").await;
        world.answer(304, unclear, "");
        world.answer(200, &[FRESH, VARY, ("etag", "\"fr\"")], "bonjour");
        let got = world.get(&[("accept-language", "fr"), ("x-other", "kept")]).await;
        assert_eq!((got.status, &got.body[..]), (StatusCode::OK, &b"bonjour"[..]), "{unclear:?}");
        assert_eq!(got.cache_status(), "rproxy; fwd=vary-miss; stored");
        assert_eq!((world.asked(), condition(&world)), (4, None));
        let (method, headers) = world.last_asked();
        assert_eq!(
            (method, &headers["x-other"], &headers["host"]),
            (Method::GET, &"kept".parse().unwrap(), &"example.org".parse().unwrap())
        );
        assert_eq!(world.get(&[("accept-language", "fr")]).await.cache, Some(CacheStatus::Hit));
    }
}

#[tokio::test]
async fn an_error_of_the_repeated_request_reaches_the_client() {
    let world = world();
    store(&world, "en", "\"en\"", "hello").await;
    store(&world, "de", "\"de\"", "hallo").await;
    world.answer(304, &[], "");
    world.fail();
    let got = world.try_send("GET", "/a", &[("accept-language", "fr")], "").await;
    assert_eq!(got.err(), Some("connection refused"));
}

#[tokio::test]
async fn a_304_without_an_etag_is_about_the_only_tag_that_was_sent() {
    let world = world();
    store(&world, "en", "\"en\"", "hello").await;
    world.answer(304, &[FRESH, VARY], "");
    let got = world.get(&[("accept-language", "fr")]).await;
    assert_eq!((got.status, &got.body[..], world.asked()), (StatusCode::OK, &b"hello"[..], 2));
}

#[tokio::test]
async fn where_requests_can_not_be_repeated_only_the_tag_of_the_most_used_variant_is_sent() {
    let world = World::new();
    store(&world, "en", "\"en\"", "hello").await;
    store(&world, "de", "\"de\"", "hallo").await;
    world.get(&[("accept-language", "en")]).await;
    world.answer(304, &[FRESH, VARY], "");
    assert_eq!(world.get(&[("accept-language", "fr")]).await.body, "hello");
    assert_eq!(condition(&world).unwrap(), "\"en\"");
}

#[tokio::test]
async fn a_304_that_forbids_storing_serves_its_request_alone() {
    let world = world();
    store(&world, "en", "\"en\"", "hello").await;
    world.answer(304, &[("cache-control", "private"), VARY, ("etag", "\"en\"")], "");
    let got = world.get(&[("accept-language", "fr")]).await;
    assert_eq!((&got.body[..], got.cache_status()), (&b"hello"[..], "rproxy; fwd=vary-miss; fwd-status=304"));
    assert_eq!(got.headers["cache-control"], "private");
    assert_eq!(world.get(&[("accept-language", "en")]).await.cache, Some(CacheStatus::Hit));
    world.answer(200, &[FRESH, VARY], "bonjour");
    assert_eq!(world.get(&[("accept-language", "fr")]).await.body, "bonjour");
}

#[tokio::test]
async fn tags_that_do_not_name_one_representation_for_everybody_are_not_sent() {
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
        let world = world();
        world.answer(status, response, "hello");
        assert_eq!(world.get(request).await.status, status);
        world.answer(200, &[FRESH, VARY], "bonjour");
        let got = world.get(&[("accept-language", "fr"), ("accept-encoding", "br, dcz")]).await;
        assert_eq!((condition(&world), &got.body[..]), (None, &b"bonjour"[..]), "{why}");
        assert_eq!(world.asked(), 2, "{why}");
    }
}

#[tokio::test]
async fn a_tag_that_two_contents_share_is_not_sent() {
    let world = world();
    store(&world, "en", "\"same\"", "hello").await;
    store(&world, "de", "\"same\"", "guten Tag").await;
    store(&world, "it", "\"it\"", "ciao").await;
    assert_eq!(condition(&world), None);
    world.answer(304, &[FRESH, VARY, ("etag", "\"it\"")], "");
    assert_eq!(world.get(&[("accept-language", "fr")]).await.body, "ciao");
    assert_eq!(condition(&world).unwrap(), "\"it\"");
}

#[tokio::test]
async fn a_coded_variant_is_validated_for_clients_that_accept_its_coding() {
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
        let world = world();
        world.answer(200, &[FRESH, vary, ("etag", "\"gz\""), ("content-encoding", "gzip")], "zipped");
        world.get(&[("accept-encoding", "gzip")]).await;
        if is_sent {
            world.answer(304, &[FRESH, vary, ("etag", "\"gz\"")], "");
        } else {
            world.answer(200, &[FRESH, vary], "other");
        }
        let got = world.get(&[("accept-encoding", accepted)]).await;
        assert_eq!(&got.body[..], if is_sent { &b"zipped"[..] } else { b"other" }, "{accepted}");
        assert_eq!(condition(&world).is_some(), is_sent, "{accepted}");
    }
}

#[tokio::test]
async fn a_client_with_conditions_or_a_range_speaks_for_itself() {
    for (method, field, forwarded) in [
        ("GET", ("if-none-match", "\"mine\""), None),
        ("GET", ("if-modified-since", MODIFIED.1), None),
        ("GET", ("range", "bytes=0-1"), None),
        ("HEAD", ("x", "1"), None),
        ("GET", ("if-match", "\"mine\""), None),
        ("GET", ("x", "1"), Some("\"en\"")),
    ] {
        let world = world();
        store(&world, "en", "\"en\"", "hello").await;
        world.answer(200, &[FRESH, VARY], "bonjour");
        world.send(method, "/a", &[("accept-language", "fr"), field]).await;
        let named = condition(&world).filter(|named| named.contains("\"en\""));
        assert_eq!(named.as_deref(), forwarded, "{method} {field:?}");
    }
}

#[tokio::test]
async fn at_most_16_tags_are_sent() {
    let world = world();
    for number in 0..30 {
        let answer = [FRESH, VARY, ("etag", &*format!("\"{number}\""))];
        world.answer(200, &answer, "hello");
        world.get(&[("accept-language", &format!("x-{number}"))]).await;
        let named = condition(&world).map_or(0, |named| named.split(", ").count());
        assert_eq!(named, number.min(16));
    }
}

/// Has to be asked whether it is ready before each call, as a service with a limit does.
struct ReadyOnce {
    origin: Origin,
    is_ready: bool,
}

impl Service<Request<Full<Bytes>>> for ReadyOnce {
    type Response = Response<Frames>;
    type Error = &'static str;
    type Future = Ready<Answer>;

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
async fn the_service_is_ready_before_the_request_is_repeated() {
    let world = world();
    store(&world, "en", "\"en\"", "hello").await;
    store(&world, "de", "\"de\"", "hallo").await;
    world.answer(304, &[], "");
    world.answer(200, &[VARY], "bonjour");
    let origin = ReadyOnce { origin: world.origin.clone(), is_ready: false };
    let now = Arc::clone(&world.now);
    let service = CacheLayer::new(world.store.clone())
        .clock(move || UNIX_EPOCH + Duration::from_secs(now.load(Ordering::SeqCst)))
        .empty_body(Full::<Bytes>::default)
        .layer(origin);
    let request = Request::get("http://example.org/a").header("accept-language", "fr").body(Full::default());
    let response = service.oneshot(request.unwrap()).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "bonjour");
}
