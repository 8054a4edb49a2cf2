//! What a client and the inner service see.
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
use rproxy_rate_limit::{ClientKey, Quota, RateLimitDecision, RateLimitLayer, RequestKey};
use tower::{Layer, Service, ServiceExt, service_fn};

const QUOTA: Quota = Quota::per_second(10).burst(2);

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    decision: Option<RateLimitDecision>,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

async fn hello(_: Request<()>) -> Result<Response<String>, Infallible> {
    Ok(Response::new("hello".to_owned()))
}

fn from(client: &str) -> Request<()> {
    Request::get("/").extension(ClientIp(client.parse::<IpAddr>().unwrap())).body(()).unwrap()
}

async fn send<K: RequestKey>(layer: &RateLimitLayer<K>, request: Request<()>) -> Answer {
    let (head, body) = layer.layer(service_fn(hello)).oneshot(request).await.unwrap().into_parts();
    Answer {
        status: head.status,
        headers: head.headers,
        decision: head.extensions.get().copied(),
        body: String::from_utf8(body.collect().await.unwrap().to_bytes().into()).unwrap(),
    }
}

#[tokio::test]
async fn a_client_over_its_quota_gets_429_and_retry_after() {
    let clock = FakeRelativeClock::default();
    let layer = RateLimitLayer::new(QUOTA).clock(clock.clone());
    for remaining in [1, 0] {
        let answer = send(&layer, from("192.0.2.1")).await;
        assert_eq!((answer.status, &*answer.body), (StatusCode::OK, "hello"));
        assert_eq!(answer.header("ratelimit-policy"), Some("\"default\";q=2;w=1"));
        assert_eq!(answer.header("ratelimit"), Some(&*format!("\"default\";r={remaining};t=1")));
        assert_eq!(answer.header("retry-after"), None);
        assert_eq!(answer.decision, Some(RateLimitDecision::Allowed { remaining }));
    }

    let answer = send(&layer, from("192.0.2.1")).await;
    assert_eq!((answer.status, &*answer.body), (StatusCode::TOO_MANY_REQUESTS, "Too Many Requests\n"));
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(answer.header("ratelimit-policy"), Some("\"default\";q=2;w=1"));
    assert_eq!(answer.header("ratelimit"), Some("\"default\";r=0;t=1"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(answer.decision, Some(RateLimitDecision::Denied { retry_after: Duration::from_millis(100) }));

    assert_eq!(send(&layer, from("192.0.2.2")).await.status, StatusCode::OK);
    clock.advance(Duration::from_millis(100));
    assert_eq!(send(&layer, from("192.0.2.1")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn who_waits_for_retry_after_is_let_in() {
    for quota in [Quota::per_second(7), Quota::per_minute(7), Quota::per_hour(7)] {
        let clock = FakeRelativeClock::default();
        let layer = RateLimitLayer::new(quota).clock(clock.clone());
        for _ in 0..3 {
            let refused = loop {
                let answer = send(&layer, from("192.0.2.1")).await;
                if answer.status == StatusCode::TOO_MANY_REQUESTS {
                    break answer;
                }
            };
            clock.advance(Duration::from_secs(refused.header("retry-after").unwrap().parse().unwrap()));
            assert_eq!(send(&layer, from("192.0.2.1")).await.status, StatusCode::OK, "{quota:?}");
        }
    }
}

#[tokio::test]
async fn a_refused_request_does_not_reach_the_inner_service() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let layer = RateLimitLayer::new(QUOTA).clock(FakeRelativeClock::default());
    let mut service = layer.layer(service_fn(move |request: Request<()>| {
        counted.fetch_add(1, Ordering::Relaxed);
        hello(request)
    }));
    for _ in 0..5 {
        service.ready().await.unwrap().call(from("192.0.2.1")).await.unwrap();
    }
    assert_eq!(calls.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn ipv6_clients_are_counted_by_prefix() {
    let layer = RateLimitLayer::new(QUOTA).clock(FakeRelativeClock::default());
    let wide = layer.clone().clock(FakeRelativeClock::default()).key(ClientKey::default().ipv6_prefix(48));
    for (layer, another) in [(layer, "2001:db8:0:1::1"), (wide, "2001:db8:1::1")] {
        for client in ["2001:db8::1", "2001:db8::2"] {
            assert_eq!(send(&layer, from(client)).await.status, StatusCode::OK);
        }
        assert_eq!(send(&layer, from("2001:db8::3")).await.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(send(&layer, from(another)).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_closure_says_who_is_counted_and_who_is_not() {
    let layer = RateLimitLayer::new(QUOTA)
        .clock(FakeRelativeClock::default())
        .key(|head: &Parts| head.headers.get("x-api-key").cloned());
    let with = |key: &str| Request::get("/").header("x-api-key", key).body(()).unwrap();
    for _ in 0..2 {
        assert_eq!(send(&layer, with("a")).await.status, StatusCode::OK);
    }
    assert_eq!(send(&layer, with("a")).await.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(send(&layer, with("b")).await.status, StatusCode::OK);
    for _ in 0..5 {
        let answer = send(&layer, Request::new(())).await;
        assert_eq!((answer.status, answer.decision), (StatusCode::OK, None));
        assert_eq!((answer.header("ratelimit"), answer.header("ratelimit-policy")), (None, None));
    }
}

#[tokio::test]
async fn a_shadow_lets_everything_pass_and_tells_only_the_program() {
    let layer = RateLimitLayer::new(QUOTA).clock(FakeRelativeClock::default()).shadow(true);
    let shadowed = RateLimitDecision::Shadowed { retry_after: Duration::from_millis(100) };
    let allowed = |remaining| RateLimitDecision::Allowed { remaining };
    for decision in [allowed(1), allowed(0), shadowed, shadowed] {
        let answer = send(&layer, from("192.0.2.1")).await;
        assert_eq!((answer.status, &*answer.body, answer.decision), (StatusCode::OK, "hello", Some(decision)));
        for name in ["ratelimit", "ratelimit-policy", "retry-after"] {
            assert_eq!(answer.header(name), None);
        }
    }
    let unkeyed = send(&layer, Request::new(())).await;
    assert_eq!(unkeyed.status, StatusCode::OK);
    assert!(matches!(unkeyed.decision, Some(RateLimitDecision::Unkeyed(_))));
}

#[tokio::test]
async fn without_a_client_address_it_is_an_error_that_names_the_missing_piece() {
    let answer = send(&RateLimitLayer::new(QUOTA), Request::new(())).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    assert!(!answer.body.contains("rproxy"), "{}", answer.body);
    let Some(RateLimitDecision::Unkeyed(missing)) = answer.decision else { panic!("{:?}", answer.decision) };
    assert!(missing.to_string().contains("ClientIpLayer"), "{missing}");
}

#[tokio::test]
async fn clones_count_together() {
    let layer = RateLimitLayer::new(QUOTA).clock(FakeRelativeClock::default());
    let mut last = StatusCode::OK;
    for layer in [layer.clone(), layer.clone(), layer] {
        last = send(&layer, from("192.0.2.1")).await.status;
    }
    assert_eq!(last, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn several_limits_are_told_beside_each_other_and_the_tightest_wins() {
    let clock = FakeRelativeClock::default();
    let service = RateLimitLayer::new(Quota::per_hour(3)).clock(clock.clone()).name("hourly").unwrap().layer(
        RateLimitLayer::new(QUOTA).clock(clock.clone()).name("burst").unwrap().layer(service_fn(
            async |_: Request<()>| {
                let own = Response::builder().header("ratelimit", "\"app\";r=7");
                Ok::<_, Infallible>(own.body(String::new()).unwrap())
            },
        )),
    );
    let response = service.clone().oneshot(from("192.0.2.1")).await.unwrap();
    let lines: Vec<_> = response.headers().get_all("ratelimit").iter().collect();
    assert_eq!(lines, ["\"app\";r=7", "\"burst\";r=1;t=1", "\"hourly\";r=2;t=2400"]);

    let mut answers = Vec::new();
    for _ in 0..3 {
        let response = service.clone().oneshot(from("192.0.2.1")).await.unwrap();
        answers.push((response.status().as_u16(), response.headers().get("retry-after").cloned()));
    }
    // The inner one refuses first; what it refuses has been counted by the outer one.
    assert_eq!(answers, [(200, None), (429, Some(1.into())), (429, Some(1200.into()))]);
}

#[tokio::test]
async fn an_inner_error_passes_through() {
    let service = RateLimitLayer::new(QUOTA)
        .layer(service_fn(async |_: Request<()>| Err::<Response<String>, _>("the inner one failed")));
    assert_eq!(service.oneshot(from("192.0.2.1")).await.err(), Some("the inner one failed"));
}

#[tokio::test]
async fn it_is_ready_when_the_inner_service_is() {
    let (mock, mut handle) = tower_test::mock::pair::<Request<()>, Response<String>>();
    let mut service = tower_test::mock::Spawn::new(RateLimitLayer::new(QUOTA).layer(mock));
    handle.allow(0);
    assert!(matches!(service.poll_ready(), Poll::Pending));
    handle.allow(1);
    assert!(matches!(service.poll_ready(), Poll::Ready(Ok(()))));
}

#[test]
fn a_layer_says_what_it_is_without_its_seed() {
    let layer = RateLimitLayer::new(QUOTA).max_keys(1000).name("api").unwrap();
    let text = format!("{layer:?}");
    assert!(text.contains("api") && text.contains("1000") && !text.contains("RandomState"), "{text}");
}

#[tokio::test]
async fn of_several_policies_the_tightest_wins_and_none_is_charged_for_what_another_denies() {
    let clock = FakeRelativeClock::default();
    let layer = RateLimitLayer::new(Quota::per_second(1).burst(2))
        .policy("48", Quota::per_minute(6).burst(3), ClientKey::default().ipv6_prefix(48))
        .unwrap()
        .clock(clock.clone());
    let limits = |answer: &Answer| -> Vec<String> {
        answer.headers.get_all("ratelimit").iter().map(|line| line.to_str().unwrap().to_owned()).collect()
    };

    let first = send(&layer, from("2001:db8::1")).await;
    assert_eq!(limits(&first), ["\"default\";r=1;t=1", "\"48\";r=2;t=20"]);
    assert_eq!(first.decision, Some(RateLimitDecision::Allowed { remaining: 1 }));
    send(&layer, from("2001:db8::1")).await;
    // The /64 is at its end, and the /48 has one left: it is not charged.
    for _ in 0..5 {
        let denied = send(&layer, from("2001:db8::1")).await;
        assert_eq!((denied.status, denied.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, Some("1")));
        assert_eq!(limits(&denied), ["\"default\";r=0;t=1", "\"48\";r=1;t=10"]);
    }
    // Its last one goes to another /64.
    assert_eq!(send(&layer, from("2001:db8:0:1::1")).await.status, StatusCode::OK);
    // Now both deny the first, and the longer wait is told; the other /64 is not charged for what the /48 denies.
    let denied = send(&layer, from("2001:db8::1")).await;
    assert_eq!(denied.header("retry-after"), Some("10"));
    assert_eq!(denied.decision, Some(RateLimitDecision::Denied { retry_after: Duration::from_secs(10) }));
    for _ in 0..5 {
        let denied = send(&layer, from("2001:db8:0:1::1")).await;
        assert_eq!(limits(&denied), ["\"default\";r=1;t=1", "\"48\";r=0;t=10"]);
    }
    // Another /48 has nothing to do with it.
    assert_eq!(send(&layer, from("2001:db8:1::1")).await.status, StatusCode::OK);
    clock.advance(Duration::from_secs(10));
    assert_eq!(send(&layer, from("2001:db8::1")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn requests_cost_what_they_are_said_to() {
    let layer = RateLimitLayer::new(Quota::per_second(10).burst(10))
        .clock(FakeRelativeClock::default())
        .cost(|head: &Parts| head.headers.get("x-cost").map_or(1, |cost| cost.to_str().unwrap().parse().unwrap()));
    let costing = |cost: &'static str| {
        let mut request = from("192.0.2.1");
        request.headers_mut().insert("x-cost", http::HeaderValue::from_static(cost));
        request
    };
    let remaining = |remaining| Some(RateLimitDecision::Allowed { remaining });
    for (cost, decision) in [("4", remaining(6)), ("0", None), ("5", remaining(1)), ("1", remaining(0))] {
        assert_eq!(send(&layer, costing(cost)).await.decision, decision, "{cost}");
    }
    assert_eq!(send(&layer, costing("1000")).await.decision, denied_for(1000));
    assert_eq!(send(&layer, costing("3")).await.decision, denied_for(300));
}

fn denied_for(millis: u64) -> Option<RateLimitDecision> {
    Some(RateLimitDecision::Denied { retry_after: Duration::from_millis(millis) })
}

#[tokio::test]
async fn who_is_exempt_is_not_counted() {
    let layer = RateLimitLayer::new(QUOTA).clock(FakeRelativeClock::default()).exempt(|head: &Parts| {
        head.uri.path() == "/healthz" || head.extensions.get() == Some(&ClientIp("192.0.2.9".parse().unwrap()))
    });
    for _ in 0..5 {
        let answer = send(&layer, from("192.0.2.9")).await;
        assert_eq!((answer.status, answer.decision, answer.header("ratelimit")), (StatusCode::OK, None, None));
        let healthz = Request::get("/healthz").body(()).unwrap();
        assert_eq!(send(&layer, healthz).await.status, StatusCode::OK, "nor is anybody looked for");
    }
    for status in [StatusCode::OK, StatusCode::OK, StatusCode::TOO_MANY_REQUESTS] {
        assert_eq!(send(&layer, from("192.0.2.1")).await.status, status);
    }
}

#[tokio::test]
async fn older_fields_are_sent_on_request() {
    let layer = RateLimitLayer::new(Quota::per_minute(6).burst(2)).clock(FakeRelativeClock::default());
    assert_eq!(send(&layer, from("192.0.2.1")).await.header("x-ratelimit-limit"), None);
    let layer = layer.legacy_fields(true);
    for (remaining, reset) in [("1", "10"), ("0", "20"), ("0", "10")] {
        let answer = send(&layer, from("192.0.2.1")).await;
        let fields = ["limit", "remaining", "reset"].map(|field| answer.header(&format!("x-ratelimit-{field}")));
        assert_eq!(fields, [Some("2"), Some(remaining), Some(reset)]);
        assert!(answer.header("ratelimit").is_some());
    }
}

#[tokio::test]
async fn tiers_of_networks_hold_whoever_has_many_addresses() {
    let layer = RateLimitLayer::new(Quota::per_hour(1).burst(2))
        .ipv6_tier(56, Quota::per_hour(1).burst(3))
        .ipv6_tier(48, Quota::per_hour(1).burst(5));
    let mut passed = Vec::new();
    // Three /56 of four /64 each, two requests from each of these.
    for network in 0..3 {
        for subnet in 0..4 {
            for _ in 0..2 {
                let client = format!("2001:db8:0:{:x}::1", network * 256 + subnet);
                if send(&layer, from(&client)).await.status == StatusCode::OK {
                    passed.push((network, subnet));
                }
            }
        }
    }
    assert_eq!(passed, [(0, 0), (0, 0), (0, 1), (1, 0), (1, 0)]);
    assert_eq!(send(&layer, from("2001:db8:1::1")).await.status, StatusCode::OK, "another /48");
    // IPv4 knows no tiers: its clients are told of one policy, and held to it alone.
    for client in 0..20 {
        let answer = send(&layer, from(&format!("192.0.2.{client}"))).await;
        let lines: Vec<_> = answer.headers.get_all("ratelimit").iter().collect();
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(lines, ["\"default\";r=1;t=3600"]);
    }
    let answer = send(&layer, from("2001:db8:2::1")).await;
    let lines: Vec<_> = answer.headers.get_all("ratelimit-policy").iter().collect();
    assert_eq!(lines, ["\"default\";q=2;w=7200", "\"ipv6/56\";q=3;w=10800", "\"ipv6/48\";q=5;w=18000"]);
}

#[tokio::test]
async fn a_client_has_so_many_requests_in_progress_until_their_bodies_have_ended() {
    let layer = RateLimitLayer::new(Quota::per_second(1000)).max_in_flight(2);
    let service = layer.layer(service_fn(async |_: Request<()>| {
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"hello"))))
    }));
    let ask = async |client: &str| service.clone().oneshot(from(client)).await.unwrap();
    let (first, mut second) = (ask("192.0.2.1").await, ask("192.0.2.1").await);
    let third = ask("192.0.2.1").await;
    assert_eq!(third.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(third.headers()["retry-after"], "1");
    assert_eq!(third.extensions().get(), Some(&RateLimitDecision::TooManyInFlight));
    assert_eq!(third.headers().get("ratelimit"), None, "it is not counted");
    assert_eq!(ask("192.0.2.2").await.status(), StatusCode::OK, "others have their own");
    // Dropped unread.
    drop(first);
    let fourth = ask("192.0.2.1").await;
    assert_eq!(fourth.status(), StatusCode::OK);
    assert_eq!(ask("192.0.2.1").await.status(), StatusCode::TOO_MANY_REQUESTS);
    // Read to its end, though not dropped.
    while let Some(frame) = second.frame().await {
        frame.unwrap();
    }
    assert_eq!(ask("192.0.2.1").await.status(), StatusCode::OK);
    drop((second, fourth));
    let shadow = layer.clone().shadow(true).max_in_flight(0);
    let answer = send(&shadow, from("192.0.2.1")).await;
    let shadowed = Some(RateLimitDecision::Shadowed { retry_after: Duration::from_secs(1) });
    assert_eq!((answer.status, answer.decision), (StatusCode::OK, shadowed));
}

#[tokio::test]
async fn a_request_that_is_refused_or_given_up_is_not_in_progress() {
    let layer = RateLimitLayer::new(Quota::per_hour(1).burst(3)).max_in_flight(1);
    // Its client goes away before there is an answer.
    let never = service_fn(|_: Request<()>| std::future::pending::<Result<Response<String>, Infallible>>());
    let asked = tokio::time::timeout(Duration::from_millis(1), layer.layer(never).oneshot(from("192.0.2.1"))).await;
    assert!(asked.is_err());
    for status in [200, 200, 429, 429] {
        // The last ones are beyond the quota, not too many at once.
        let answer = send(&layer, from("192.0.2.1")).await;
        assert_eq!(
            (answer.status.as_u16(), answer.decision == Some(RateLimitDecision::TooManyInFlight)),
            (status, false)
        );
    }
}
