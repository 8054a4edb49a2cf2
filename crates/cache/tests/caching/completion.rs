//! Tests of the completion of incomplete responses (RFC 9111 §3.3 and §3.4).

use crate::harness::*;

fn harness() -> Harness {
    Harness::with(|layer| layer.empty_body(Full::<Bytes>::default))
}

/// Stores the bytes `range` of `0123456789` in the cache as a response to a range request.
async fn store_part(harness: &Harness, range: &str) {
    store_part_with(harness, range, &[FRESH, ETAG, ("content-type", "text/plain"), ("x", "old")]).await;
}

async fn store_part_with(harness: &Harness, range: &str, fields: &[(&str, &str)]) {
    let (first, last) = range.split_once('-').unwrap();
    let body = &"0123456789"[first.parse().unwrap()..=last.parse().unwrap()];
    let content_range = format!("bytes {range}/10");
    harness.respond(206, &[fields, &[("content-range", &content_range)]].concat(), body);
    assert_eq!(harness.get(&[("range", &format!("bytes={range}"))]).await.body, body);
}

/// Makes the origin respond with the bytes `range` of `0123456789`.
fn answer_part(harness: &Harness, range: &str) {
    let (first, last) = range.split_once('-').unwrap();
    let body = &"0123456789"[first.parse().unwrap()..=last.parse().unwrap()];
    let content_range = format!("bytes {range}/10");
    harness.respond(206, &[FRESH, ETAG, ("content-range", &content_range), ("x", "new")], body);
}

fn field<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn requests_only_the_missing_bytes_of_a_partially_stored_response() {
    for (stored, requested, sent) in [
        (&["0-4"][..], "bytes=5-", "5-9"),
        (&["5-9"], "bytes=0-4", "0-4"),
        (&["0-1", "7-9"], "bytes=2-6", "2-6"),
        (&["0-1", "4-5"], "bytes=2-", "2-9"),
    ] {
        let harness = harness();
        for range in stored {
            store_part(&harness, range).await;
        }
        harness.advance(10);
        answer_part(&harness, sent);
        let got = harness.get(&[("accept", "text/plain")]).await;
        assert_eq!((got.status, &got.body[..]), (StatusCode::OK, &b"0123456789"[..]), "{stored:?}");
        assert_eq!(got.cache_status(), "rproxy; fwd=partial; fwd-status=206; stored");
        assert_eq!(got.cache, Some(CacheStatus::Forwarded(ForwardReason::Partial)));
        assert_eq!((field(&got.headers, "content-length"), field(&got.headers, "content-range")), ("10", ""));
        let (_, request) = harness.last_request();
        assert_eq!((field(&request, "range"), field(&request, "if-range")), (requested, ETAG.1), "{stored:?}");
        assert_eq!(field(&request, "accept"), "text/plain");

        let hit = harness.get(&[]).await;
        assert_eq!((hit.cache, &hit.body[..], hit.age()), (Some(CacheStatus::Hit), &b"0123456789"[..], "0"));
    }
}

#[tokio::test]
async fn merges_the_header_fields_of_combined_partial_responses() {
    // RFC 9111 §3.4, RFC 9110 §15.3.7
    let harness = harness();
    store_part(&harness, "0-4").await;
    harness.respond(206, &[ETAG, ("content-range", "bytes 5-9/10"), ("x", "new"), ("set-cookie", "a=b")], "56789");
    let got = harness.get(&[]).await;
    for got in [&got, &harness.get(&[]).await] {
        assert_eq!((field(&got.headers, "content-type"), field(&got.headers, "x")), ("text/plain", "new"));
        assert_eq!((field(&got.headers, "cache-control"), got.headers.get_all("x").iter().count()), (FRESH.1, 1));
    }
    assert_eq!(field(&got.headers, "set-cookie"), "a=b", "for the client of the exchange");
    assert!(!harness.get(&[]).await.headers.contains_key("set-cookie"));
}

