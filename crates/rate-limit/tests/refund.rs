//! Tests of refunds: requests that are not counted because of their response.
#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use proptest::prelude::*;
use rproxy_client_ip::ClientIp;
use rproxy_rate_limit::clock::FakeRelativeClock;
use rproxy_rate_limit::{
    Charge, ChargeOutcome, Quota, RateLimitDecision, RateLimitLayer, RateLimitLayerBuilder, RateLimitStore, StoreError,
    StoreFallback, StoreFuture, StoreObserver,
};
use tokio_test::block_on;
use tower::{Layer, ServiceExt, service_fn};

const FIVE: Quota = Quota::per_hour(1).burst(5);

struct TestResponse {
    status: StatusCode,
    limits: Vec<String>,
    decision: Option<RateLimitDecision>,
}

/// The part of the response head that determines whether the request is refunded.
#[derive(Clone, Copy)]
struct FromCache;

/// Returns a builder with a stopped clock for a layer that refunds cache hits.
fn builder(quota: Quota) -> RateLimitLayerBuilder {
    let builder = RateLimitLayer::builder(quota).clock(FakeRelativeClock::default());
    builder.refund(|head| head.extensions.get::<FromCache>().is_some())
}

/// Sends a request that is a cache hit if its path is `/hit`.
async fn send(layer: &RateLimitLayer, client: &str, path: &str) -> TestResponse {
    let request = Request::get(path).extension(ClientIp(client.parse::<IpAddr>().unwrap())).body(()).unwrap();
    let inner = service_fn(async |request: Request<()>| {
        let mut response = Response::new(String::new());
        if request.uri().path() == "/hit" {
            response.extensions_mut().insert(FromCache);
        }
        Ok::<_, Infallible>(response)
    });
    let (head, _) = layer.layer(inner).oneshot(request).await.unwrap().into_parts();
    let limits = head.headers.get_all("ratelimit").iter();
    let limits = limits.map(|value| value.to_str().unwrap().split(";t=").next().unwrap().to_owned()).collect();
    TestResponse { status: head.status, limits, decision: head.extensions.get().copied() }
}

async fn statuses(layer: &RateLimitLayer, client: &str, path: &str, requests: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..requests {
        statuses.push(send(layer, client, path).await.status.as_u16());
    }
    statuses
}

#[tokio::test]
async fn refunded_requests_do_not_count_against_the_quota() {
    let layer = builder(FIVE).build().unwrap();
    for _ in 0..50 {
        let hit = send(&layer, "192.0.2.1", "/hit").await;
        assert_eq!((hit.status, &hit.limits[..]), (StatusCode::OK, &["\"default\";r=5".to_owned()][..]));
        assert_eq!(hit.decision, Some(RateLimitDecision::Allowed { remaining: 5 }));
    }
    assert_eq!(send(&layer, "192.0.2.1", "/miss").await.limits, ["\"default\";r=4"]);
    assert_eq!(send(&layer, "192.0.2.1", "/hit").await.limits, ["\"default\";r=4"]);
    assert_eq!(statuses(&layer, "192.0.2.1", "/miss", 5).await, [200, 200, 200, 200, 429]);
    // A client over its quota gets no hits.
    assert_eq!(statuses(&layer, "192.0.2.1", "/hit", 1).await, [429]);
    assert_eq!(statuses(&layer, "192.0.2.2", "/miss", 6).await, [200, 200, 200, 200, 200, 429]);
}

#[tokio::test]
async fn all_requests_count_without_a_refund_function() {
    let layer = RateLimitLayer::builder(FIVE).build().unwrap();
    assert_eq!(statuses(&layer, "192.0.2.1", "/hit", 6).await, [200, 200, 200, 200, 200, 429]);
}

#[tokio::test]
async fn refund_applies_to_all_policies() {
    let layer = builder(FIVE).ipv6_tier(48, Quota::per_hour(1).burst(7)).build().unwrap();
    let limits = async |client: &str, path: &str| send(&layer, client, path).await.limits;
    for subnet in 0..20 {
        let hit = limits(&format!("2001:db8:0:{subnet}::1"), "/hit").await;
        assert_eq!(hit, ["\"default\";r=5", "\"ipv6/48\";r=7"]);
    }
    assert_eq!(limits("2001:db8::1", "/miss").await, ["\"default\";r=4", "\"ipv6/48\";r=6"]);
    assert_eq!(limits("2001:db8::1", "/hit").await, ["\"default\";r=4", "\"ipv6/48\";r=6"]);
    assert_eq!(statuses(&layer, "2001:db8::1", "/miss", 4).await, [200; 4]);
    assert_eq!(statuses(&layer, "2001:db8:0:1::1", "/miss", 3).await, [200, 200, 429]);
}

#[tokio::test]
async fn refund_restores_the_full_cost_of_a_request() {
    let layer = builder(FIVE).cost(|_| 3).build().unwrap();
    assert_eq!(send(&layer, "192.0.2.1", "/hit").await.limits, ["\"default\";r=5"]);
    assert_eq!(send(&layer, "192.0.2.1", "/miss").await.limits, ["\"default\";r=2"]);
    // A cost above the burst was charged as the whole burst.
    let layer = builder(FIVE).cost(|_| 99).build().unwrap();
    assert_eq!(send(&layer, "192.0.2.1", "/hit").await.limits, ["\"default\";r=5"]);
    assert_eq!(statuses(&layer, "192.0.2.1", "/miss", 2).await, [200, 429]);
}

