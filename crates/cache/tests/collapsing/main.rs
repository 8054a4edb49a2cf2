//! Many clients, one object: RFC 9111 §4 lets one answer serve them all.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod world;

use crate::world::*;

#[tokio::test(start_paused = true)]
async fn thousands_of_clients_are_one_request() {
    for length in [Some(FIVE), None] {
        let mut world = World::new();
        let clients: Vec<_> = (0..5000).map(|_| world.ask(&[])).collect();
        let (response, sending) = answer(&[Some(FRESH), length].into_iter().flatten().collect::<Vec<_>>());
        world.next().await.send(response).ok().unwrap();
        for chunk in ["he", "l", "lo"] {
            sending.send(data(chunk)).unwrap();
            settle().await;
        }
        drop(sending);
        let mut collapsed = 0;
        for client in clients {
            let response = client.await.unwrap().unwrap();
            let status: CacheStatus = *response.extensions().get().unwrap();
            if status == CacheStatus::Collapsed {
                collapsed += 1;
                assert_eq!(response.headers()["cache-status"], "rproxy; fwd=uri-miss; collapsed");
            }
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
        }
        assert_eq!((collapsed, world.store.stats().collapsed), (4999, 4999));
        assert_eq!(world.reaching().await, 0, "nobody else asks");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_several_threads_too() {
    let mut world = World::new();
    let mut clients = JoinSet::new();
    for _ in 0..2000 {
        let service = world.service.clone();
        clients.spawn(async move {
            let request = Request::get("http://example.org/cold").body(Empty::new()).unwrap();
            service.oneshot(request).await.unwrap().into_body().collect().await.unwrap().to_bytes()
        });
    }
    let (response, sending) = answer(&[FRESH, ("content-length", "1000")]);
    world.next().await.send(response).ok().unwrap();
    tokio::spawn(async move {
        for _ in 0..200 {
            sending.send(data("01234")).unwrap();
            tokio::task::yield_now().await;
        }
    });
    while let Some(body) = clients.join_next().await {
        assert_eq!(body.unwrap(), "01234".repeat(200));
    }
    assert!(world.asked.try_recv().is_err(), "nobody else asks");
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_served_as_the_body_arrives() {
    let mut world = World::new();
    let (first, second) = (world.ask(&[]), world.ask(&[]));
    let (response, sending) = answer(&[FRESH, FIVE]);
    world.next().await.send(response).ok().unwrap();
    sending.send(data("he")).unwrap();
    let mut bodies = [first.await.unwrap().unwrap().into_body(), second.await.unwrap().unwrap().into_body()];
    for body in &mut bodies {
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "he");
        assert_eq!(body.size_hint().exact(), Some(3));
    }
    let third = world.ask(&[]).await.unwrap().unwrap();
    sending.send(data("llo")).unwrap();
    drop(sending);
    for body in bodies {
        assert_eq!(body.collect().await.unwrap().to_bytes(), "llo");
    }
    assert_eq!(third.headers()["content-length"], "5");
    assert_eq!(third.into_body().collect().await.unwrap().to_bytes(), "hello", "who comes later misses nothing");
    assert_eq!(world.ask(&[]).await.unwrap().unwrap().extensions().get(), Some(&CacheStatus::Hit));
}

#[tokio::test(start_paused = true)]
async fn what_is_for_one_client_is_waited_for_once_and_not_in_a_queue() {
    for headers in [
        &[("cache-control", "private, max-age=60"), FIVE][..],
        &[("cache-control", "no-store"), FIVE],
        &[("cache-control", "no-cache"), ("etag", "\"a\""), FIVE],
        &[("cache-control", "max-age=0"), ("etag", "\"a\""), FIVE],
        &[FIVE],
        &[FRESH, ("content-length", "1001")],
    ] {
        let mut world = World::new();
        let clients: Vec<_> = (0..100).map(|_| world.ask(&[])).collect();
        let (response, _sending) = answer(headers);
        world.next().await.send(response).ok().unwrap();
        assert_eq!(world.reaching().await, 99, "all at once: {headers:?}");
        let more: Vec<_> = (0..10).map(|_| world.ask(&[])).collect();
        assert_eq!(world.reaching().await, 10, "and nobody waits for the next one: {headers:?}");
        drop((clients, more));
    }
}

#[tokio::test(start_paused = true)]
async fn who_takes_another_variant_does_not_wait_for_this_one() {
    // RFC 9111 §4.1
    let mut world = World::new();
    let (gzip, br) = (world.ask(&[("accept-encoding", "gzip")]), world.ask(&[("accept-encoding", "br")]));
    assert_eq!(world.reaching().await, 2);
    drop((gzip, br));

    let mut world = World::new();
    let clients = [world.ask(&[("foo", "1")]), world.ask(&[("foo", "1")]), world.ask(&[("foo", "2")])];
    let (response, _sending) = answer(&[FRESH, FIVE, ("vary", "foo")]);
    world.next().await.send(response).ok().unwrap();
    assert_eq!(world.reaching().await, 1, "as soon as it is known");
    drop(clients);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_what_is_asked_for_with_credentials_or_in_part() {
    let mut world = World::new();
    for field in [("authorization", "Basic eDp5"), ("range", "bytes=0-1"), ("cache-control", "no-store")] {
        let clients = [world.ask(&[field]), world.ask(&[field])];
        assert_eq!(world.reaching().await, 2, "{field:?}");
        drop(clients);
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_goes_away_before_the_answer_takes_nothing_with_it() {
    let mut world = World::new();
    let leader = world.ask(&[]);
    let asked = world.next().await;
    let clients: Vec<_> = (0..10).map(|_| world.ask(&[])).collect();
    settle().await;
    leader.abort();
    settle().await;
    let (response, sending) = answer(&[FRESH, FIVE]);
    asked.send(response).ok().expect("the question is still open");
    sending.send(data("hello")).unwrap();
    drop(sending);
    for client in clients {
        assert_eq!(text(client).await, "hello");
    }
    assert_eq!(world.reaching().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_goes_away_during_the_body_takes_nothing_with_it() {
    for length in [Some(FIVE), None] {
        let mut world = World::new();
        let leader = world.ask(&[]);
        let clients: Vec<_> = (0..10).map(|_| world.ask(&[])).collect();
        let (response, sending) = answer(&[Some(FRESH), length].into_iter().flatten().collect::<Vec<_>>());
        world.next().await.send(response).ok().unwrap();
        let mut body = leader.await.unwrap().unwrap().into_body();
        sending.send(data("he")).unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "he");
        drop(body);
        settle().await;
        sending.send(data("llo")).unwrap();
        drop(sending);
        for client in clients {
            assert_eq!(text(client).await, "hello");
        }
        assert_eq!((world.reaching().await, world.store.stats().stored), (0, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_reads_slowly_holds_up_nobody() {
    let mut world = World::new();
    let leader = world.ask(&[]);
    let (response, sending) = answer(&[FRESH, FIVE]);
    world.next().await.send(response).ok().unwrap();
    let unread = leader.await.unwrap().unwrap().into_body();
    let client = world.ask(&[]);
    settle().await;
    sending.send(data("hel")).unwrap();
    sending.send(data("lo")).unwrap();
    drop(sending);
    assert_eq!(text(client).await, "hello");
    assert_eq!(unread.collect().await.unwrap().to_bytes(), "hello", "and gets all of it when it does read");
}

#[tokio::test(start_paused = true)]
async fn when_all_go_away_the_transfer_ends() {
    let mut world = World::new();
    let clients = [world.ask(&[]), world.ask(&[])];
    let (response, sending) = answer(&[FRESH, FIVE]);
    world.next().await.send(response).ok().unwrap();
    for client in clients {
        drop(client.await.unwrap().unwrap());
    }
    assert!(sending.is_closed());
    let again = world.ask(&[]);
    assert_eq!(world.reaching().await, 1, "the next one asks anew");
    drop(again);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_longer_than_the_deadline() {
    let mut world = World::new();
    let leader = world.ask(&[]);
    let asked = world.next().await;
    let client = world.ask(&[]);
    tokio::time::sleep(Duration::from_millis(4999)).await;
    assert_eq!(world.reaching().await, 0);
    tokio::time::sleep(Duration::from_millis(2)).await;
    let (response, sending) = answer(&[FRESH]);
    world.next().await.send(response).ok().unwrap();
    sending.send(data("second")).unwrap();
    drop(sending);
    assert_eq!(text(client).await, "second");
    drop((leader, asked));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_is_whole_for_nobody() {
    // RFC 9111 §3.3
    let mut world = World::new();
    let (leader, client) = (world.ask(&[]), world.ask(&[]));
    let (response, sending) = answer(&[FRESH, FIVE]);
    world.next().await.send(response).ok().unwrap();
    sending.send(data("he")).unwrap();
    let (leader, client) = (leader.await.unwrap().unwrap(), client.await.unwrap().unwrap());
    sending.send(Err("reset")).unwrap();
    assert_eq!(client.into_body().collect().await.unwrap_err(), BodyError::Incomplete);
    assert_eq!(leader.into_body().collect().await.unwrap_err(), BodyError::Inner("reset"));
    assert_eq!(world.store.stats().entries, 0);

    let (leader, client) = (world.ask(&[]), world.ask(&[]));
    let (response, sending) = answer(&[FRESH, FIVE]);
    world.next().await.send(response).ok().unwrap();
    sending.send(data("he")).unwrap();
    let (leader, client) = (leader.await.unwrap().unwrap(), client.await.unwrap().unwrap());
    drop(sending);
    assert_eq!(client.into_body().collect().await.unwrap_err(), BodyError::Incomplete, "shorter than announced");
    assert_eq!(leader.into_body().collect().await.unwrap().to_bytes(), "he", "as it would be without a cache");
    assert_eq!(world.store.stats().entries, 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_turns_out_too_large_sets_the_others_free_and_reaches_its_client_whole() {
    let mut world = World::new();
    let leader = world.ask(&[]);
    let clients: Vec<_> = (0..10).map(|_| world.ask(&[])).collect();
    let (response, sending) = answer(&[FRESH]);
    world.next().await.send(response).ok().unwrap();
    let part: &str = "0123456789".repeat(40).leak();
    for _ in 0..3 {
        sending.send(data(part)).unwrap();
    }
    assert_eq!(world.reaching().await, 10);
    let trailers = HeaderMap::from_iter([("x".parse::<http::HeaderName>().unwrap(), "1".parse().unwrap())]);
    sending.send(data(part)).unwrap();
    sending.send(Ok(Frame::trailers(trailers.clone()))).unwrap();
    drop(sending);
    let whole = leader.await.unwrap().unwrap().into_body().collect().await.unwrap();
    assert_eq!(whole.trailers(), Some(&trailers));
    assert_eq!(whole.to_bytes(), part.repeat(4));
    drop(clients);
}

#[tokio::test(start_paused = true)]
async fn an_error_is_for_the_one_who_met_it() {
    let mut world = World::new();
    let (leader, client) = (world.ask(&[]), world.ask(&[]));
    world.next().await.send(Err("refused")).ok().unwrap();
    let (response, sending) = answer(&[FRESH, FIVE]);
    world.next().await.send(response).ok().unwrap();
    sending.send(data("hello")).unwrap();
    drop(sending);
    assert_eq!(leader.await.unwrap().err(), Some("refused"));
    assert_eq!(text(client).await, "hello");
}

#[tokio::test(start_paused = true)]
async fn one_validation_is_enough_for_all() {
    // RFC 9111 §4.3
    let mut world = World::new();
    let first = world.ask(&[]);
    let (response, sending) = answer(&[FRESH, ("etag", "\"a\""), FIVE]);
    world.next().await.send(response).ok().unwrap();
    sending.send(data("hello")).unwrap();
    drop(sending);
    assert_eq!(text(first).await, "hello");

    world.now.fetch_add(60, Ordering::SeqCst);
    let clients: Vec<_> = (0..1000).map(|_| world.ask(&[])).collect();
    let (validation, asked) = world.asked.recv().await.unwrap();
    assert_eq!(validation["if-none-match"], "\"a\"");
    let (mut not_modified, _) = answer(&[FRESH, ("etag", "\"a\"")]);
    *not_modified.as_mut().unwrap().status_mut() = http::StatusCode::NOT_MODIFIED;
    asked.send(not_modified).ok().unwrap();
    for client in clients {
        assert_eq!(text(client).await, "hello");
    }
    assert_eq!(world.reaching().await, 0);
}

#[tokio::test(start_paused = true)]
async fn who_has_it_already_and_those_who_wait_are_one_request() {
    let mut world = World::new();
    let clients: Vec<_> = (0..100).map(|_| world.ask(&[("if-none-match", "\"a\"")])).collect();
    let other = world.ask(&[]);
    let (asked, sent) = world.asked.recv().await.unwrap();
    assert!(!asked.contains_key("if-none-match"), "what comes is to be of use to all");
    let (response, sending) = answer(&[FRESH, ("etag", "\"a\""), FIVE]);
    sent.send(response).ok().unwrap();
    for client in clients {
        let response = client.await.unwrap().unwrap();
        assert_eq!(response.status(), http::StatusCode::NOT_MODIFIED);
    }
    sending.send(data("hello")).unwrap();
    drop(sending);
    assert_eq!(text(other).await, "hello");
    assert_eq!(world.reaching().await, 0);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_has_a_use_for_is_not_read_to_its_end() {
    let mut world = World::new();
    let client = world.ask(&[("if-none-match", "\"a\"")]);
    let (response, sending) = answer(&[FRESH, ("etag", "\"a\"")]);
    world.next().await.send(response).ok().unwrap();
    assert_eq!(client.await.unwrap().unwrap().status(), http::StatusCode::NOT_MODIFIED);
    // More than may be stored, without an end.
    let mut chunks = 0;
    while sending.send(data("0123456789012345678901234567890123456789")).is_ok() {
        settle().await;
        chunks += 1;
        assert!(chunks < 100, "it is read on and on");
    }
    assert!(chunks > 20, "it was, while it could be stored");
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_shared_body_fails_all_of_its_clients() {
    let mut world = World::new();
    let clients: Vec<_> = (0..3).map(|_| world.ask(&[])).collect();
    let (response, sending) = answer(&[FRESH, FIVE]);
    world.next().await.send(response).ok().unwrap();
    sending.send(data("he")).unwrap();
    let mut readers = Vec::new();
    for client in clients {
        let body = client.await.unwrap().unwrap().into_body();
        readers.push(tokio::spawn(body.collect()));
    }
    settle().await;
    sending.send(Err(PANIC)).unwrap();
    let mut panics = 0;
    for reader in readers {
        match tokio::time::timeout(Duration::from_secs(5), reader).await.expect("no client hangs") {
            Err(error) => panics += usize::from(error.is_panic()),
            Ok(outcome) => assert!(matches!(outcome, Err(BodyError::Incomplete))),
        }
    }
    assert_eq!(panics, 1, "the client that polled the body");

    let next = world.ask(&[]);
    let (response, sending) = answer(&[FRESH, FIVE]);
    world.next().await.send(response).ok().unwrap();
    sending.send(data("hello")).unwrap();
    drop(sending);
    assert_eq!(text(next).await, "hello", "nobody joins what has failed");
}

#[tokio::test(start_paused = true)]
async fn a_304_that_selects_another_variant_serves_all_that_wait() {
    // RFC 9111 §4.3.1
    let mut world = World::new();
    let vary = ("vary", "accept-language");
    let first = world.ask(&[("accept-language", "en")]);
    let (response, sending) = answer(&[FRESH, FIVE, vary, ("etag", "\"en\"")]);
    world.next().await.send(response).ok().unwrap();
    sending.send(data("hello")).unwrap();
    drop(sending);
    assert_eq!(text(first).await, "hello");

    let mut clients: Vec<_> = (0..100).map(|_| world.ask(&[("accept-language", "fr")])).collect();
    let (asked, to) = world.asked.recv().await.unwrap();
    assert_eq!(asked["if-none-match"], "\"en\"");
    // The others do not depend on the client that came first.
    clients.remove(0).abort();
    settle().await;
    let (mut response, sending) = answer(&[FRESH, vary, ("etag", "\"en\"")]);
    *response.as_mut().unwrap().status_mut() = http::StatusCode::NOT_MODIFIED;
    drop(sending);
    to.send(response).ok().unwrap();
    for client in clients {
        assert_eq!(text(client).await, "hello");
    }
    assert_eq!(world.reaching().await, 0, "nobody else asks");
}

#[tokio::test(start_paused = true)]
async fn all_that_wait_get_the_stored_part_before_the_rest_arrives() {
    // RFC 9111 §3.4
    let mut world = World::new();
    let first = world.ask(&[("range", "bytes=0-1")]);
    let (response, sending) = answer(&[FRESH, ("etag", "\"a\""), ("content-range", "bytes 0-1/5")]);
    let mut response = response.unwrap();
    *response.status_mut() = http::StatusCode::PARTIAL_CONTENT;
    world.next().await.send(Ok(response)).ok().unwrap();
    sending.send(data("he")).unwrap();
    drop(sending);
    assert_eq!(text(first).await, "he");

    let clients: Vec<_> = (0..100).map(|_| world.ask(&[])).collect();
    let (asked, to) = world.asked.recv().await.unwrap();
    assert_eq!((&asked["range"], &asked["if-range"]), (&"bytes=2-".parse().unwrap(), &"\"a\"".parse().unwrap()));
    let (response, sending) = answer(&[FRESH, ("etag", "\"a\""), ("content-range", "bytes 2-4/5")]);
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
    sending.send(data("llo")).unwrap();
    drop(sending);
    for body in bodies {
        assert_eq!(body.collect().await.unwrap().to_bytes(), "llo");
    }
    assert_eq!(world.reaching().await, 0, "nobody else asks");
    assert_eq!(world.ask(&[]).await.unwrap().unwrap().extensions().get(), Some(&CacheStatus::Hit));
}

#[tokio::test(start_paused = true)]
async fn a_range_gets_its_stored_bytes_before_the_rest_arrives() {
    let mut world = World::new();
    let first = world.ask(&[("range", "bytes=0-1")]);
    let (response, sending) = answer(&[FRESH, ("etag", "\"a\""), ("content-range", "bytes 0-1/5")]);
    let mut response = response.unwrap();
    *response.status_mut() = http::StatusCode::PARTIAL_CONTENT;
    world.next().await.send(Ok(response)).ok().unwrap();
    sending.send(data("he")).unwrap();
    drop(sending);
    assert_eq!(text(first).await, "he");

    let client = world.ask(&[("range", "bytes=1-")]);
    let (response, sending) = answer(&[FRESH, ("etag", "\"a\""), ("content-range", "bytes 2-4/5")]);
    let mut response = response.unwrap();
    *response.status_mut() = http::StatusCode::PARTIAL_CONTENT;
    world.next().await.send(Ok(response)).ok().unwrap();
    let mut body = client.await.unwrap().unwrap().into_body();
    assert_eq!(body.size_hint().exact(), Some(4));
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "e");
    sending.send(data("l")).unwrap();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "l");
    sending.send(data("lo")).unwrap();
    drop(sending);
    assert_eq!(body.collect().await.unwrap().to_bytes(), "lo");
    assert_eq!(text(world.ask(&[])).await, "hello", "all parts are stored by now");
}

#[tokio::test(start_paused = true)]
async fn a_shared_body_that_is_reset_after_its_last_byte_is_not_stored() {
    for readers in [1, 2] {
        let mut world = World::new();
        let clients: Vec<_> = (0..readers).map(|_| world.ask(&[])).collect();
        let (response, sending) = answer(&[FRESH, FIVE]);
        world.next().await.send(response).ok().unwrap();
        sending.send(data("hello")).unwrap();
        let mut bodies = Vec::new();
        for client in clients {
            let mut body = client.await.unwrap().unwrap().into_body();
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "hello");
            bodies.push(body);
        }
        sending.send(Err("reset")).unwrap();
        for body in bodies {
            assert!(body.collect().await.is_err(), "nobody takes it for whole");
        }
        settle().await;
        assert_eq!(world.store.stats().entries, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn all_that_wait_get_the_trailers() {
    for length in [Some(FIVE), None] {
        let mut world = World::new();
        let clients: Vec<_> = (0..3).map(|_| world.ask(&[])).collect();
        let (response, sending) = answer(&[Some(FRESH), length].into_iter().flatten().collect::<Vec<_>>());
        world.next().await.send(response).ok().unwrap();
        sending.send(data("hello")).unwrap();
        sending
            .send(Ok(Frame::trailers(HeaderMap::from_iter([("x-sum".parse().unwrap(), "1".parse().unwrap())]))))
            .unwrap();
        drop(sending);
        for client in clients.into_iter().chain([world.ask(&[])]) {
            let body = client.await.unwrap().unwrap().into_body().collect().await.unwrap();
            assert_eq!(body.trailers().unwrap()["x-sum"], "1");
            assert_eq!(body.to_bytes(), "hello");
        }
        assert_eq!(world.reaching().await, 0);
    }
}