#[tokio::test]
async fn requests_only_the_missing_bytes_of_a_partially_stored_range() {
    for (stored, asked, requested, sent, content_range) in [
        ("0-4", "bytes=3-7", "bytes=5-7", "5-7", "bytes 3-7/10"),
        ("0-4", "bytes=3-", "bytes=5-", "5-9", "bytes 3-9/10"),
        ("4-9", "bytes=2-5", "bytes=2-3", "2-3", "bytes 2-5/10"),
        ("4-9", "bytes=-8", "bytes=2-3", "2-3", "bytes 2-9/10"),
    ] {
        let harness = harness();
        store_part(&harness, stored).await;
        answer_part(&harness, sent);
        let got = harness.get(&[("range", asked), ("if-range", ETAG.1)]).await;
        let body = content_range.split(' ').nth(1).unwrap().split('/').next().unwrap();
        let (first, last) = body.split_once('-').unwrap();
        let body = &"0123456789"[first.parse().unwrap()..=last.parse().unwrap()];
        assert_eq!((got.status.as_u16(), &got.body[..]), (206, body.as_bytes()), "{stored} {asked}");
        assert_eq!(got.cache_status(), "rproxy; fwd=partial; stored");
        assert_eq!(field(&got.headers, "content-range"), content_range);
        assert_eq!(field(&got.headers, "content-length"), body.len().to_string());
        assert_eq!((field(&got.headers, "content-type"), field(&got.headers, "x")), ("text/plain", "new"));
        assert_eq!(field(&harness.last_request().1, "range"), requested);
    }
}

#[tokio::test]
async fn combines_the_missing_part_of_a_range_with_stored_partial_responses() {
    let harness = harness();
    store_part(&harness, "0-4").await;
    answer_part(&harness, "5-7");
    harness.get(&[("range", "bytes=3-7")]).await;
    assert_eq!(harness.get(&[("range", "bytes=5-7")]).await.cache, Some(CacheStatus::Hit));
    answer_part(&harness, "8-9");
    harness.get(&[("range", "bytes=4-")]).await;
    let whole = harness.get(&[]).await;
    assert_eq!((whole.cache, &whole.body[..]), (Some(CacheStatus::Hit), &b"0123456789"[..]));
    assert_eq!(field(&whole.headers, "content-type"), "text/plain");
    assert_eq!(harness.origin_requests(), 3);
}

#[tokio::test]
async fn request_for_the_missing_range_validates_a_stale_partial_response() {
    let harness = harness();
    store_part(&harness, "0-4").await;
    harness.advance(90);
    answer_part(&harness, "5-9");
    let got = harness.get(&[]).await;
    assert_eq!((&got.body[..], field(&harness.last_request().1, "if-range")), (&b"0123456789"[..], ETAG.1));
    assert_eq!(harness.get(&[]).await.cache_status(), "rproxy; hit; ttl=60");
}

#[tokio::test]
async fn changed_representation_replaces_partial_responses() {
    // RFC 9110 §13.1.5
    for range in [None, Some(("range", "bytes=3-7"))] {
        let harness = harness();
        store_part(&harness, "0-4").await;
        harness.respond(200, &[FRESH, ("etag", "\"v2\"")], "abcdefghij");
        let got = harness.get(range.as_slice()).await;
        assert_eq!((got.status, &got.body[..]), (StatusCode::OK, &b"abcdefghij"[..]));
        assert_eq!(got.cache_status(), "rproxy; fwd=partial; stored");
        let hit = harness.get(&[("range", "bytes=0-4")]).await;
        assert_eq!((hit.cache, &hit.body[..], harness.origin_requests()), (Some(CacheStatus::Hit), &b"abcde"[..], 2));
    }
}

#[tokio::test]
async fn repeats_the_original_request_if_the_response_for_the_missing_range_is_unusable() {
    // RFC 9110 §15.3.7.3
    let rest = ("content-range", "bytes 5-9/10");
    for (status, fields, body, why) in [
        (206, &[FRESH, ("etag", "\"v2\""), rest][..], "56789", "another state"),
        (206, &[FRESH, ("etag", "W/\"v1\""), rest], "56789", "a weak validator"),
        (206, &[FRESH, rest], "56789", "no validator"),
        (206, &[FRESH, ETAG], "56789", "no range"),
        (206, &[FRESH, ETAG, ("content-range", "bytes 5-8/10")], "5678", "less than was asked for"),
        (206, &[FRESH, ETAG, ("content-range", "bytes 4-9/10")], "456789", "more than was asked for"),
        (206, &[FRESH, ETAG, ("content-range", "bytes 5-9/11")], "56789", "another length"),
        (206, &[FRESH, ETAG, ("content-range", "bytes 5-9/*")], "56789", "an unknown length"),
        (206, &[FRESH, ETAG, rest, ("content-length", "4")], "5678", "a length that contradicts the range"),
        (206, &[FRESH, ETAG, rest, ("content-encoding", "gzip")], "56789", "another coding"),
        (416, &[("content-range", "bytes */5")], "", "no such range"),
        (304, &[ETAG], "", "an answer to no question"),
        (412, &[], "", "an answer to no question"),
    ] {
        let harness = harness();
        store_part(&harness, "0-4").await;
        harness.respond(status, fields, body);
        harness.respond(200, &[FRESH, ("etag", "\"v2\"")], "abcdefghij");
        let got = harness.get(&[("accept", "text/plain")]).await;
        assert_eq!(
            (got.status, &got.body[..], harness.origin_requests()),
            (StatusCode::OK, &b"abcdefghij"[..], 3),
            "{why}"
        );
        assert_eq!(got.cache_status(), "rproxy; fwd=partial; stored", "{why}");
        let (_, request) = harness.last_request();
        assert!(!request.contains_key("range") && !request.contains_key("if-range"), "{why}");
        assert_eq!(field(&request, "accept"), "text/plain");
    }
}

