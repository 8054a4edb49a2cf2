//! Tests of complete and incomplete response bodies (RFC 9111 §3.3).

use crate::harness::*;

#[tokio::test]
async fn serves_ranges_of_a_complete_stored_response() {
    // RFC 9110 §14.2, §15.3.7, §15.5.17
    let harness = Harness::new();
    harness.respond(200, &[FRESH, ETAG], "0123456789A");
    harness.get(&[]).await;
    for (range, status, body, content_range) in [
        ("bytes=0-1", 206, "01", "bytes 0-1/11"),
        ("bytes=1-", 206, "123456789A", "bytes 1-10/11"),
        ("bytes=-1", 206, "A", "bytes 10-10/11"),
        ("bytes=11-", 416, "Range Not Satisfiable\n", "bytes */11"),
        ("bytes=0-4,4-5", 200, "0123456789A", ""),
    ] {
        let got = harness.get(&[("range", range)]).await;
        assert_eq!((got.status.as_u16(), &got.body[..]), (status, body.as_bytes()), "{range}");
        assert_eq!(got.headers.get("content-range").map_or("", |value| value.to_str().unwrap()), content_range);
        assert_eq!(got.cache, Some(CacheStatus::Hit));
    }
    let length = |got: &ClientResponse| got.headers["content-length"].to_str().unwrap().to_owned();
    let matching = harness.get(&[("range", "bytes=0-1"), ("if-range", ETAG.1)]).await;
    assert_eq!((matching.status.as_u16(), length(&matching)), (206, "2".into()));
    let other = harness.get(&[("range", "bytes=0-1"), ("if-range", "\"v0\"")]).await;
    assert_eq!((other.status.as_u16(), length(&other)), (200, "11".into()));
}

#[tokio::test]
async fn serves_no_ranges_of_a_response_that_was_compressed_on_the_fly() {
    // A second compression has the same tag and other bytes.
    for (etag, coding, status) in [
        ("\"v1-br\"", "br", 200),
        ("\"v1-gzip\"", "gzip", 200),
        ("\"-zstd\"", "zstd", 200),
        ("\"v1-br\"", "gzip", 206),
        ("\"v1\"", "br", 206),
        ("\"v1br\"", "br", 206),
    ] {
        let harness = Harness::new();
        harness.respond(200, &[FRESH, ("etag", etag), ("content-encoding", coding)], "0123456789");
        harness.get(&[]).await;
        for condition in [&[][..], &[("if-range", etag)]] {
            let got = harness.get(&[&[("range", "bytes=0-4")], condition].concat()).await;
            assert_eq!((got.status.as_u16(), got.cache), (status, Some(CacheStatus::Hit)), "{etag} {coding}");
        }
    }
}

#[tokio::test]
async fn serves_multiple_ranges_as_multipart_byteranges() {
    // RFC 9110 §15.3.7.2
    static BODY: [u8; 1000] = [b'x'; 1000];
    let harness = Harness::new();
    let body = std::str::from_utf8(&BODY).unwrap();
    harness.respond(200, &[FRESH, ETAG, ("content-type", "text/css")], body);
    harness.get(&[]).await;
    let got = harness.get(&[("range", "bytes=990-, 0-1")]).await;
    assert_eq!((got.status.as_u16(), got.cache), (206, Some(CacheStatus::Hit)));
    assert!(!got.headers.contains_key("content-range"));
    let content_type = got.headers["content-type"].to_str().unwrap();
    let boundary = content_type.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let part = |range: &str, data: &str| {
        format!("--{boundary}\r\nContent-Type: text/css\r\nContent-Range: bytes {range}/1000\r\n\r\n{data}\r\n")
    };
    let expected = part("990-999", &body[..10]) + &part("0-1", "xx") + &format!("--{boundary}--\r\n");
    assert_eq!(got.body, expected);
    assert_eq!(got.headers["content-length"], expected.len().to_string());
}

