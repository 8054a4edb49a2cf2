//! Tests of quotas in a Redis server that responds slowly, fails or restarts.
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
use rproxy_rate_limit::{
    ClientKey, Quota, RateLimitDecision, RateLimitLayer, RateLimitLayerBuilder, RedisStore, StoreFallback,
};
use server::Server;
use tower::{Layer, ServiceExt, service_fn};

// Replenishes nothing while a test runs.
const FIVE: Quota = Quota::per_hour(1).burst(5);
// A timeout that a healthy server never exceeds, even on a busy machine.
const LONG_TIMEOUT: Duration = Duration::from_secs(5);

struct TestResponse {
    status: StatusCode,
    headers: HeaderMap,
    decision: Option<RateLimitDecision>,
}

async fn send(layer: &RateLimitLayer, client: &str) -> TestResponse {
    let request = Request::get("/").extension(ClientIp(client.parse::<IpAddr>().unwrap())).body(()).unwrap();
    let hello = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::new())));
    let (head, _) = layer.layer(hello).oneshot(request).await.unwrap().into_parts();
    TestResponse { status: head.status, headers: head.headers, decision: head.extensions.get().copied() }
}

/// Sends sequential requests, and returns the response status codes.
async fn statuses(layer: &RateLimitLayer, client: &str, requests: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..requests {
        statuses.push(send(layer, client).await.status.as_u16());
    }
    statuses
}

fn new_builder(server: &Server, fallback: StoreFallback) -> (RateLimitLayerBuilder, RedisStore) {
    let store = RedisStore::new(&server.url()).unwrap().timeout(LONG_TIMEOUT);
    (RateLimitLayer::builder(FIVE).store(store.clone(), fallback), store)
}

fn new_layer(server: &Server, fallback: StoreFallback) -> (RateLimitLayer, RedisStore) {
    let (builder, store) = new_builder(server, fallback);
    (builder.build().unwrap(), store)
}

