//! Tests of memory use and fairness with requests from millions of addresses.
#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::{IpAddr, Ipv6Addr};
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use rproxy_client_ip::ClientIp;
use rproxy_rate_limit::clock::FakeRelativeClock;
use rproxy_rate_limit::{Quota, RateLimitLayer};
use tower::{Layer, Service, service_fn};

fn inner(_: Request<()>) -> Ready<Result<Response<&'static str>, Infallible>> {
    ready(Ok(Response::new("hello")))
}

/// Returns the resident memory of this process in KiB.
fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Sends a million requests per second from one /32 network, each from a different /64 network.
///
/// Meanwhile an honest client of another network sends 20 requests per second. Returns the number of its requests that
/// were rejected, and the number of the flood's requests that were allowed.
fn flood(layer: RateLimitLayer, clock: &FakeRelativeClock, sources: u64) -> (u64, u64) {
    let mut service = layer.layer(service_fn(inner));
    let mut is_allowed = |address: u128| {
        let request = Request::builder().extension(ClientIp(IpAddr::V6(Ipv6Addr::from_bits(address))));
        match tokio_test::task::spawn(service.call(request.body(()).unwrap())).poll() {
            Poll::Ready(response) => response.unwrap().status() == StatusCode::OK,
            Poll::Pending => unreachable!("the inner service is always ready"),
        }
    };
    let (mut honest_rejected, mut flood_allowed) = (0, 0);
    for source in 0..sources {
        clock.advance(Duration::from_micros(1));
        // A permutation of 32 bits: each /64 occurs once, in no apparent order.
        let subnet = (source as u32).wrapping_mul(0x9e37_79b1);
        flood_allowed += u64::from(is_allowed(0x2001_0bad << 96 | u128::from(subnet) << 64 | 1));
        if source % 50_000 == 0 {
            honest_rejected += u64::from(!is_allowed(0x2001_0db8 << 96 | 1));
        }
    }
    (honest_rejected, flood_allowed)
}

#[test]
fn five_million_sources_use_bounded_memory_and_do_not_affect_an_honest_client() {
    // Unoptimised builds use fewer sources and smaller tables. In both cases the sources do not fit: each of the million
    // per second stays in use for a second.
    let (sources, max_keys) = if cfg!(debug_assertions) { (200_000, 1 << 14) } else { (5_000_000, 1 << 19) };
    let clock = FakeRelativeClock::default();
    let before = resident_kib();
    let builder = || RateLimitLayer::builder(Quota::per_second(1).burst(200)).max_keys(max_keys).clock(clock.clone());
    // The honest client has used the most of its quota, so it is the last to be evicted.
    assert_eq!(flood(builder().build().unwrap(), &clock, sources), (0, sources), "each source is new");
    let one_policy_kib = resident_kib().saturating_sub(before);

    let tiers = builder()
        .ipv6_tier(56, Quota::per_second(1).burst(400))
        .ipv6_tier(48, Quota::per_second(20).burst(400))
        // This tier decides how much of the flood is allowed.
        .ipv6_tier(32, Quota::per_second(5000).burst(10_000))
        .build()
        .unwrap();
    let (honest_rejected, flood_allowed) = flood(tiers, &clock, sources);
    assert_eq!(honest_rejected, 0);
    let seconds = sources.div_ceil(1_000_000);
    assert!((10_000..=10_001 + 5000 * seconds).contains(&flood_allowed), "{flood_allowed}");
    let tiers_kib = resident_kib().saturating_sub(before);
    println!("{sources} sources: {one_policy_kib} KiB; with tiers of /56, /48 and /32 as well, {tiers_kib} KiB");
    assert!(tiers_kib < 64 << 10, "{tiers_kib} KiB");
}
