//! Bodies whole and in part: RFC 9111 §3.3.

use crate::world::*;

#[tokio::test]
async fn ranges_are_cut_from_the_whole() {
    // RFC 9110 §14.2, §15.3.7, §15.5.17
    let world = World::new();
    world.answer(200, &[FRESH, ETAG], "0123456789A");
    world.get(&[]).await;
    for (range, status, body, content_range) in [
        ("bytes=0-1", 206, "01", "bytes 0-1/11"),
        ("bytes=1-", 206, "123456789A", "bytes 1-10/11"),
        ("bytes=-1", 206, "A", "bytes 10-10/11"),
        ("bytes=11-", 416, "Range Not Satisfiable\n", "bytes */11"),
        ("bytes=0-1,3-4", 200, "0123456789A", ""),
    ] {
        let got = world.get(&[("range", range)]).await;
        assert_eq!((got.status.as_u16(), &got.body[..]), (status, body.as_bytes()), "{range}");
        assert_eq!(got.headers.get("content-range").map_or("", |value| value.to_str().unwrap()), content_range);
        assert_eq!(got.cache, Some(CacheStatus::Hit));
    }
    let length = |got: &Got| got.headers["content-length"].to_str().unwrap().to_owned();
    let matching = world.get(&[("range", "bytes=0-1"), ("if-range", ETAG.1)]).await;
    assert_eq!((matching.status.as_u16(), length(&matching)), (206, "2".into()));
    let other = world.get(&[("range", "bytes=0-1"), ("if-range", "\"v0\"")]).await;
    assert_eq!((other.status.as_u16(), length(&other)), (200, "11".into()));
}

#[tokio::test]
async fn a_part_is_passed_on_and_never_stored_as_the_whole() {
    // RFC 9111 §3.3
    let world = World::new();
    world.answer(206, &[FRESH, ETAG, ("content-range", "bytes 0-4/10")], "01234");
    let got = world.get(&[("range", "bytes=0-4")]).await;
    assert_eq!((got.status.as_u16(), got.cache_status()), (206, "rproxy; fwd=uri-miss"));
    world.answer(200, &[FRESH, ETAG], "0123456789");
    assert_eq!(world.get(&[]).await.body, "0123456789");
    assert_eq!(world.asked(), 2);
}

#[tokio::test]
async fn a_body_is_stored_only_if_it_ends_cleanly_and_fits() {
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
        ("with trailers", &[FRESH], Frames::data(&["hello"]).then(Ok(trailers())), false),
    ] {
        let world = World::with(|layer| layer.max_object(10));
        world.answer_with(200, headers, body);
        let got = world.get(&[]).await;
        assert_eq!(world.store.stats().entries, u64::from(stored), "{what}");
        if stored {
            let hit = world.get(&[]).await;
            assert_eq!((hit.cache, &hit.body), (Some(CacheStatus::Hit), &got.body), "{what}");
        }
    }
}

#[tokio::test]
async fn a_body_that_fails_is_an_error_to_its_client_and_not_stored() {
    // RFC 9111 §3.3
    let world = World::new();
    world.answer_with(200, &[FRESH], Frames::data(&["hel"]).then(Err("reset")));
    assert_eq!(world.try_send("GET", "/a", &[], "").await.err(), Some("reset"));
    assert_eq!(world.store.stats().entries, 0);
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing_behind() {
    let world = World::new();
    world.answer_with(200, &[FRESH], Frames::data(&["hel", "lo"]));
    let mut request = Request::get("/a").body(Full::default()).unwrap();
    request.headers_mut().insert("host", HeaderValue::from_static("example.org"));
    let mut body = world.service.clone().oneshot(request).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    assert_eq!(world.store.stats().entries, 0);
}

#[tokio::test]
async fn a_server_that_stops_reading_at_content_length_still_stores() {
    let world = World::new();
    world.answer_with(200, &[FRESH, ("content-length", "5")], Frames::data(&["hel", "lo"]));
    let mut request = Request::get("/a").body(Full::default()).unwrap();
    request.headers_mut().insert("host", HeaderValue::from_static("example.org"));
    let mut body = world.service.clone().oneshot(request).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    body.frame().await.unwrap().unwrap();
    drop(body);
    assert_eq!(world.store.stats().entries, 1);
}