#[tokio::test]
async fn combines_partial_responses_into_a_complete_response() {
    // RFC 9111 §3.4
    let part = |range| [FRESH, ETAG, ("content-range", range), ("x", range)];
    for (parts, whole) in [
        (&[("bytes 0-4/10", "01234"), ("bytes 5-9/10", "56789")][..], true),
        (&[("bytes 5-9/10", "56789"), ("bytes 0-4/10", "01234")], true),
        (&[("bytes 0-4/10", "01234"), ("bytes 3-9/10", "3456789")], true),
        (&[("bytes 0-1/10", "01"), ("bytes 8-9/10", "89"), ("bytes 2-7/10", "234567")], true),
        (&[("bytes 0-3/10", "0123"), ("bytes 5-9/10", "56789")], false),
        (&[("bytes 0-4/10", "01234"), ("bytes 5-9/11", "56789")], false),
        // A part is shorter than its range.
        (&[("bytes 0-4/10", "0123"), ("bytes 5-9/10", "56789")], false),
    ] {
        let harness = Harness::new();
        for (range, body) in parts {
            harness.respond(206, &part(range), body);
            harness.get(&[("range", range.split('/').next().unwrap().replace(' ', "=").as_str())]).await;
        }
        let got = harness.get(&[("cache-control", "only-if-cached")]).await;
        match whole {
            true => {
                assert_eq!((got.status.as_u16(), &got.body[..]), (200, &b"0123456789"[..]), "{parts:?}");
                assert_eq!(got.headers["content-length"], "10");
                assert_eq!(got.headers["x"], parts.last().unwrap().0, "the fields of the last");
                assert!(!got.headers.contains_key("content-range"));
            }
            false => assert_eq!(got.status.as_u16(), 504, "{parts:?}"),
        }
    }
}

#[tokio::test]
async fn does_not_combine_partial_responses_of_different_representations() {
    // RFC 9110 §15.3.7.3
    for etags in [["\"a\"", "\"b\""], ["W/\"a\"", "W/\"a\""], ["", ""]] {
        let harness = Harness::new();
        for (etag, (range, body)) in etags.iter().zip([("0-4", "01234"), ("5-9", "56789")]) {
            let content_range = format!("bytes {range}/10");
            let mut fields = vec![FRESH, ("content-range", content_range.as_str())];
            if !etag.is_empty() {
                fields.push(("etag", etag));
            }
            harness.respond(206, &fields, body);
            harness.get(&[("range", &format!("bytes={range}"))]).await;
        }
        assert_eq!(harness.get(&[("cache-control", "only-if-cached")]).await.status.as_u16(), 504, "{etags:?}");
    }
}

