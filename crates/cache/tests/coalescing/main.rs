//! Tests of request coalescing: one response serves concurrent requests (RFC 9111 §4).
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use crate::harness::*;

#[tokio::test(start_paused = true)]
async fn one_fetch_serves_thousands_of_concurrent_clients() {
    for length in [Some(FIVE), None] {
        let mut harness = Harness::new();
        let clients: Vec<_> = (0..5000).map(|_| harness.request(&[])).collect();
        let (response, sender) = origin_response(&[Some(FRESH), length].into_iter().flatten().collect::<Vec<_>>());
        harness.next_request().await.send(response).ok().unwrap();
        for chunk in ["he", "l", "lo"] {
            sender.send(data(chunk)).unwrap();
            settle().await;
        }
        drop(sender);
        let mut coalesced = 0;
        for client in clients {
            let response = client.await.unwrap().unwrap();
            let status: CacheStatus = *response.extensions().get().unwrap();
            if status == CacheStatus::Coalesced {
                coalesced += 1;
                assert_eq!(response.headers()["cache-status"], "rproxy; fwd=uri-miss; collapsed");
            }
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
        }
        assert_eq!((coalesced, harness.store.stats().coalesced), (4999, 4999));
        assert_eq!(harness.origin_requests().await, 0, "nobody else asks");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn coalesces_requests_of_several_threads() {
    let mut harness = Harness::new();
    let mut clients = JoinSet::new();
    for _ in 0..2000 {
        let service = harness.service.clone();
        clients.spawn(async move {
            let request = Request::get("http://example.org/cold").body(Empty::new()).unwrap();
            service.oneshot(request).await.unwrap().into_body().collect().await.unwrap().to_bytes()
        });
    }
    let (response, sender) = origin_response(&[FRESH, ("content-length", "1000")]);
    harness.next_request().await.send(response).ok().unwrap();
    tokio::spawn(async move {
        for _ in 0..200 {
            sender.send(data("01234")).unwrap();
            tokio::task::yield_now().await;
        }
    });
    while let Some(body) = clients.join_next().await {
        assert_eq!(body.unwrap(), "01234".repeat(200));
    }
    assert!(harness.requests.try_recv().is_err(), "nobody else asks");
}

#[tokio::test(start_paused = true)]
async fn serves_followers_while_the_body_is_arriving() {
    let mut harness = Harness::new();
    let (first, second) = (harness.request(&[]), harness.request(&[]));
    let (response, sender) = origin_response(&[FRESH, FIVE]);
    harness.next_request().await.send(response).ok().unwrap();
    sender.send(data("he")).unwrap();
    let mut bodies = [first.await.unwrap().unwrap().into_body(), second.await.unwrap().unwrap().into_body()];
    for body in &mut bodies {
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "he");
        assert_eq!(body.size_hint().exact(), Some(3));
    }
    let third = harness.request(&[]).await.unwrap().unwrap();
    sender.send(data("llo")).unwrap();
    drop(sender);
    for body in bodies {
        assert_eq!(body.collect().await.unwrap().to_bytes(), "llo");
    }
    assert_eq!(third.headers()["content-length"], "5");
    assert_eq!(third.into_body().collect().await.unwrap().to_bytes(), "hello", "a late follower gets the whole body");
    assert_eq!(harness.request(&[]).await.unwrap().unwrap().extensions().get(), Some(&CacheStatus::Hit));
}

#[tokio::test(start_paused = true)]
async fn unshareable_response_releases_all_followers_immediately() {
    for headers in [
        &[("cache-control", "private, max-age=60"), FIVE][..],
        &[("cache-control", "no-store"), FIVE],
        &[("cache-control", "no-cache"), ("etag", "\"a\""), FIVE],
        &[("cache-control", "max-age=0"), ("etag", "\"a\""), FIVE],
        &[FIVE],
        &[FRESH, ("content-length", "1001")],
    ] {
        let mut harness = Harness::new();
        let clients: Vec<_> = (0..100).map(|_| harness.request(&[])).collect();
        let (response, _sender) = origin_response(headers);
        harness.next_request().await.send(response).ok().unwrap();
        assert_eq!(harness.origin_requests().await, 99, "all at once: {headers:?}");
        let more: Vec<_> = (0..10).map(|_| harness.request(&[])).collect();
        assert_eq!(harness.origin_requests().await, 10, "and nobody waits for the next one: {headers:?}");
        drop((clients, more));
    }
}

#[tokio::test(start_paused = true)]
async fn requests_for_different_variants_do_not_wait_for_each_other() {
    // RFC 9111 §4.1
    let mut harness = Harness::new();
    let (gzip, br) = (harness.request(&[("accept-encoding", "gzip")]), harness.request(&[("accept-encoding", "br")]));
    assert_eq!(harness.origin_requests().await, 2);
    drop((gzip, br));

    let mut harness = Harness::new();
    let clients =
        [harness.request(&[("foo", "1")]), harness.request(&[("foo", "1")]), harness.request(&[("foo", "2")])];
    let (response, _sending) = origin_response(&[FRESH, FIVE, ("vary", "foo")]);
    harness.next_request().await.send(response).ok().unwrap();
    assert_eq!(harness.origin_requests().await, 1, "as soon as it is known");
    drop(clients);
}

#[tokio::test(start_paused = true)]
async fn does_not_coalesce_requests_with_authorization_range_or_no_store() {
    let mut harness = Harness::new();
    for field in [("authorization", "Basic eDp5"), ("range", "bytes=0-1"), ("cache-control", "no-store")] {
        let clients = [harness.request(&[field]), harness.request(&[field])];
        assert_eq!(harness.origin_requests().await, 2, "{field:?}");
        drop(clients);
    }
}

#[tokio::test(start_paused = true)]
async fn fetch_continues_if_the_leader_disconnects_before_the_response() {
    let mut harness = Harness::new();
    let leader = harness.request(&[]);
    let asked = harness.next_request().await;
    let clients: Vec<_> = (0..10).map(|_| harness.request(&[])).collect();
    settle().await;
    leader.abort();
    settle().await;
    let (response, sender) = origin_response(&[FRESH, FIVE]);
    asked.send(response).ok().expect("the fetch continues");
    sender.send(data("hello")).unwrap();
    drop(sender);
    for client in clients {
        assert_eq!(text(client).await, "hello");
    }
    assert_eq!(harness.origin_requests().await, 0);
}

#[tokio::test(start_paused = true)]
async fn fetch_continues_if_the_leader_disconnects_during_the_body() {
    for length in [Some(FIVE), None] {
        let mut harness = Harness::new();
        let leader = harness.request(&[]);
        let clients: Vec<_> = (0..10).map(|_| harness.request(&[])).collect();
        let (response, sender) = origin_response(&[Some(FRESH), length].into_iter().flatten().collect::<Vec<_>>());
        harness.next_request().await.send(response).ok().unwrap();
        let mut body = leader.await.unwrap().unwrap().into_body();
        sender.send(data("he")).unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "he");
        drop(body);
        settle().await;
        sender.send(data("llo")).unwrap();
        drop(sender);
        for client in clients {
            assert_eq!(text(client).await, "hello");
        }
        assert_eq!((harness.origin_requests().await, harness.store.stats().stored), (0, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn slow_leader_does_not_delay_followers() {
    let mut harness = Harness::new();
    let leader = harness.request(&[]);
    let (response, sender) = origin_response(&[FRESH, FIVE]);
    harness.next_request().await.send(response).ok().unwrap();
    let unread = leader.await.unwrap().unwrap().into_body();
    let client = harness.request(&[]);
    settle().await;
    sender.send(data("hel")).unwrap();
    sender.send(data("lo")).unwrap();
    drop(sender);
    assert_eq!(text(client).await, "hello");
    assert_eq!(unread.collect().await.unwrap().to_bytes(), "hello", "the leader gets the whole body later");
}

#[tokio::test(start_paused = true)]
async fn body_transfer_ends_when_all_clients_have_disconnected() {
    let mut harness = Harness::new();
    let clients = [harness.request(&[]), harness.request(&[])];
    let (response, sender) = origin_response(&[FRESH, FIVE]);
    harness.next_request().await.send(response).ok().unwrap();
    for client in clients {
        drop(client.await.unwrap().unwrap());
    }
    assert!(sender.is_closed());
    let again = harness.request(&[]);
    assert_eq!(harness.origin_requests().await, 1, "the next one asks anew");
    drop(again);
}

#[tokio::test(start_paused = true)]
async fn followers_wait_at_most_until_the_coalesce_timeout() {
    let mut harness = Harness::new();
    let leader = harness.request(&[]);
    let asked = harness.next_request().await;
    let client = harness.request(&[]);
    tokio::time::sleep(Duration::from_millis(4999)).await;
    assert_eq!(harness.origin_requests().await, 0);
    tokio::time::sleep(Duration::from_millis(2)).await;
    let (response, sender) = origin_response(&[FRESH]);
    harness.next_request().await.send(response).ok().unwrap();
    sender.send(data("second")).unwrap();
    drop(sender);
    assert_eq!(text(client).await, "second");
    drop((leader, asked));
}

#[tokio::test(start_paused = true)]
async fn incomplete_body_is_an_error_for_all_clients() {
    // RFC 9111 §3.3
    let mut harness = Harness::new();
    let (leader, client) = (harness.request(&[]), harness.request(&[]));
    let (response, sender) = origin_response(&[FRESH, FIVE]);
    harness.next_request().await.send(response).ok().unwrap();
    sender.send(data("he")).unwrap();
    let (leader, client) = (leader.await.unwrap().unwrap(), client.await.unwrap().unwrap());
    sender.send(Err("reset")).unwrap();
    assert_eq!(client.into_body().collect().await.unwrap_err(), BodyError::Incomplete);
    assert_eq!(leader.into_body().collect().await.unwrap_err(), BodyError::Inner("reset"));
    assert_eq!(harness.store.stats().entries, 0);

    let (leader, client) = (harness.request(&[]), harness.request(&[]));
    let (response, sender) = origin_response(&[FRESH, FIVE]);
    harness.next_request().await.send(response).ok().unwrap();
    sender.send(data("he")).unwrap();
    let (leader, client) = (leader.await.unwrap().unwrap(), client.await.unwrap().unwrap());
    drop(sender);
    assert_eq!(client.into_body().collect().await.unwrap_err(), BodyError::Incomplete, "shorter than announced");
    assert_eq!(leader.into_body().collect().await.unwrap().to_bytes(), "he", "the same body as without a cache");
    assert_eq!(harness.store.stats().entries, 0);
}

#[tokio::test(start_paused = true)]
async fn body_that_is_too_large_releases_followers_and_is_sent_to_the_leader() {
    let mut harness = Harness::new();
    let leader = harness.request(&[]);
    let clients: Vec<_> = (0..10).map(|_| harness.request(&[])).collect();
    let (response, sender) = origin_response(&[FRESH]);
    harness.next_request().await.send(response).ok().unwrap();
    let part: &str = "0123456789".repeat(40).leak();
    for _ in 0..3 {
        sender.send(data(part)).unwrap();
    }
    assert_eq!(harness.origin_requests().await, 10);
    let trailers = HeaderMap::from_iter([("x".parse::<http::HeaderName>().unwrap(), "1".parse().unwrap())]);
    sender.send(data(part)).unwrap();
    sender.send(Ok(Frame::trailers(trailers.clone()))).unwrap();
    drop(sender);
    let whole = leader.await.unwrap().unwrap().into_body().collect().await.unwrap();
    assert_eq!(whole.trailers(), Some(&trailers));
    assert_eq!(whole.to_bytes(), part.repeat(4));
    drop(clients);
}

#[tokio::test(start_paused = true)]
async fn error_of_the_leader_is_not_returned_to_followers() {
    let mut harness = Harness::new();
    let (leader, client) = (harness.request(&[]), harness.request(&[]));
    harness.next_request().await.send(Err("refused")).ok().unwrap();
    let (response, sender) = origin_response(&[FRESH, FIVE]);
    harness.next_request().await.send(response).ok().unwrap();
    sender.send(data("hello")).unwrap();
    drop(sender);
    assert_eq!(leader.await.unwrap().err(), Some("refused"));
    assert_eq!(text(client).await, "hello");
}

#[tokio::test(start_paused = true)]
async fn coalesces_validation_requests() {
    // RFC 9111 §4.3
    let mut harness = Harness::new();
    let first = harness.request(&[]);
    let (response, sender) = origin_response(&[FRESH, ("etag", "\"a\""), FIVE]);
    harness.next_request().await.send(response).ok().unwrap();
    sender.send(data("hello")).unwrap();
    drop(sender);
    assert_eq!(text(first).await, "hello");

    harness.now.fetch_add(60, Ordering::SeqCst);
    let clients: Vec<_> = (0..1000).map(|_| harness.request(&[])).collect();
    let (validation, asked) = harness.requests.recv().await.unwrap();
    assert_eq!(validation["if-none-match"], "\"a\"");
    let (mut not_modified, _) = origin_response(&[FRESH, ("etag", "\"a\"")]);
    *not_modified.as_mut().unwrap().status_mut() = http::StatusCode::NOT_MODIFIED;
    asked.send(not_modified).ok().unwrap();
    for client in clients {
        assert_eq!(text(client).await, "hello");
    }
    assert_eq!(harness.origin_requests().await, 0);
}

#[tokio::test(start_paused = true)]
async fn coalesces_conditional_and_unconditional_requests() {
    let mut harness = Harness::new();
    let clients: Vec<_> = (0..100).map(|_| harness.request(&[("if-none-match", "\"a\"")])).collect();
    let other = harness.request(&[]);
    let (asked, sent) = harness.requests.recv().await.unwrap();
    assert!(
        !asked.contains_key("if-none-match"),
        "the origin request must be unconditional, so that every waiter can use the response"
    );
    let (response, sender) = origin_response(&[FRESH, ("etag", "\"a\""), FIVE]);
    sent.send(response).ok().unwrap();
    for client in clients {
        let response = client.await.unwrap().unwrap();
        assert_eq!(response.status(), http::StatusCode::NOT_MODIFIED);
    }
    sender.send(data("hello")).unwrap();
    drop(sender);
    assert_eq!(text(other).await, "hello");
    assert_eq!(harness.origin_requests().await, 0);
}

#[tokio::test(start_paused = true)]
async fn stops_reading_a_body_that_is_too_large_to_store_when_no_client_reads_it() {
    let mut harness = Harness::new();
    let client = harness.request(&[("if-none-match", "\"a\"")]);
    let (response, sender) = origin_response(&[FRESH, ("etag", "\"a\"")]);
    harness.next_request().await.send(response).ok().unwrap();
    assert_eq!(client.await.unwrap().unwrap().status(), http::StatusCode::NOT_MODIFIED);
    // More bytes than can be stored, without an end.
    let mut chunks = 0;
    while sender.send(data("0123456789012345678901234567890123456789")).is_ok() {
        settle().await;
        chunks += 1;
        assert!(chunks < 100, "it is read on and on");
    }
    assert!(chunks > 20, "it was, while it could be stored");
}

#[tokio::test(start_paused = true)]
async fn panic_in_a_shared_body_fails_all_clients_of_the_fetch() {
    let mut harness = Harness::new();
    let clients: Vec<_> = (0..3).map(|_| harness.request(&[])).collect();
    let (response, sender) = origin_response(&[FRESH, FIVE]);
    harness.next_request().await.send(response).ok().unwrap();
    sender.send(data("he")).unwrap();
    let mut readers = Vec::new();
    for client in clients {
        let body = client.await.unwrap().unwrap().into_body();
        readers.push(tokio::spawn(body.collect()));
    }
    settle().await;
    sender.send(Err(PANIC)).unwrap();
    let mut panics = 0;
    for reader in readers {
        match tokio::time::timeout(Duration::from_secs(5), reader).await.expect("no client hangs") {
            Err(error) => panics += usize::from(error.is_panic()),
            Ok(outcome) => assert!(matches!(outcome, Err(BodyError::Incomplete))),
        }
    }
    assert_eq!(panics, 1, "the client that polled the body");

    let next = harness.request(&[]);
    let (response, sender) = origin_response(&[FRESH, FIVE]);
    harness.next_request().await.send(response).ok().unwrap();
    sender.send(data("hello")).unwrap();
    drop(sender);
    assert_eq!(text(next).await, "hello", "no request joins a failed fetch");
}

#[tokio::test(start_paused = true)]
async fn a_304_response_that_selects_another_variant_serves_all_followers() {
    // RFC 9111 §4.3.1
    let mut harness = Harness::new();
    let vary = ("vary", "accept-language");
    let first = harness.request(&[("accept-language", "en")]);
    let (response, sender) = origin_response(&[FRESH, FIVE, vary, ("etag", "\"en\"")]);
    harness.next_request().await.send(response).ok().unwrap();
    sender.send(data("hello")).unwrap();
    drop(sender);
    assert_eq!(text(first).await, "hello");

    let mut clients: Vec<_> = (0..100).map(|_| harness.request(&[("accept-language", "fr")])).collect();
    let (asked, to) = harness.requests.recv().await.unwrap();
    assert_eq!(asked["if-none-match"], "\"en\"");
    // The others do not depend on the first client.
    clients.remove(0).abort();
    settle().await;
    let (mut response, sender) = origin_response(&[FRESH, vary, ("etag", "\"en\"")]);
    *response.as_mut().unwrap().status_mut() = http::StatusCode::NOT_MODIFIED;
    drop(sender);
    to.send(response).ok().unwrap();
    for client in clients {
        assert_eq!(text(client).await, "hello");
    }
    assert_eq!(harness.origin_requests().await, 0, "nobody else asks");
}

#[tokio::test(start_paused = true)]
async fn followers_receive_stored_bytes_before_the_missing_range_arrives() {
    // RFC 9111 §3.4
    let mut harness = Harness::new();
    let first = harness.request(&[("range", "bytes=0-1")]);
    let (response, sender) = origin_response(&[FRESH, ("etag", "\"a\""), ("content-range", "bytes 0-1/5")]);
    let mut response = response.unwrap();
    *response.status_mut() = http::StatusCode::PARTIAL_CONTENT;
    harness.next_request().await.send(Ok(response)).ok().unwrap();
    sender.send(data("he")).unwrap();
    drop(sender);
    assert_eq!(text(first).await, "he");

    let clients: Vec<_> = (0..100).map(|_| harness.request(&[])).collect();
    let (asked, to) = harness.requests.recv().await.unwrap();
    assert_eq!((&asked["range"], &asked["if-range"]), (&"bytes=2-".parse().unwrap(), &"\"a\"".parse().unwrap()));
    let (response, sender) = origin_response(&[FRESH, ("etag", "\"a\""), ("content-range", "bytes 2-4/5")]);
    let mut response = response.unwrap();
    *response.status_mut() = http::StatusCode::PARTIAL_CONTENT;
    to.send(Ok(response)).ok().unwrap();
    let mut bodies = Vec::new();
    for client in clients {
        let response = client.await.unwrap().unwrap();
        assert_eq!(
            (response.status(), &response.headers()["content-length"]),
            (http::StatusCode::OK, &"5".parse().unwrap())
        );
        let mut body = response.into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "he");
        bodies.push(body);
    }
    sender.send(data("llo")).unwrap();
    drop(sender);
    for body in bodies {
        assert_eq!(body.collect().await.unwrap().to_bytes(), "llo");
    }
    assert_eq!(harness.origin_requests().await, 0, "nobody else asks");
    assert_eq!(harness.request(&[]).await.unwrap().unwrap().extensions().get(), Some(&CacheStatus::Hit));
}

#[tokio::test(start_paused = true)]
async fn range_request_receives_stored_bytes_before_the_missing_range_arrives() {
    let mut harness = Harness::new();
    let first = harness.request(&[("range", "bytes=0-1")]);
    let (response, sender) = origin_response(&[FRESH, ("etag", "\"a\""), ("content-range", "bytes 0-1/5")]);
    let mut response = response.unwrap();
    *response.status_mut() = http::StatusCode::PARTIAL_CONTENT;
    harness.next_request().await.send(Ok(response)).ok().unwrap();
    sender.send(data("he")).unwrap();
    drop(sender);
    assert_eq!(text(first).await, "he");

    let client = harness.request(&[("range", "bytes=1-")]);
    let (response, sender) = origin_response(&[FRESH, ("etag", "\"a\""), ("content-range", "bytes 2-4/5")]);
    let mut response = response.unwrap();
    *response.status_mut() = http::StatusCode::PARTIAL_CONTENT;
    harness.next_request().await.send(Ok(response)).ok().unwrap();
    let mut body = client.await.unwrap().unwrap().into_body();
    assert_eq!(body.size_hint().exact(), Some(4));
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "e");
    sender.send(data("l")).unwrap();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "l");
    sender.send(data("lo")).unwrap();
    drop(sender);
    assert_eq!(body.collect().await.unwrap().to_bytes(), "lo");
    assert_eq!(text(harness.request(&[])).await, "hello", "all parts are stored by now");
}

#[tokio::test(start_paused = true)]
async fn shared_body_that_is_reset_after_its_last_byte_is_not_stored() {
    for readers in [1, 2] {
        let mut harness = Harness::new();
        let clients: Vec<_> = (0..readers).map(|_| harness.request(&[])).collect();
        let (response, sender) = origin_response(&[FRESH, FIVE]);
        harness.next_request().await.send(response).ok().unwrap();
        sender.send(data("hello")).unwrap();
        let mut bodies = Vec::new();
        for client in clients {
            let mut body = client.await.unwrap().unwrap().into_body();
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "hello");
            bodies.push(body);
        }
        sender.send(Err("reset")).unwrap();
        for body in bodies {
            assert!(body.collect().await.is_err(), "nobody takes it for whole");
        }
        settle().await;
        assert_eq!(harness.store.stats().entries, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn followers_receive_the_trailer_section() {
    for length in [Some(FIVE), None] {
        let mut harness = Harness::new();
        let clients: Vec<_> = (0..3).map(|_| harness.request(&[])).collect();
        let (response, sender) = origin_response(&[Some(FRESH), length].into_iter().flatten().collect::<Vec<_>>());
        harness.next_request().await.send(response).ok().unwrap();
        sender.send(data("hello")).unwrap();
        sender
            .send(Ok(Frame::trailers(HeaderMap::from_iter([("x-sum".parse().unwrap(), "1".parse().unwrap())]))))
            .unwrap();
        drop(sender);
        for client in clients.into_iter().chain([harness.request(&[])]) {
            let body = client.await.unwrap().unwrap().into_body().collect().await.unwrap();
            assert_eq!(body.trailers().unwrap()["x-sum"], "1");
            assert_eq!(body.to_bytes(), "hello");
        }
        assert_eq!(harness.origin_requests().await, 0);
    }
}
