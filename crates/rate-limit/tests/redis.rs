//! Quotas in a real server, which is slow, gone and back again.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used)]

#[path = "support/redis.rs"]
mod server;

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::{HeaderMap, Request, Response, StatusCode};
use rproxy_client_ip::ClientIp;
use rproxy_rate_limit::{ClientKey, Fallback, Quota, RateLimitDecision, RateLimitLayer, RedisStore};
use server::Server;
use tower::{Layer, ServiceExt, service_fn};

// Nothing is given back while a test runs.
const FIVE: Quota = Quota::per_hour(1).burst(5);
// Longer than anything takes where the server is well, on a machine that is not.
const PATIENT: Duration = Duration::from_secs(5);

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    decision: Option<RateLimitDecision>,
}

async fn send(layer: &RateLimitLayer, client: &str) -> Answer {
    let request = Request::get("/").extension(ClientIp(client.parse::<IpAddr>().unwrap())).body(()).unwrap();
    let hello = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::new())));
    let (head, _) = layer.layer(hello).oneshot(request).await.unwrap().into_parts();
    Answer { status: head.status, headers: head.headers, decision: head.extensions.get().copied() }
}

/// The statuses of so many requests, one after the other.
async fn statuses(layer: &RateLimitLayer, client: &str, requests: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..requests {
        statuses.push(send(layer, client).await.status.as_u16());
    }
    statuses
}

fn shared(server: &Server, fallback: Fallback) -> (RateLimitLayer, RedisStore) {
    let store = RedisStore::new(&server.url()).unwrap().deadline(PATIENT);
    (RateLimitLayer::new(FIVE).store(store.clone(), fallback), store)
}

