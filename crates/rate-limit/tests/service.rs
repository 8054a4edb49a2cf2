//! Tests of the layer as observed by the client and by the inner service.
#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use rproxy_client_ip::ClientIp;
use rproxy_rate_limit::clock::FakeRelativeClock;
use rproxy_rate_limit::{
    ClientKey, Quota, RateLimitDecision, RateLimitLayer, RateLimitLayerBuilder, RateLimitLayerError, RequestKey,
};
use tower::{Layer, Service, ServiceExt, service_fn};

const QUOTA: Quota = Quota::per_second(10).burst(2);

struct TestResponse {
    status: StatusCode,
    headers: HeaderMap,
    decision: Option<RateLimitDecision>,
    body: String,
}

impl TestResponse {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// Returns a builder with a stopped clock.
fn builder(quota: Quota) -> RateLimitLayerBuilder {
    RateLimitLayer::builder(quota).clock(FakeRelativeClock::default())
}

fn layer(quota: Quota) -> RateLimitLayer {
    builder(quota).build().unwrap()
}

async fn hello(_: Request<()>) -> Result<Response<String>, Infallible> {
    Ok(Response::new("hello".to_owned()))
}

fn from(client: &str) -> Request<()> {
    Request::get("/").extension(ClientIp(client.parse::<IpAddr>().unwrap())).body(()).unwrap()
}

async fn send<K: RequestKey>(layer: &RateLimitLayer<K>, request: Request<()>) -> TestResponse {
    let (head, body) = layer.layer(service_fn(hello)).oneshot(request).await.unwrap().into_parts();
    TestResponse {
        status: head.status,
        headers: head.headers,
        decision: head.extensions.get().copied(),
        body: String::from_utf8(body.collect().await.unwrap().to_bytes().into()).unwrap(),
    }
}

#[tokio::test]
async fn rejects_client_over_quota_with_429_and_retry_after() {
    let clock = FakeRelativeClock::default();
    let layer = RateLimitLayer::builder(QUOTA).clock(clock.clone()).build().unwrap();
    for remaining in [1, 0] {
        let response = send(&layer, from("192.0.2.1")).await;
        assert_eq!((response.status, &*response.body), (StatusCode::OK, "hello"));
        assert_eq!(response.header("ratelimit-policy"), Some("\"default\";q=2;w=1"));
        assert_eq!(response.header("ratelimit"), Some(&*format!("\"default\";r={remaining};t=1")));
        assert_eq!(response.header("retry-after"), None);
        assert_eq!(response.decision, Some(RateLimitDecision::Allowed { remaining }));
    }

    let response = send(&layer, from("192.0.2.1")).await;
    assert_eq!((response.status, &*response.body), (StatusCode::TOO_MANY_REQUESTS, "Too Many Requests\n"));
    assert_eq!(response.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(response.header("ratelimit-policy"), Some("\"default\";q=2;w=1"));
    assert_eq!(response.header("ratelimit"), Some("\"default\";r=0;t=1"));
    assert_eq!(response.header("retry-after"), Some("1"));
    assert_eq!(response.decision, Some(RateLimitDecision::Rejected { retry_after: Duration::from_millis(100) }));

    assert_eq!(send(&layer, from("192.0.2.2")).await.status, StatusCode::OK);
    clock.advance(Duration::from_millis(100));
    assert_eq!(send(&layer, from("192.0.2.1")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn allows_client_that_has_waited_for_retry_after() {
    for quota in [Quota::per_second(7), Quota::per_minute(7), Quota::per_hour(7)] {
        let clock = FakeRelativeClock::default();
        let layer = RateLimitLayer::builder(quota).clock(clock.clone()).build().unwrap();
        for _ in 0..3 {
            let rejected = loop {
                let response = send(&layer, from("192.0.2.1")).await;
                if response.status == StatusCode::TOO_MANY_REQUESTS {
                    break response;
                }
            };
            clock.advance(Duration::from_secs(rejected.header("retry-after").unwrap().parse().unwrap()));
            assert_eq!(send(&layer, from("192.0.2.1")).await.status, StatusCode::OK, "{quota:?}");
        }
    }
}

#[tokio::test]
async fn rejected_request_does_not_reach_the_inner_service() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    let mut service = layer(QUOTA).layer(service_fn(move |request: Request<()>| {
        counter.fetch_add(1, Ordering::Relaxed);
        hello(request)
    }));
    for _ in 0..5 {
        service.ready().await.unwrap().call(from("192.0.2.1")).await.unwrap();
    }
    assert_eq!(calls.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn counts_ipv6_clients_by_network_prefix() {
    let wide = builder(QUOTA).key(ClientKey::default().ipv6_prefix(48)).build().unwrap();
    for (layer, another) in [(layer(QUOTA), "2001:db8:0:1::1"), (wide, "2001:db8:1::1")] {
        for client in ["2001:db8::1", "2001:db8::2"] {
            assert_eq!(send(&layer, from(client)).await.status, StatusCode::OK);
        }
        assert_eq!(send(&layer, from("2001:db8::3")).await.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(send(&layer, from(another)).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn closure_key_limits_only_requests_with_a_key() {
    let layer = builder(QUOTA).key(|head: &Parts| head.headers.get("x-api-key").cloned()).build().unwrap();
    let with_key = |key: &str| Request::get("/").header("x-api-key", key).body(()).unwrap();
    for _ in 0..2 {
        assert_eq!(send(&layer, with_key("a")).await.status, StatusCode::OK);
    }
    assert_eq!(send(&layer, with_key("a")).await.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(send(&layer, with_key("b")).await.status, StatusCode::OK);
    for _ in 0..5 {
        let response = send(&layer, Request::new(())).await;
        assert_eq!((response.status, response.decision), (StatusCode::OK, None));
        assert_eq!((response.header("ratelimit"), response.header("ratelimit-policy")), (None, None));
    }
}

#[tokio::test]
async fn shadow_mode_forwards_all_requests_and_records_the_decision() {
    let layer = builder(QUOTA).shadow(true).build().unwrap();
    let would_reject = RateLimitDecision::WouldReject { retry_after: Duration::from_millis(100) };
    let allowed = |remaining| RateLimitDecision::Allowed { remaining };
    for decision in [allowed(1), allowed(0), would_reject, would_reject] {
        let response = send(&layer, from("192.0.2.1")).await;
        assert_eq!((response.status, &*response.body, response.decision), (StatusCode::OK, "hello", Some(decision)));
        for name in ["ratelimit", "ratelimit-policy", "retry-after"] {
            assert_eq!(response.header(name), None);
        }
    }
    let response = send(&layer, Request::new(())).await;
    assert_eq!(response.status, StatusCode::OK);
    assert!(matches!(response.decision, Some(RateLimitDecision::MissingKey(_))));
}

#[tokio::test]
async fn missing_client_ip_causes_500_and_a_decision_that_names_the_layer() {
    let response = send(&RateLimitLayer::new(QUOTA), Request::new(())).await;
    assert_eq!(response.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(response.header("content-type"), Some("text/plain; charset=utf-8"));
    assert!(!response.body.contains("rproxy"), "{}", response.body);
    let Some(RateLimitDecision::MissingKey(error)) = response.decision else { panic!("{:?}", response.decision) };
    assert!(error.to_string().contains("ClientIpLayer"), "{error}");
}

#[tokio::test]
async fn clones_of_a_layer_share_their_request_counts() {
    let layer = layer(QUOTA);
    let mut last = StatusCode::OK;
    for layer in [layer.clone(), layer.clone(), layer] {
        last = send(&layer, from("192.0.2.1")).await.status;
    }
    assert_eq!(last, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn nested_rate_limit_layers_append_their_ratelimit_fields() {
    let clock = FakeRelativeClock::default();
    let named = |quota, name| RateLimitLayer::builder(quota).clock(clock.clone()).name(name).build().unwrap();
    let app = service_fn(async |_: Request<()>| {
        let response = Response::builder().header("ratelimit", "\"app\";r=7");
        Ok::<_, Infallible>(response.body(String::new()).unwrap())
    });
    let service = named(Quota::per_hour(3), "hourly").layer(named(QUOTA, "burst").layer(app));
    let response = service.clone().oneshot(from("192.0.2.1")).await.unwrap();
    let lines: Vec<_> = response.headers().get_all("ratelimit").iter().collect();
    assert_eq!(lines, ["\"app\";r=7", "\"burst\";r=1;t=1", "\"hourly\";r=2;t=2400"]);

    let mut statuses = Vec::new();
    for _ in 0..3 {
        let response = service.clone().oneshot(from("192.0.2.1")).await.unwrap();
        statuses.push((response.status().as_u16(), response.headers().get("retry-after").cloned()));
    }
    // The inner layer rejects first. The outer layer has counted the rejected request.
    assert_eq!(statuses, [(200, None), (429, Some(1.into())), (429, Some(1200.into()))]);
}

#[tokio::test]
async fn propagates_inner_service_errors() {
    let service = RateLimitLayer::new(QUOTA)
        .layer(service_fn(async |_: Request<()>| Err::<Response<String>, _>("inner service failed")));
    assert_eq!(service.oneshot(from("192.0.2.1")).await.err(), Some("inner service failed"));
}

#[tokio::test]
async fn rate_limit_service_is_ready_only_if_the_inner_service_is_ready() {
    let (mock, mut handle) = tower_test::mock::pair::<Request<()>, Response<String>>();
    let mut service = tower_test::mock::Spawn::new(RateLimitLayer::new(QUOTA).layer(mock));
    handle.allow(0);
    assert!(matches!(service.poll_ready(), Poll::Pending));
    handle.allow(1);
    assert!(matches!(service.poll_ready(), Poll::Ready(Ok(()))));
}

#[test]
fn layer_debug_output_omits_the_hash_seed() {
    let layer = RateLimitLayer::builder(QUOTA).max_keys(1000).name("api").build().unwrap();
    let text = format!("{layer:?}");
    assert!(text.contains("api") && text.contains("1000") && !text.contains("RandomState"), "{text}");
}

#[tokio::test]
async fn charges_no_policy_if_one_policy_rejects() {
    let clock = FakeRelativeClock::default();
    let layer = RateLimitLayer::builder(Quota::per_second(1).burst(2))
        .policy("48", Quota::per_minute(6).burst(3), ClientKey::default().ipv6_prefix(48))
        .clock(clock.clone())
        .build()
        .unwrap();
    let limits = |response: &TestResponse| -> Vec<String> {
        response.headers.get_all("ratelimit").iter().map(|line| line.to_str().unwrap().to_owned()).collect()
    };

    let first = send(&layer, from("2001:db8::1")).await;
    assert_eq!(limits(&first), ["\"default\";r=1;t=1", "\"48\";r=2;t=20"]);
    assert_eq!(first.decision, Some(RateLimitDecision::Allowed { remaining: 1 }));
    send(&layer, from("2001:db8::1")).await;
    // The /64 has no requests left. The /48 has one, and keeps it.
    for _ in 0..5 {
        let rejected = send(&layer, from("2001:db8::1")).await;
        assert_eq!((rejected.status, rejected.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, Some("1")));
        assert_eq!(limits(&rejected), ["\"default\";r=0;t=1", "\"48\";r=1;t=10"]);
    }
    // Another /64 uses the last request of the /48.
    assert_eq!(send(&layer, from("2001:db8:0:1::1")).await.status, StatusCode::OK);
    // Now both policies reject the first /64, and the longer wait is sent. The other /64 is not charged for requests that
    // the /48 rejects.
    let rejected = send(&layer, from("2001:db8::1")).await;
    assert_eq!(rejected.header("retry-after"), Some("10"));
    assert_eq!(rejected.decision, Some(RateLimitDecision::Rejected { retry_after: Duration::from_secs(10) }));
    for _ in 0..5 {
        let rejected = send(&layer, from("2001:db8:0:1::1")).await;
        assert_eq!(limits(&rejected), ["\"default\";r=1;t=1", "\"48\";r=0;t=10"]);
    }
    // Another /48 is not affected.
    assert_eq!(send(&layer, from("2001:db8:1::1")).await.status, StatusCode::OK);
    clock.advance(Duration::from_secs(10));
    assert_eq!(send(&layer, from("2001:db8::1")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn charges_the_configured_cost_of_a_request() {
    let cost = |head: &Parts| head.headers.get("x-cost").map_or(1, |cost| cost.to_str().unwrap().parse().unwrap());
    let layer = builder(Quota::per_second(10).burst(10)).cost(cost).build().unwrap();
    let with_cost = |cost: &'static str| {
        let mut request = from("192.0.2.1");
        request.headers_mut().insert("x-cost", http::HeaderValue::from_static(cost));
        request
    };
    let remaining = |remaining| Some(RateLimitDecision::Allowed { remaining });
    for (cost, decision) in [("4", remaining(6)), ("0", None), ("5", remaining(1)), ("1", remaining(0))] {
        assert_eq!(send(&layer, with_cost(cost)).await.decision, decision, "{cost}");
    }
    assert_eq!(send(&layer, with_cost("1000")).await.decision, rejected_for(1000));
    assert_eq!(send(&layer, with_cost("3")).await.decision, rejected_for(300));
}

fn rejected_for(millis: u64) -> Option<RateLimitDecision> {
    Some(RateLimitDecision::Rejected { retry_after: Duration::from_millis(millis) })
}

#[tokio::test]
async fn exempt_requests_are_not_counted() {
    let exempt = |head: &Parts| {
        head.uri.path() == "/healthz" || head.extensions.get() == Some(&ClientIp("192.0.2.9".parse().unwrap()))
    };
    let layer = builder(QUOTA).exempt(exempt).build().unwrap();
    for _ in 0..5 {
        let response = send(&layer, from("192.0.2.9")).await;
        assert_eq!((response.status, response.decision, response.header("ratelimit")), (StatusCode::OK, None, None));
        let healthz = Request::get("/healthz").body(()).unwrap();
        assert_eq!(send(&layer, healthz).await.status, StatusCode::OK, "an exempt request needs no key");
    }
    for status in [StatusCode::OK, StatusCode::OK, StatusCode::TOO_MANY_REQUESTS] {
        assert_eq!(send(&layer, from("192.0.2.1")).await.status, status);
    }
}

#[tokio::test]
async fn sends_x_ratelimit_fields_if_enabled() {
    let builder = builder(Quota::per_minute(6).burst(2));
    let layer = builder.clone().build().unwrap();
    assert_eq!(send(&layer, from("192.0.2.1")).await.header("x-ratelimit-limit"), None);
    let layer = builder.legacy_fields(true).build().unwrap();
    for (remaining, reset) in [("1", "10"), ("0", "20"), ("0", "10")] {
        let response = send(&layer, from("192.0.2.1")).await;
        let fields = ["limit", "remaining", "reset"].map(|field| response.header(&format!("x-ratelimit-{field}")));
        assert_eq!(fields, [Some("2"), Some(remaining), Some(reset)]);
        assert!(response.header("ratelimit").is_some());
    }
}

#[tokio::test]
async fn ipv6_tiers_limit_a_client_with_many_addresses() {
    let layer = RateLimitLayer::builder(Quota::per_hour(1).burst(2))
        .ipv6_tier(56, Quota::per_hour(1).burst(3))
        .ipv6_tier(48, Quota::per_hour(1).burst(5))
        .build()
        .unwrap();
    let mut allowed = Vec::new();
    // Two requests from each of four /64 in each of three /56.
    for network in 0..3 {
        for subnet in 0..4 {
            for _ in 0..2 {
                let client = format!("2001:db8:0:{:x}::1", network * 256 + subnet);
                if send(&layer, from(&client)).await.status == StatusCode::OK {
                    allowed.push((network, subnet));
                }
            }
        }
    }
    assert_eq!(allowed, [(0, 0), (0, 0), (0, 1), (1, 0), (1, 0)]);
    assert_eq!(send(&layer, from("2001:db8:1::1")).await.status, StatusCode::OK, "another /48");
    // Tiers do not apply to IPv4 clients: they get the fields of one policy only.
    for client in 0..20 {
        let response = send(&layer, from(&format!("192.0.2.{client}"))).await;
        let lines: Vec<_> = response.headers.get_all("ratelimit").iter().collect();
        assert_eq!(response.status, StatusCode::OK);
        assert_eq!(lines, ["\"default\";r=1;t=3600"]);
    }
    let response = send(&layer, from("2001:db8:2::1")).await;
    let lines: Vec<_> = response.headers.get_all("ratelimit-policy").iter().collect();
    assert_eq!(lines, ["\"default\";q=2;w=7200", "\"ipv6/56\";q=3;w=10800", "\"ipv6/48\";q=5;w=18000"]);
}

#[tokio::test]
async fn limits_requests_in_flight_until_their_bodies_end() {
    let builder = RateLimitLayer::builder(Quota::per_second(1000));
    let layer = builder.clone().max_in_flight(2).build().unwrap();
    let service = layer.layer(service_fn(async |_: Request<()>| {
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"hello"))))
    }));
    let get = async |client: &str| service.clone().oneshot(from(client)).await.unwrap();
    let (first, mut second) = (get("192.0.2.1").await, get("192.0.2.1").await);
    let third = get("192.0.2.1").await;
    assert_eq!(third.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(third.headers()["retry-after"], "1");
    assert_eq!(third.extensions().get(), Some(&RateLimitDecision::TooManyInFlight));
    assert_eq!(third.headers().get("ratelimit"), None, "the quota is not charged");
    assert_eq!(get("192.0.2.2").await.status(), StatusCode::OK, "another client is not affected");
    // A dropped body ends its request.
    drop(first);
    let fourth = get("192.0.2.1").await;
    assert_eq!(fourth.status(), StatusCode::OK);
    assert_eq!(get("192.0.2.1").await.status(), StatusCode::TOO_MANY_REQUESTS);
    // So does a body that was read to its end.
    while let Some(frame) = second.frame().await {
        frame.unwrap();
    }
    assert_eq!(get("192.0.2.1").await.status(), StatusCode::OK);
    drop((second, fourth));
    let shadow = builder.shadow(true).max_in_flight(0).build().unwrap();
    let response = send(&shadow, from("192.0.2.1")).await;
    let would_reject = Some(RateLimitDecision::WouldReject { retry_after: Duration::from_secs(1) });
    assert_eq!((response.status, response.decision), (StatusCode::OK, would_reject));
}

#[tokio::test]
async fn rejected_and_cancelled_requests_do_not_count_as_in_flight() {
    let layer = RateLimitLayer::builder(Quota::per_hour(1).burst(3)).max_in_flight(1).build().unwrap();
    // The client disconnects before the response.
    let never = service_fn(|_: Request<()>| std::future::pending::<Result<Response<String>, Infallible>>());
    let result = tokio::time::timeout(Duration::from_millis(1), layer.layer(never).oneshot(from("192.0.2.1"))).await;
    assert!(result.is_err());
    for status in [200, 200, 429, 429] {
        // The last two are rejected for the quota, not for requests in flight.
        let response = send(&layer, from("192.0.2.1")).await;
        assert_eq!(
            (response.status.as_u16(), response.decision == Some(RateLimitDecision::TooManyInFlight)),
            (status, false)
        );
    }
}

#[test]
fn build_rejects_invalid_and_duplicate_policy_names() {
    let tier = Quota::per_second(1);
    let invalid = |name: &str| RateLimitLayerError::InvalidName { name: name.to_owned() };
    let duplicate = |name: &str| RateLimitLayerError::DuplicateName { name: name.to_owned() };
    for (builder, error) in [
        (builder(QUOTA).name("a\"b"), invalid("a\"b")),
        (builder(QUOTA).policy("", tier, |_: &Parts| Some(())), invalid("")),
        (builder(QUOTA).name("").name("good").name("b\\ad"), invalid("")),
        (builder(QUOTA).policy("default", tier, |_: &Parts| Some(())), duplicate("default")),
        (builder(QUOTA).ipv6_tier(48, tier).ipv6_tier(48, tier), duplicate("ipv6/48")),
        (builder(QUOTA).ipv6_tier(48, tier).name("ipv6/48"), duplicate("ipv6/48")),
        (builder(QUOTA).ipv6_tier(129, tier), RateLimitLayerError::PrefixTooLong { prefix: 129 }),
    ] {
        assert_eq!(builder.build().err(), Some(error));
    }
}