#[tokio::test]
async fn a_partial_response_serves_only_ranges_within_it() {
    // RFC 9111 §3.3
    let harness = Harness::with(|layer| layer.request_directives(true));
    let part = [FRESH, ETAG, ("content-range", "bytes 4-9/10"), ("x", "1")];
    harness.respond(206, &part, "456789");
    let got = harness.get(&[("range", "bytes=-6")]).await;
    assert_eq!((got.status.as_u16(), got.cache_status()), (206, "rproxy; fwd=uri-miss; stored"));
    harness.advance(5);
    for (range, body, content_range) in [
        ("bytes=-6", "456789", "bytes 4-9/10"),
        ("bytes=6-8", "678", "bytes 6-8/10"),
        ("bytes=6-", "6789", "bytes 6-9/10"),
        ("bytes=-1", "9", "bytes 9-9/10"),
    ] {
        let got = harness.get(&[("range", range)]).await;
        assert_eq!((got.status.as_u16(), &got.body[..]), (206, body.as_bytes()), "{range}");
        assert_eq!((got.cache_status(), got.age()), ("rproxy; hit; ttl=55", "5"));
        assert_eq!(got.headers["content-range"], content_range);
        assert_eq!(got.headers["content-length"], body.len().to_string());
        assert_eq!(got.headers["x"], "1");
    }
    let got = harness.get(&[("range", "bytes=-1"), ("if-none-match", ETAG.1)]).await;
    assert_eq!((got.status, got.cache), (StatusCode::NOT_MODIFIED, Some(CacheStatus::Hit)));

    for (request, reason) in [
        (&[("range", "bytes=3-5")][..], "partial"),
        (&[("range", "bytes=4-4,6-6")], "partial"),
        (&[("range", "bytes=4-5"), ("if-range", "\"v0\"")], "partial"),
        (&[("range", "bytes=4-5"), ("cache-control", "no-cache")], "request"),
        (&[], "partial"),
    ] {
        harness.respond(200, &[("cache-control", "no-store")], "0123456789");
        let got = harness.get(request).await;
        assert_eq!((got.status.as_u16(), got.cache_status()), (200, &*format!("rproxy; fwd={reason}")), "{request:?}");
    }
    assert_eq!(harness.origin_requests(), 6);
    harness.advance(55);
    harness.respond(206, &part, "456789");
    let got = harness.get(&[("range", "bytes=-6")]).await;
    assert_eq!(got.cache_status(), "rproxy; fwd=stale; stored");
    assert!(!harness.last_request().1.contains_key("if-none-match"), "asked for again, not validated");
}

#[tokio::test]
async fn new_representation_or_complete_response_replaces_partial_responses() {
    // RFC 9111 §3.4
    let harness = Harness::new();
    let part = |etag, range| [FRESH, ("etag", etag), ("content-range", range)];
    let fetch = async |range: &'static str, headers: &[(&str, &str)], body| {
        harness.respond(206, headers, body);
        harness.get(&[("range", range)]).await;
        harness.origin.responses.lock().unwrap().clear();
    };
    let held = async |range| match harness.try_send("GET", "/a", &[("range", range)], "").await {
        Ok(got) => got.cache == Some(CacheStatus::Hit),
        Err(_) => false,
    };
    fetch("bytes=0-1", &part("\"v1\"", "bytes 0-1/10"), "01").await;
    fetch("bytes=4-5", &part("\"v1\"", "bytes 4-5/10"), "45").await;
    assert!(held("bytes=0-1").await && held("bytes=4-5").await, "two parts of one state");
    fetch("bytes=6-7", &part("\"v2\"", "bytes 6-7/10"), "67").await;
    assert!(!held("bytes=0-1").await && !held("bytes=4-5").await && held("bytes=6-7").await);

    harness.respond(200, &[FRESH, ("etag", "\"v2\"")], "0123456789");
    harness.get(&[]).await;
    let got = harness.get(&[("range", "bytes=6-7")]).await;
    assert_eq!((got.cache, &got.body[..]), (Some(CacheStatus::Hit), &b"67"[..]));
    assert_eq!(harness.store.stats().entries, 1);
}

#[tokio::test]
async fn does_not_store_a_partial_response_that_contradicts_its_content_range() {
    // RFC 9110 §14.4
    for (range, content_range, body) in [
        ("bytes=0-1", "bytes 0-1/10", "012"),
        ("bytes=0-1", "bytes 0-1/*", "01"),
        ("bytes=0-1", "bytes 1-0/10", "01"),
        ("bytes=0-1", "items 0-1/10", "01"),
        ("bytes=0-1", "", "01"),
    ] {
        let harness = Harness::new();
        harness.respond(206, &[FRESH, ETAG, ("content-range", content_range)], body);
        assert_eq!(harness.get(&[("range", range)]).await.body, body);
        assert_eq!(harness.store.stats().entries, 0, "{content_range}");
    }
}