/// Waits until the server is asked again.
async fn until_connected(layer: &RateLimitLayer, store: &RedisStore) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let before = store.stats().answered;
    while store.stats().answered == before {
        assert!(Instant::now() < deadline, "{:?}", store.stats());
        send(layer, "203.0.113.1").await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn all_that_ask_one_server_count_together() {
    let Some(server) = Server::start() else { return };
    let ((one, _), (other, _)) = (shared(&server, Fallback::Closed), shared(&server, Fallback::Closed));
    assert_eq!(statuses(&one, "192.0.2.1", 3).await, [200; 3]);
    assert_eq!(statuses(&other, "192.0.2.1", 4).await, [200, 200, 429, 429]);
    assert_eq!(statuses(&one, "192.0.2.1", 1).await, [429]);
    assert_eq!(statuses(&one, "192.0.2.2", 1).await, [200]);
    // Under another prefix it is another quota.
    let store = RedisStore::new(&server.url()).unwrap().deadline(PATIENT).prefix("staging");
    let apart = RateLimitLayer::new(FIVE).store(store, Fallback::Closed);
    assert_eq!(statuses(&apart, "192.0.2.1", 1).await, [200]);
}

#[tokio::test]
async fn the_client_is_told_the_same_as_without_a_server() {
    let Some(server) = Server::start() else { return };
    let (layer, _) = shared(&server, Fallback::Closed);
    for remaining in (0..5).rev() {
        let answer = send(&layer, "2001:db8::1").await;
        assert_eq!(answer.decision, Some(RateLimitDecision::Allowed { remaining }));
        assert_eq!(answer.headers["ratelimit-policy"], "\"default\";q=5;w=18000");
    }
    let answer = send(&layer, "2001:db8::2").await;
    assert_eq!(
        (answer.status, &answer.headers["retry-after"]),
        (StatusCode::TOO_MANY_REQUESTS, &"3600".parse().unwrap())
    );
    assert!(matches!(answer.decision, Some(RateLimitDecision::Denied { .. })));
}

#[tokio::test]
async fn several_policies_are_charged_together_in_one_round_trip() {
    let Some(server) = Server::start() else { return };
    let store = RedisStore::new(&server.url()).unwrap().deadline(PATIENT);
    let layer = RateLimitLayer::new(Quota::per_hour(1).burst(2))
        .ipv6_tier(48, Quota::per_hour(1).burst(3))
        .policy("all", Quota::per_hour(1).burst(100), ClientKey::default().ipv4_prefix(0).ipv6_prefix(0))
        .unwrap()
        .store(store, Fallback::Closed);
    let limits = |answer: &Answer| -> Vec<String> {
        let lines = answer.headers.get_all("ratelimit").iter();
        lines.map(|line| line.to_str().unwrap().split(";t=").next().unwrap().to_owned()).collect()
    };
    let first = send(&layer, "2001:db8::1").await;
    assert_eq!(limits(&first), ["\"default\";r=1", "\"ipv6/48\";r=2", "\"all\";r=99"]);
    send(&layer, "2001:db8::1").await;
    // What one denies is charged to none.
    for _ in 0..5 {
        let denied = send(&layer, "2001:db8::1").await;
        assert_eq!(denied.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(limits(&denied), ["\"default\";r=0", "\"ipv6/48\";r=1", "\"all\";r=98"]);
    }
    assert_eq!(statuses(&layer, "2001:db8:0:1::", 2).await, [200, 429]);
    // IPv4 has a network of its own, and no tier.
    assert_eq!(limits(&send(&layer, "192.0.2.1").await), ["\"default\";r=1", "\"all\";r=99"]);
    // The first request had to send the script.
    let calls = server.calls();
    assert_eq!((calls("evalsha"), calls("eval")), (10, 1));
}

#[tokio::test]
async fn a_server_that_forgot_the_script_is_sent_it_again() {
    let Some(server) = Server::start() else { return };
    let (layer, store) = shared(&server, Fallback::Closed);
    assert_eq!(statuses(&layer, "192.0.2.1", 2).await, [200; 2]);
    server.cli(&["SCRIPT", "FLUSH"]);
    assert_eq!(statuses(&layer, "192.0.2.1", 4).await, [200, 200, 200, 429]);
    assert_eq!(store.stats().answered, 6);
}

#[tokio::test]
async fn whoever_has_the_whole_quota_again_is_forgotten() {
    let Some(server) = Server::start() else { return };
    let store = RedisStore::new(&server.url()).unwrap().deadline(PATIENT);
    let layer = RateLimitLayer::new(Quota::per_second(1000)).store(store, Fallback::Closed);
    for client in 0..100 {
        assert_eq!(send(&layer, &format!("192.0.2.{client}")).await.status, StatusCode::OK);
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while server.cli(&["DBSIZE"]).trim() != "0" {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn without_a_server_requests_become_what_was_agreed() {
    let Some(mut server) = Server::start() else { return };
    server.kill();
    for (fallback, expected) in
        [(Fallback::Local, [200, 200, 200, 200, 200, 429]), (Fallback::Open, [200; 6]), (Fallback::Closed, [503; 6])]
    {
        let (layer, store) = shared(&server, fallback);
        assert_eq!(statuses(&layer, "192.0.2.1", 6).await, expected, "{fallback:?}");
        assert_eq!((store.stats().answered, store.stats().not_connected), (0, 6), "{fallback:?}");
    }
    let (layer, _) = shared(&server, Fallback::Closed);
    let answer = send(&layer, "192.0.2.1").await;
    assert_eq!(
        (answer.decision, &answer.headers["retry-after"]),
        (Some(RateLimitDecision::StoreUnavailable), &"1".parse().unwrap())
    );
    let (layer, _) = shared(&server, Fallback::Open);
    assert_eq!(send(&layer, "192.0.2.1").await.decision, Some(RateLimitDecision::Uncounted));
    // In shadow mode nobody is refused, whatever the reason.
    let (layer, _) = shared(&server, Fallback::Closed);
    let answer = send(&layer.shadow(true), "192.0.2.1").await;
    assert_eq!((answer.status, answer.decision), (StatusCode::OK, Some(RateLimitDecision::Uncounted)));
}

#[tokio::test]
async fn a_server_that_hangs_delays_few_requests_and_no_longer_than_agreed() {
    let Some(server) = Server::start() else { return };
    let deadline = Duration::from_millis(100);
    let store = RedisStore::new(&server.url()).unwrap().deadline(PATIENT);
    let layer = RateLimitLayer::new(FIVE).store(store.clone().deadline(deadline), Fallback::Open);
    until_connected(&layer, &store).await;
    server.signal("STOP");
    let before = Instant::now();
    for _ in 0..100 {
        assert_eq!(send(&layer, "192.0.2.1").await.decision, Some(RateLimitDecision::Uncounted));
    }
    // Three wait for their time, the others for nothing.
    let (stats, took) = (store.stats(), before.elapsed());
    assert_eq!((stats.timed_out, stats.connections), (3, 0), "{stats:?}");
    assert!(took >= 3 * deadline, "{took:?}");
    assert!(took < 60 * deadline, "{took:?}");
    server.signal("CONT");
    until_connected(&layer, &store).await;
    assert!(matches!(send(&layer, "192.0.2.1").await.decision, Some(RateLimitDecision::Allowed { .. })));
}

#[tokio::test]
async fn the_program_hears_of_failures_and_of_answers() {
    let Some(mut server) = Server::start() else { return };
    let (good, bad) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (layer, store) = shared(&server, Fallback::Local);
    let layer = layer.observe_store({
        let (good, bad) = (Arc::clone(&good), Arc::clone(&bad));
        move |answer| _ = if answer.is_ok() { &good } else { &bad }.fetch_add(1, Ordering::Relaxed)
    });
    statuses(&layer, "192.0.2.1", 2).await;
    server.kill();
    statuses(&layer, "192.0.2.1", 3).await;
    assert_eq!((good.load(Ordering::Relaxed), bad.load(Ordering::Relaxed)), (2, 3));
    assert_eq!(store.stats().answered, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn killed_and_revived_under_load_it_never_lets_a_request_down() {
    let Some(mut server) = Server::start() else { return };
    let store = RedisStore::new(&server.url()).unwrap().deadline(PATIENT);
    let layer = RateLimitLayer::new(Quota::per_second(1_000_000)).store(store.clone(), Fallback::Local);
    let end = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..20)
        .map(|client| {
            let (layer, end) = (layer.clone(), Arc::clone(&end));
            tokio::spawn(async move {
                let mut longest = Duration::ZERO;
                while !end.load(Ordering::Relaxed) {
                    let before = Instant::now();
                    assert_eq!(send(&layer, &format!("192.0.2.{client}")).await.status, StatusCode::OK);
                    longest = longest.max(before.elapsed());
                    tokio::task::yield_now().await;
                }
                longest
            })
        })
        .collect();
    for _ in 0..3 {
        until_connected(&layer, &store).await;
        server.kill();
        let unanswered = store.stats().not_connected;
        while store.stats().not_connected < unanswered + 100 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        server.revive();
    }
    until_connected(&layer, &store).await;
    end.store(true, Ordering::Relaxed);
    for client in clients {
        // A connection that breaks is noticed at once: nobody waits for the deadline.
        let longest = client.await.unwrap();
        assert!(longest < PATIENT, "{longest:?}");
    }
    assert_eq!(store.stats().timed_out, 0);
}