#[tokio::test]
async fn repeated_range_request_contains_the_range_field_of_the_client() {
    let harness = harness();
    store_part(&harness, "0-4").await;
    harness.respond(206, &[FRESH, ("etag", "\"v2\""), ("content-range", "bytes 5-7/10")], "fgh");
    harness.respond(206, &[FRESH, ("etag", "\"v2\""), ("content-range", "bytes 3-7/10")], "defgh");
    let got = harness.get(&[("range", "bytes=3-7")]).await;
    assert_eq!((got.status.as_u16(), &got.body[..], harness.origin_requests()), (206, &b"defgh"[..], 3));
    let (_, request) = harness.last_request();
    assert_eq!((field(&request, "range"), field(&request, "if-range")), ("bytes=3-7", ""));
}

#[tokio::test]
async fn error_response_to_a_request_for_the_missing_range_is_forwarded() {
    let harness = harness();
    store_part(&harness, "0-4").await;
    for status in [404, 500, 503] {
        harness.respond(status, &[], "error");
        let got = harness.get(&[]).await;
        assert_eq!((got.status.as_u16(), &got.body[..]), (status, &b"error"[..]));
    }
    harness.fail();
    assert_eq!(harness.try_send("GET", "/a", &[], "").await.err(), Some("connection refused"));
}

#[tokio::test]
async fn failed_request_for_the_missing_range_aborts_the_response() {
    // RFC 9111 §3.3
    for (range, sent) in [(None, "5-9"), (Some(("range", "bytes=3-8")), "5-8"), (Some(("range", "bytes=-8")), "2-3")] {
        for (rest, error) in [
            (Frames::data(&["5"]).then(Err("reset")), "reset"),
            (Frames::default().then(Err("reset")), "reset"),
            (Frames::data(&["5"]), "incomplete"),
            (Frames::default(), "incomplete"),
            (Frames::data(&["56789", "!"]), "incomplete"),
            (Frames::data(&["5678", "9!"]), "incomplete"),
        ] {
            let harness = harness();
            store_part(&harness, if sent == "2-3" { "4-9" } else { "0-4" }).await;
            let content_range = format!("bytes {sent}/10");
            harness.respond_with_body(206, &[FRESH, ETAG, ("content-range", &content_range)], rest);
            assert_eq!(harness.try_send("GET", "/a", range.as_slice(), "").await.err(), Some(error), "{sent}");
            let got = harness.get(&[("cache-control", "only-if-cached")]).await;
            assert_eq!(got.status, StatusCode::GATEWAY_TIMEOUT, "{sent}: nothing is stored as the whole");
        }
    }
}

#[tokio::test]
async fn stream_reset_after_the_last_byte_of_the_missing_range_aborts_the_response() {
    let harness = harness();
    store_part(&harness, "0-1").await;
    store_part(&harness, "8-9").await;
    let fields = [FRESH, ETAG, ("content-range", "bytes 2-7/10"), ("content-length", "6")];
    harness.respond_with_body(206, &fields, Frames::data(&["234567"]).then(Err("reset")));
    assert_eq!(harness.try_send("GET", "/a", &[], "").await.err(), Some("reset"));
    let got = harness.get(&[("cache-control", "only-if-cached")]).await;
    assert_eq!(got.status, StatusCode::GATEWAY_TIMEOUT);
}

#[tokio::test]
async fn drops_trailer_fields_of_the_response_for_the_missing_range() {
    let harness = harness();
    store_part(&harness, "5-9").await;
    let fields = [FRESH, ETAG, ("content-range", "bytes 0-4/10")];
    harness.respond_with_body(206, &fields, Frames::data(&["01234"]).then(Ok(Frame::trailers(map(&[("x", "1")])))));
    assert_eq!(harness.get(&[]).await.body, "0123456789");
    assert_eq!(harness.get(&[]).await.cache, Some(CacheStatus::Hit));
}