#[tokio::test]
async fn stores_only_complete_bodies_within_the_size_limit() {
    let trailers = || Frame::trailers(map(&[("x", "1")]));
    let length = |length| [FRESH, ("content-length", length)];
    for (what, headers, body, stored) in [
        ("in pieces", &[FRESH][..], Frames::data(&["he", "", "llo"]), true),
        ("of the announced length", &length("5"), Frames::data(&["he", "llo"]), true),
        ("empty", &[FRESH], Frames::default(), true),
        ("shorter than announced", &length("6"), Frames::data(&["he", "llo"]), false),
        ("longer than announced", &length("4"), Frames::data(&["he", "llo"]), false),
        ("of nonsensical length", &length("5, 5"), Frames::data(&["hello"]), false),
        ("too large", &[FRESH], Frames::data(&["hello", "hello", "h"]), false),
        ("announced too large", &length("11"), Frames::data(&["hello", "hello", "h"]), false),
        ("as large as may be", &[FRESH], Frames::data(&["hello", "hello"]), true),
        ("with trailers", &[FRESH], Frames::data(&["hello"]).then(Ok(trailers())), true),
        ("reset after its last byte", &length("5"), Frames::data(&["hello"]).then(Err("reset")), false),
        ("reset before its length is known", &[FRESH], Frames::data(&["hello"]).then(Err("reset")), false),
        ("reset after its trailers", &[FRESH], Frames::data(&["hello"]).then(Ok(trailers())).then(Err("reset")), false),
    ] {
        let harness = Harness::with(|layer| layer.max_object(10));
        harness.respond_with_body(200, headers, body);
        let got = harness.try_send("GET", "/a", &[], "").await;
        assert_eq!(harness.store.stats().entries, u64::from(stored), "{what}");
        if stored {
            let got = got.unwrap();
            let hit = harness.get(&[]).await;
            assert_eq!((hit.cache, &hit.body), (Some(CacheStatus::Hit), &got.body), "{what}");
        }
    }
}

#[tokio::test]
async fn does_not_store_a_response_whose_body_fails() {
    // RFC 9111 §3.3
    let harness = Harness::new();
    harness.respond_with_body(200, &[FRESH], Frames::data(&["hel"]).then(Err("reset")));
    assert_eq!(harness.try_send("GET", "/a", &[], "").await.err(), Some("reset"));
    assert_eq!(harness.store.stats().entries, 0);
}

#[tokio::test]
async fn does_not_store_an_incomplete_body_after_the_client_disconnects() {
    let harness = Harness::new();
    harness.respond_with_body(200, &[FRESH], Frames::data(&["hel", "lo"]));
    let mut request = Request::get("/a").body(Full::default()).unwrap();
    request.headers_mut().insert("host", HeaderValue::from_static("example.org"));
    let mut body = harness.service.clone().oneshot(request).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    assert_eq!(harness.store.stats().entries, 0);
}

#[tokio::test]
async fn stores_a_body_that_is_read_only_up_to_content_length() {
    for field in [("x", "1"), ("range", "bytes=0-99")] {
        let harness = Harness::new();
        harness.respond_with_body(200, &[FRESH, ("content-length", "5")], Frames::data(&["hel", "lo"]));
        read_frames(&harness, field, 2).await;
        assert_eq!(harness.store.stats().entries, 1, "{field:?}");
    }
}

