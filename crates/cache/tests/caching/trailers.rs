//! Tests of trailer sections, which are stored separately from header sections (RFC 9111 §3.1).

use crate::harness::*;

fn with_trailers(chunks: &[&'static str], trailers: &[(&str, &str)]) -> Frames {
    Frames::data(chunks).then(Ok(Frame::trailers(map(trailers))))
}

async fn collect(
    harness: &Harness,
    method: &str,
    fields: &[(&str, &str)],
) -> (ClientResponse, Option<HeaderMap>, Option<u64>) {
    let mut request = Request::new(Full::<Bytes>::default());
    *request.method_mut() = method.parse().unwrap();
    *request.uri_mut() = "http://example.org/a".parse().unwrap();
    *request.headers_mut() = map(fields);
    let (parts, body) = harness.service.clone().oneshot(request).await.unwrap().into_parts();
    let length = body.size_hint().exact();
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned();
    let cache = parts.extensions.get().copied();
    (ClientResponse { status: parts.status, headers: parts.headers, cache, body: body.to_bytes() }, trailers, length)
}

#[tokio::test]
async fn cache_hit_includes_the_stored_trailer_section() {
    for chunks in [&["he", "llo"][..], &[]] {
        let harness = Harness::new();
        harness.respond_with_body(200, &[FRESH, ETAG], with_trailers(chunks, &[("x-sum", "1"), ("x-sum", "2")]));
        for expected in ["rproxy; fwd=uri-miss; stored", "rproxy; hit; ttl=60"] {
            let (got, trailers, length) = collect(&harness, "GET", &[]).await;
            assert_eq!((got.cache_status(), &got.body[..]), (expected, chunks.concat().as_bytes()));
            assert_eq!(trailers.unwrap(), map(&[("x-sum", "1"), ("x-sum", "2")]), "{expected}");
            // In HTTP/1.1, a body of known length has no trailers.
            assert_eq!((length, got.headers.get("content-length")), (None, None));
        }
        let (head, trailers, _) = collect(&harness, "HEAD", &[]).await;
        assert_eq!((head.cache, trailers), (Some(CacheStatus::Hit), None));
        let (unchanged, trailers, _) = collect(&harness, "GET", &[("if-none-match", ETAG.1)]).await;
        assert_eq!((unchanged.status, trailers), (StatusCode::NOT_MODIFIED, None));
    }
}

#[tokio::test]
async fn partial_response_from_the_cache_has_no_trailer_section() {
    let harness = Harness::new();
    harness.respond_with_body(200, &[FRESH], with_trailers(&["hello"], &[("x-sum", "1")]));
    collect(&harness, "GET", &[]).await;
    let (got, trailers, length) = collect(&harness, "GET", &[("range", "bytes=1-2")]).await;
    assert_eq!((got.status.as_u16(), &got.body[..], trailers, length), (206, &b"el"[..], None, Some(2)));
}

#[tokio::test]
async fn a_304_response_preserves_the_stored_trailer_section() {
    let harness = Harness::new();
    harness.respond_with_body(200, &[FRESH, ETAG], with_trailers(&["hello"], &[("x-sum", "1")]));
    collect(&harness, "GET", &[]).await;
    harness.advance(90);
    harness.respond(304, &[FRESH, ETAG], "");
    for _ in 0..2 {
        let (got, trailers, _) = collect(&harness, "GET", &[]).await;
        assert_eq!((&got.body[..], trailers), (&b"hello"[..], Some(map(&[("x-sum", "1")]))));
    }
    assert_eq!(harness.origin_requests(), 2);
}

#[tokio::test]
async fn stores_the_trailer_section_after_a_body_of_known_length() {
    let harness = Harness::new();
    harness.respond_with_body(200, &[FRESH, ("content-length", "5")], with_trailers(&["hello"], &[("x-sum", "1")]));
    for expected in [CacheStatus::Forwarded(ForwardReason::UriMiss), CacheStatus::Hit] {
        let (got, trailers, _) = collect(&harness, "GET", &[]).await;
        assert_eq!((got.cache, trailers), (Some(expected), Some(map(&[("x-sum", "1")]))));
    }
}

#[tokio::test]
async fn does_not_store_client_specific_and_connection_specific_trailer_fields() {
    let harness = Harness::new();
    let fields = [("cache-control", "max-age=60, private=\"x-user\""), ("x-user", "1")];
    let trailers = [("set-cookie", "a=b"), ("x-user", "1"), ("keep-alive", "5"), ("age", "7"), ("x-sum", "1")];
    harness.respond_with_body(200, &fields, with_trailers(&["hello"], &trailers));
    let (_, sent, _) = collect(&harness, "GET", &[]).await;
    assert_eq!(sent.unwrap(), map(&trailers), "the client of the exchange gets all of them");
    let (hit, stored, _) = collect(&harness, "GET", &[]).await;
    assert_eq!((hit.cache, stored.unwrap()), (Some(CacheStatus::Hit), map(&[("x-sum", "1")])));
}

#[tokio::test]
async fn does_not_store_a_response_with_an_excessive_trailer_section() {
    let many: Vec<_> = (0..33).map(|number| (format!("x-{number}"), "1".to_owned())).collect();
    let large = vec![("x".to_owned(), "x".repeat(16 << 10))];
    for trailers in [many, large] {
        let harness = Harness::new();
        let trailers: Vec<_> = trailers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        harness.respond_with_body(200, &[FRESH], with_trailers(&["hello"], &trailers));
        let (_, sent, _) = collect(&harness, "GET", &[]).await;
        assert_eq!(sent.unwrap().len(), trailers.len(), "the client gets them");
        assert_eq!(harness.store.stats().entries, 0);
    }
}