#[tokio::test]
async fn does_not_complete_partial_responses_without_a_strong_validator() {
    // RFC 9110 §15.3.7.3
    for etag in [&[("etag", "W/\"v1\"")][..], &[("etag", "v1")], &[MODIFIED], &[]] {
        let harness = harness();
        store_part_with(&harness, "0-4", &[&[FRESH], etag].concat()).await;
        harness.respond(200, &[FRESH], "0123456789");
        let got = harness.get(&[]).await;
        assert_eq!(
            (&got.body[..], got.cache_status()),
            (&b"0123456789"[..], "rproxy; fwd=partial; stored"),
            "{etag:?}"
        );
        assert!(!harness.last_request().1.contains_key("range"), "{etag:?}");
    }
}

#[tokio::test]
async fn requests_that_partial_responses_cannot_serve_are_forwarded_unchanged() {
    for (method, fields, why) in [
        ("GET", &[("if-none-match", "\"v0\"")][..], "a condition of the client"),
        ("GET", &[("if-modified-since", MODIFIED.1)], "a condition of the client"),
        ("GET", &[("range", "bytes=3-7"), ("if-range", "\"v0\"")], "another validator"),
        ("GET", &[("range", "bytes=0-1,5-6")], "several ranges"),
        ("GET", &[("range", "bytes=7-8")], "nothing of it is stored"),
        ("GET", &[("range", "lines=1-2")], "another unit"),
        ("GET", &[("if-match", "\"v1\"")], "a precondition"),
        ("HEAD", &[], "no content"),
    ] {
        let harness = harness();
        store_part(&harness, "0-4").await;
        harness.respond(200, &[FRESH, ETAG], "0123456789");
        let got = harness.send(method, "/a", fields).await;
        assert_eq!((got.status, harness.origin_requests()), (StatusCode::OK, 2), "{why}");
        let (_, mut request) = harness.last_request();
        request.remove("host");
        for name in ["if-none-match", "if-modified-since"] {
            // The cache evaluates the condition of a request that can have followers.
            request.remove(name);
        }
        let mut expected = map(fields);
        expected.remove("if-none-match");
        expected.remove("if-modified-since");
        assert_eq!(request, expected, "{why}");
    }
}

#[tokio::test]
async fn does_not_complete_partial_responses_unless_empty_body_is_set() {
    let harness = Harness::new();
    store_part(&harness, "0-4").await;
    harness.respond(200, &[FRESH, ETAG], "0123456789");
    assert_eq!(harness.get(&[]).await.cache_status(), "rproxy; fwd=partial; stored");
    assert!(!harness.last_request().1.contains_key("range"));
}

#[tokio::test]
async fn does_not_complete_a_partial_response_of_another_variant() {
    // RFC 9111 §4.1
    let harness = harness();
    let part = [FRESH, ETAG, ("vary", "foo"), ("content-range", "bytes 0-4/10")];
    harness.respond(206, &part, "01234");
    harness.get(&[("range", "bytes=0-4"), ("foo", "1")]).await;
    harness.respond(200, &[FRESH, ("vary", "foo")], "abcdefghij");
    let got = harness.get(&[("foo", "2")]).await;
    assert_eq!((&got.body[..], got.cache_status()), (&b"abcdefghij"[..], "rproxy; fwd=vary-miss; stored"));
    assert!(!harness.last_request().1.contains_key("range"));
}

#[tokio::test]
async fn response_for_the_missing_range_with_no_store_completes_only_one_response() {
    for range in [None, Some(("range", "bytes=3-9"))] {
        let harness = harness();
        store_part(&harness, "0-4").await;
        let fields = [("cache-control", "no-store"), ETAG, ("content-range", "bytes 5-9/10")];
        harness.respond(206, &fields, "56789");
        let got = harness.get(range.as_slice()).await;
        assert!(got.body.ends_with(b"3456789") && !got.cache_status().contains("stored"), "{}", got.cache_status());
        assert_eq!(harness.store.stats().entries, 0, "the origin lets nothing of it be stored any more");
    }
}

#[tokio::test]
async fn completes_a_response_that_is_too_large_to_store() {
    let harness = Harness::with(|layer| layer.max_object(9).empty_body(Full::<Bytes>::default));
    store_part(&harness, "0-4").await;
    answer_part(&harness, "5-9");
    let got = harness.get(&[]).await;
    assert_eq!((&got.body[..], got.cache_status()), (&b"0123456789"[..], "rproxy; fwd=partial; fwd-status=206"));
    answer_part(&harness, "5-9");
    assert_eq!(harness.get(&[]).await.body, "0123456789");
}