#[tokio::test]
async fn drains_a_body_after_its_reader_was_dropped() {
    // A request with a range has no followers.
    for field in [("x", "1"), ("range", "bytes=0-99")] {
        for (end, entries) in [(None, 1), (Some(Err("reset")), 0)] {
            let harness = Harness::new();
            let (sender, receiver) = mpsc::unbounded_channel();
            let body = Frames { frames: VecDeque::new(), late: Some(receiver) };
            harness.respond_with_body(200, &[FRESH, ("content-length", "5")], body);
            sender.send(Ok(Frame::data(Bytes::from_static(b"hello")))).unwrap();
            read_frames(&harness, field, 1).await;
            assert_eq!(harness.store.stats().entries, 0, "the end has not come yet");
            if let Some(end) = end {
                sender.send(end).unwrap();
            }
            drop(sender);
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            assert_eq!(harness.store.stats().entries, entries, "{field:?} {entries}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn limits_the_time_to_wait_for_the_end_of_a_body() {
    for field in [("x", "1"), ("range", "bytes=0-99")] {
        let harness = Harness::new();
        let (sender, receiver) = mpsc::unbounded_channel();
        let body = Frames { frames: VecDeque::new(), late: Some(receiver) };
        harness.respond_with_body(200, &[FRESH, ("content-length", "5")], body);
        sender.send(Ok(Frame::data(Bytes::from_static(b"hello")))).unwrap();
        read_frames(&harness, field, 1).await;
        tokio::time::timeout(Duration::from_secs(6), sender.closed()).await.expect("the body is dropped");
        assert_eq!(harness.store.stats().entries, 0);
    }
}

/// Reads `count` frames of a response body and then drops it, as a server does after `Content-Length` bytes.
async fn read_frames(harness: &Harness, (name, value): (&str, &str), count: usize) {
    let request = Request::get("http://example.org/a").header(name, value).body(Full::default()).unwrap();
    let mut body = harness.service.clone().oneshot(request).await.unwrap().into_body();
    for _ in 0..count {
        body.frame().await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn cache_status_reports_stored_only_if_the_response_can_be_stored() {
    // RFC 9211 §2.5
    let length = |length| [FRESH, ("content-length", length)];
    for (fields, store, said) in [
        (&length("11")[..], CacheStore::in_memory(1 << 20), "rproxy; fwd=uri-miss"),
        (&length("10"), CacheStore::in_memory(1 << 20), "rproxy; fwd=uri-miss; stored"),
        (&length("10"), CacheStore::in_memory(9), "rproxy; fwd=uri-miss"),
        (&[FRESH], CacheStore::in_memory(1 << 20), "rproxy; fwd=uri-miss; stored"),
    ] {
        let (origin, now) = (Origin::default(), Arc::default());
        let service = CacheLayer::new(store.clone()).max_object(10).layer(origin.clone());
        let harness = Harness { origin, store, now, service };
        harness.respond(200, fields, "0123456789");
        assert_eq!(harness.try_send("GET", "/a", &[], "").await.unwrap().cache_status(), said);
    }
}

#[tokio::test]
async fn cache_status_does_not_report_stored_after_an_invalidation() {
    // RFC 9111 §4.4
    for (status, fields) in [(200, &[FRESH][..]), (304, &[FRESH, ETAG])] {
        let harness = Harness::new();
        harness.respond(200, &[FRESH, ETAG], "hello");
        harness.get(&[]).await;
        harness.advance(90);
        let (store, response) = (harness.store.clone(), Arc::clone(&harness.origin.responses));
        harness.respond(status, fields, "");
        let answer = Arc::new(response.lock().unwrap().pop_front().unwrap());
        let service = tower::service_fn(move |_: Request<Full<Bytes>>| {
            store.purge(&Purge::All);
            std::future::ready(answer_of(&answer))
        });
        let now = Arc::clone(&harness.now);
        let service = CacheLayer::new(harness.store.clone())
            .clock(move || UNIX_EPOCH + Duration::from_secs(now.load(Ordering::SeqCst)))
            .layer(service);
        let request = Request::get("http://example.org/a").body(Full::default()).unwrap();
        let response = service.oneshot(request).await.unwrap();
        let said = response.headers()["cache-status"].to_str().unwrap();
        assert!(said.starts_with("rproxy; fwd=stale") && !said.contains("stored"), "{said}");
    }
}

fn answer_of(answer: &OriginResponse) -> OriginResponse {
    let response = answer.as_ref().unwrap();
    let mut copy = Response::new(Frames::default());
    *copy.status_mut() = response.status();
    *copy.headers_mut() = response.headers().clone();
    Ok(copy)
}