#[tokio::test]
async fn shadow_mode_refunds_only_requests_that_were_charged() {
    let layer = builder(FIVE).shadow(true).build().unwrap();
    statuses(&layer, "192.0.2.1", "/hit", 50).await;
    let remaining = async |path: &str| send(&layer, "192.0.2.1", path).await.decision;
    assert_eq!(remaining("/hit").await, Some(RateLimitDecision::Allowed { remaining: 5 }));
    statuses(&layer, "192.0.2.1", "/miss", 5).await;
    // Neither was charged.
    for path in ["/hit", "/hit", "/miss", "/miss"] {
        let hit = send(&layer, "192.0.2.1", path).await;
        assert!(matches!(hit.decision, Some(RateLimitDecision::WouldReject { .. })), "{path}");
        assert_eq!(hit.limits, [""; 0]);
    }
}

#[tokio::test]
async fn in_flight_limit_also_counts_refunded_requests() {
    let layer = builder(FIVE).max_in_flight(0).build().unwrap();
    let response = send(&layer, "192.0.2.1", "/hit").await;
    assert_eq!(response.decision, Some(RateLimitDecision::TooManyInFlight));
}

/// A store that allows all requests or returns an error for all, and records the refunds.
#[derive(Clone, Default)]
struct RecordingStore {
    is_failing: bool,
    refunds: Arc<Mutex<Vec<(String, NonZeroU32)>>>,
}

impl RateLimitStore for RecordingStore {
    fn charge(&self, charges: &[Charge]) -> StoreFuture {
        let outcomes = charges.iter().map(|_| ChargeOutcome::Allowed { remaining: 2 }).collect();
        let result = if self.is_failing { Err(StoreError::NotConnected) } else { Ok(outcomes) };
        Box::pin(async move { result })
    }

    fn refund(&self, charges: Vec<Charge>, observer: StoreObserver) {
        let names = charges.iter().map(|charge| (charge.policy().to_owned(), charge.cost()));
        self.refunds.lock().unwrap().extend(names);
        observer.observe(Err(&StoreError::Overloaded));
    }
}

#[tokio::test]
async fn store_receives_the_charged_cost_as_refund() {
    let (store, failures) = (RecordingStore::default(), Arc::new(Mutex::new(Vec::new())));
    let layer = builder(FIVE)
        .policy("all", FIVE, |_: &http::request::Parts| Some(()))
        .cost(|_| 2)
        .store(store.clone(), StoreFallback::Closed)
        .on_store_result({
            let failures = Arc::clone(&failures);
            move |result| failures.lock().unwrap().extend(result.err().map(ToString::to_string))
        })
        .build()
        .unwrap();
    send(&layer, "192.0.2.1", "/miss").await;
    assert_eq!(*store.refunds.lock().unwrap(), []);
    let hit = send(&layer, "192.0.2.1", "/hit").await;
    assert_eq!(hit.limits, ["\"default\";r=4", "\"all\";r=4"]);
    let two = NonZeroU32::new(2).unwrap();
    assert_eq!(*store.refunds.lock().unwrap(), [("default".to_owned(), two), ("all".to_owned(), two)]);
    assert_eq!(*failures.lock().unwrap(), ["too many pending requests to the rate limit store"]);
}

#[tokio::test]
async fn store_fallback_refunds_the_charged_cost() {
    for (fallback, hits, misses) in [
        (StoreFallback::Local, [200; 6], [200, 200, 200, 200, 200, 429]),
        (StoreFallback::Open, [200; 6], [200; 6]),
        (StoreFallback::Closed, [503; 6], [503; 6]),
    ] {
        let store = RecordingStore { is_failing: true, ..RecordingStore::default() };
        let layer = builder(FIVE).store(store.clone(), fallback).build().unwrap();
        assert_eq!(statuses(&layer, "192.0.2.1", "/hit", 6).await, hits);
        assert_eq!(statuses(&layer, "192.0.2.1", "/miss", 6).await, misses);
        assert_eq!(*store.refunds.lock().unwrap(), []);
    }
}

proptest! {
    #[test]
    fn refunded_requests_leave_the_quota_state_unchanged(
        requests in proptest::collection::vec((0..3u8, any::<bool>(), 0..300u64), 1..200),
        rate in 1..50u32,
        burst in 1..10u32,
    ) {
        let clock = FakeRelativeClock::default();
        let quota = Quota::per_second(rate).burst(burst);
        let layer = || builder(quota).ipv6_tier(48, quota).clock(clock.clone()).build().unwrap();
        let (with_hits, without) = (layer(), layer());
        for (client, is_hit, advance) in requests {
            clock.advance(Duration::from_millis(advance));
            let client = format!("2001:db8:0:{client}::1");
            if is_hit {
                block_on(send(&with_hits, &client, "/hit"));
            } else {
                let [one, other] = [&with_hits, &without].map(|layer| block_on(send(layer, &client, "/miss")));
                prop_assert_eq!((one.decision, one.limits), (other.decision, other.limits));
            }
        }
    }
}