#[tokio::test]
async fn aborted_download_is_completed_by_the_next_request() {
    // RFC 9111 §3.3
    for body in [Frames::data(&["01", "234"]).then(Err("reset")), Frames::data(&["01", "234"])] {
        let harness = harness();
        harness.respond_with_body(200, &[FRESH, ETAG, ("content-length", "10"), ("content-type", "text/plain")], body);
        let _ = harness.try_send("GET", "/a", &[], "").await;
        let hit = harness.get(&[("range", "bytes=1-3")]).await;
        assert_eq!((hit.status.as_u16(), hit.cache, &hit.body[..]), (206, Some(CacheStatus::Hit), &b"123"[..]));
        assert_eq!(
            (field(&hit.headers, "content-range"), field(&hit.headers, "content-length")),
            ("bytes 1-3/10", "3")
        );

        answer_part(&harness, "5-9");
        let got = harness.get(&[]).await;
        assert_eq!((got.status, &got.body[..]), (StatusCode::OK, &b"0123456789"[..]));
        assert_eq!(field(&harness.last_request().1, "range"), "bytes=5-");
        assert_eq!(harness.get(&[]).await.cache, Some(CacheStatus::Hit));
    }
}

#[tokio::test]
async fn incomplete_response_for_the_missing_range_is_completed_by_a_later_request() {
    let harness = harness();
    store_part(&harness, "0-2").await;
    let rest = [FRESH, ETAG, ("content-range", "bytes 3-9/10")];
    harness.respond_with_body(206, &rest, Frames::data(&["34"]).then(Err("reset")));
    assert!(harness.try_send("GET", "/a", &[], "").await.is_err());
    answer_part(&harness, "5-9");
    assert_eq!(harness.get(&[]).await.body, "0123456789");
    assert_eq!(field(&harness.last_request().1, "range"), "bytes=5-");
}

#[tokio::test]
async fn stores_a_partial_response_when_the_client_disconnects() {
    let harness = harness();
    harness.respond_with_body(200, &[FRESH, ETAG, ("content-length", "10")], Frames::data(&["01234", "56789"]));
    let request = Request::get("http://example.org/a").body(Full::default()).unwrap();
    let mut body = harness.service.clone().oneshot(request).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    answer_part(&harness, "5-9");
    assert_eq!(harness.get(&[]).await.body, "0123456789");
    assert_eq!(field(&harness.last_request().1, "range"), "bytes=5-");
}

#[tokio::test]
async fn does_not_store_partial_responses_that_cannot_be_completed() {
    let (length, short) = (("content-length", "10"), || Frames::data(&["01234"]).then(Err("reset")));
    for (fields, body, why) in [
        (&[FRESH, length][..], short(), "no validator"),
        (&[FRESH, length, ("etag", "W/\"v1\"")], short(), "a weak validator"),
        (&[FRESH, ETAG], short(), "no length"),
        (&[FRESH, ETAG, length, ("accept-ranges", "none")], short(), "no ranges"),
        (&[("cache-control", "no-cache"), ETAG, length], short(), "no lifetime"),
        (&[MODIFIED, ETAG, length], short(), "a guessed lifetime"),
        (&[FRESH, ETAG, ("content-length", "11")], short(), "too large"),
        (&[FRESH, ETAG, length], Frames::data(&["01234", "56789!"]).then(Err("reset")), "longer than announced"),
        (&[FRESH, ETAG, length], Frames::data(&["0123456789"]).then(Err("reset")), "no end"),
        (&[FRESH, ETAG, length], Frames::default().then(Err("reset")), "no bytes"),
    ] {
        let harness = Harness::with(|layer| layer.max_object(10).empty_body(Full::<Bytes>::default));
        harness.respond_with_body(200, fields, body);
        let _ = harness.try_send("GET", "/a", &[], "").await;
        assert_eq!(harness.store.stats().entries, 0, "{why}");
    }
}

#[tokio::test]
async fn partial_response_does_not_replace_a_stale_complete_response() {
    let harness = harness();
    harness.respond(200, &[FRESH, ETAG], "old");
    harness.get(&[]).await;
    harness.advance(90);
    harness.respond_with_body(
        200,
        &[FRESH, ("etag", "\"v2\""), ("content-length", "9")],
        Frames::data(&["new"]).then(Err("reset")),
    );
    assert!(harness.try_send("GET", "/a", &[], "").await.is_err());
    harness.fail();
    let got = harness.get(&[]).await;
    assert_eq!((got.cache, &got.body[..]), (Some(CacheStatus::StaleIfError), &b"old"[..]));
}