/// Sends requests until the Redis server has responded to one of them.
async fn until_connected(layer: &RateLimitLayer, store: &RedisStore) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let before = store.stats().succeeded;
    while store.stats().succeeded == before {
        assert!(Instant::now() < deadline, "{:?}", store.stats());
        send(layer, "203.0.113.1").await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn layers_with_the_same_redis_server_share_quotas() {
    let Some(server) = Server::start() else { return };
    let ((one, _), (other, _)) = (new_layer(&server, StoreFallback::Closed), new_layer(&server, StoreFallback::Closed));
    assert_eq!(statuses(&one, "192.0.2.1", 3).await, [200; 3]);
    assert_eq!(statuses(&other, "192.0.2.1", 4).await, [200, 200, 429, 429]);
    assert_eq!(statuses(&one, "192.0.2.1", 1).await, [429]);
    assert_eq!(statuses(&one, "192.0.2.2", 1).await, [200]);
    // Another prefix is another quota.
    let store = RedisStore::new(&server.url()).unwrap().timeout(LONG_TIMEOUT).key_prefix("staging");
    let staging = RateLimitLayer::builder(FIVE).store(store, StoreFallback::Closed).build().unwrap();
    assert_eq!(statuses(&staging, "192.0.2.1", 1).await, [200]);
}

#[tokio::test]
async fn sends_the_same_rate_limit_fields_with_and_without_a_store() {
    let Some(server) = Server::start() else { return };
    let (layer, _) = new_layer(&server, StoreFallback::Closed);
    for remaining in (0..5).rev() {
        let response = send(&layer, "2001:db8::1").await;
        assert_eq!(response.decision, Some(RateLimitDecision::Allowed { remaining }));
        assert_eq!(response.headers["ratelimit-policy"], "\"default\";q=5;w=18000");
    }
    let response = send(&layer, "2001:db8::2").await;
    assert_eq!(
        (response.status, &response.headers["retry-after"]),
        (StatusCode::TOO_MANY_REQUESTS, &"3600".parse().unwrap())
    );
    assert!(matches!(response.decision, Some(RateLimitDecision::Rejected { .. })));
}

#[tokio::test]
async fn charges_several_policies_in_one_redis_round_trip() {
    let Some(server) = Server::start() else { return };
    let store = RedisStore::new(&server.url()).unwrap().timeout(LONG_TIMEOUT);
    let layer = RateLimitLayer::builder(Quota::per_hour(1).burst(2))
        .ipv6_tier(48, Quota::per_hour(1).burst(3))
        .policy("all", Quota::per_hour(1).burst(100), ClientKey::default().ipv4_prefix(0).ipv6_prefix(0))
        .store(store, StoreFallback::Closed)
        .build()
        .unwrap();
    let limits = |response: &TestResponse| -> Vec<String> {
        let lines = response.headers.get_all("ratelimit").iter();
        lines.map(|line| line.to_str().unwrap().split(";t=").next().unwrap().to_owned()).collect()
    };
    let first = send(&layer, "2001:db8::1").await;
    assert_eq!(limits(&first), ["\"default\";r=1", "\"ipv6/48\";r=2", "\"all\";r=99"]);
    send(&layer, "2001:db8::1").await;
    // If one policy rejects a request, none is charged.
    for _ in 0..5 {
        let rejected = send(&layer, "2001:db8::1").await;
        assert_eq!(rejected.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(limits(&rejected), ["\"default\";r=0", "\"ipv6/48\";r=1", "\"all\";r=98"]);
    }
    assert_eq!(statuses(&layer, "2001:db8:0:1::", 2).await, [200, 429]);
    // An IPv4 client has its own quota, and is in no tier.
    assert_eq!(limits(&send(&layer, "192.0.2.1").await), ["\"default\";r=1", "\"all\";r=99"]);
    // The first request sent the script.
    let calls = server.calls();
    assert_eq!((calls("evalsha"), calls("eval")), (10, 1));
}

#[tokio::test]
async fn sends_the_script_again_after_a_script_flush() {
    let Some(server) = Server::start() else { return };
    let (layer, store) = new_layer(&server, StoreFallback::Closed);
    assert_eq!(statuses(&layer, "192.0.2.1", 2).await, [200; 2]);
    server.cli(&["SCRIPT", "FLUSH"]);
    assert_eq!(statuses(&layer, "192.0.2.1", 4).await, [200, 200, 200, 429]);
    assert_eq!(store.stats().succeeded, 6);
}

#[tokio::test]
async fn redis_store_refunds_quota_in_the_background() {
    let Some(server) = Server::start() else { return };
    let failures = Arc::new(AtomicU64::new(0));
    let (builder, store) = new_builder(&server, StoreFallback::Open);
    let layer = builder
        .ipv6_tier(48, FIVE)
        .refund(|head| head.status.is_success())
        .on_store_result({
            let failures = Arc::clone(&failures);
            move |result| _ = failures.fetch_add(u64::from(result.is_err()), Ordering::Relaxed)
        })
        .build()
        .unwrap();
    let (counting, _) = new_layer(&server, StoreFallback::Closed);
    assert_eq!(statuses(&counting, "2001:db8::1", 3).await, [200; 3]);
    for requests in 1..=20 {
        let response = send(&layer, "2001:db8::1").await;
        assert_eq!(response.decision, Some(RateLimitDecision::Allowed { remaining: 2 }));
        // Each request is a charge and a refund.
        wait_until(|| store.stats().succeeded == 2 * requests).await;
    }
    assert_eq!(server.cli(&["DBSIZE"]).trim(), "1", "the tier has its whole quota");
    assert_eq!(statuses(&counting, "2001:db8::1", 3).await, [200, 200, 429]);
    // The server fails between the charge and the refund.
    let server = std::sync::Mutex::new(server);
    let request = Request::get("/").extension(ClientIp("192.0.2.1".parse().unwrap())).body(()).unwrap();
    let inner = service_fn(async |_: Request<()>| {
        server.lock().unwrap().kill();
        Ok::<_, Infallible>(Response::new(String::new()))
    });
    let response = layer.layer(inner).oneshot(request).await.unwrap();
    assert_eq!(response.extensions().get(), Some(&RateLimitDecision::Allowed { remaining: 5 }));
    wait_until(|| failures.load(Ordering::Relaxed) == 1).await;
}

async fn wait_until(is_done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_done() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn redis_keys_expire_when_their_quota_is_full() {
    let Some(server) = Server::start() else { return };
    let store = RedisStore::new(&server.url()).unwrap().timeout(LONG_TIMEOUT);
    let layer = RateLimitLayer::builder(Quota::per_second(1000)).store(store, StoreFallback::Closed).build().unwrap();
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
async fn fallback_decides_if_the_redis_server_is_down() {
    let Some(mut server) = Server::start() else { return };
    server.kill();
    for (fallback, expected) in [
        (StoreFallback::Local, [200, 200, 200, 200, 200, 429]),
        (StoreFallback::Open, [200; 6]),
        (StoreFallback::Closed, [503; 6]),
    ] {
        let (layer, store) = new_layer(&server, fallback);
        assert_eq!(statuses(&layer, "192.0.2.1", 6).await, expected, "{fallback:?}");
        assert_eq!((store.stats().succeeded, store.stats().not_connected), (0, 6), "{fallback:?}");
    }
    let (layer, _) = new_layer(&server, StoreFallback::Closed);
    let response = send(&layer, "192.0.2.1").await;
    assert_eq!(
        (response.decision, &response.headers["retry-after"]),
        (Some(RateLimitDecision::FailedClosed), &"1".parse().unwrap())
    );
    let (layer, _) = new_layer(&server, StoreFallback::Open);
    assert_eq!(send(&layer, "192.0.2.1").await.decision, Some(RateLimitDecision::FailedOpen));
    // Shadow mode rejects no request, not even when the store fails.
    let (builder, _) = new_builder(&server, StoreFallback::Closed);
    let response = send(&builder.shadow(true).build().unwrap(), "192.0.2.1").await;
    assert_eq!((response.status, response.decision), (StatusCode::OK, Some(RateLimitDecision::FailedOpen)));
}

#[tokio::test]
async fn unresponsive_redis_server_delays_only_three_requests_by_the_timeout() {
    let Some(server) = Server::start() else { return };
    let time_limit = Duration::from_millis(100);
    let store = RedisStore::new(&server.url()).unwrap().timeout(LONG_TIMEOUT);
    let layer =
        RateLimitLayer::builder(FIVE).store(store.clone().timeout(time_limit), StoreFallback::Open).build().unwrap();
    until_connected(&layer, &store).await;
    server.signal("STOP");
    let before = Instant::now();
    for _ in 0..100 {
        assert_eq!(send(&layer, "192.0.2.1").await.decision, Some(RateLimitDecision::FailedOpen));
    }
    // Three requests wait for the timeout, the others do not wait.
    let (stats, elapsed) = (store.stats(), before.elapsed());
    assert_eq!((stats.timed_out, stats.open_connections), (3, 0), "{stats:?}");
    assert!(elapsed >= 3 * time_limit, "{elapsed:?}");
    assert!(elapsed < 60 * time_limit, "{elapsed:?}");
    server.signal("CONT");
    until_connected(&layer, &store).await;
    assert!(matches!(send(&layer, "192.0.2.1").await.decision, Some(RateLimitDecision::Allowed { .. })));
}

#[tokio::test]
async fn observer_receives_the_result_of_each_store_request() {
    let Some(mut server) = Server::start() else { return };
    let (successes, failures) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (builder, store) = new_builder(&server, StoreFallback::Local);
    let builder = builder.on_store_result({
        let (successes, failures) = (Arc::clone(&successes), Arc::clone(&failures));
        move |result| _ = if result.is_ok() { &successes } else { &failures }.fetch_add(1, Ordering::Relaxed)
    });
    let layer = builder.build().unwrap();
    statuses(&layer, "192.0.2.1", 2).await;
    server.kill();
    statuses(&layer, "192.0.2.1", 3).await;
    assert_eq!((successes.load(Ordering::Relaxed), failures.load(Ordering::Relaxed)), (2, 3));
    assert_eq!(store.stats().succeeded, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn redis_restart_under_load_fails_no_request() {
    let Some(mut server) = Server::start() else { return };
    let store = RedisStore::new(&server.url()).unwrap().timeout(LONG_TIMEOUT);
    let layer = RateLimitLayer::builder(Quota::per_second(1_000_000)).store(store.clone(), StoreFallback::Local);
    let layer = layer.build().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..20)
        .map(|client| {
            let (layer, stop) = (layer.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut longest = Duration::ZERO;
                while !stop.load(Ordering::Relaxed) {
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
        let not_connected = store.stats().not_connected;
        while store.stats().not_connected < not_connected + 100 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        server.restart();
    }
    until_connected(&layer, &store).await;
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        // A broken connection is noticed at once, so no request waits for the timeout.
        let longest = client.await.unwrap();
        assert!(longest < LONG_TIMEOUT, "{longest:?}");
    }
    assert_eq!(store.stats().timed_out, 0);
}
