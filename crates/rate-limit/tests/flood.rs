//! More addresses than anyone could keep.
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

/// Kibibytes that the process has in memory.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Floods from a /32, each request from a /64 of its own, a million per second; what an honest client of another
/// network is refused of its 20 per second, and what passes of the flood.
fn flood(layer: RateLimitLayer, clock: &FakeRelativeClock, sources: u64) -> (u64, u64) {
    let mut service = layer.layer(service_fn(inner));
    let mut is_allowed = |address: u128| {
        let request = Request::builder().extension(ClientIp(IpAddr::V6(Ipv6Addr::from_bits(address))));
        match tokio_test::task::spawn(service.call(request.body(()).unwrap())).poll() {
            Poll::Ready(response) => response.unwrap().status() == StatusCode::OK,
            Poll::Pending => unreachable!("there is nothing to wait for"),
        }
    };
    let (mut refused, mut passed) = (0, 0);
    for source in 0..sources {
        clock.advance(Duration::from_micros(1));
        // A permutation of 32 bits, so that they come in no order: each /64 once.
        let subnet = (source as u32).wrapping_mul(0x9e37_79b1);
        passed += u64::from(is_allowed(0x2001_0bad << 96 | u128::from(subnet) << 64 | 1));
        if source % 50_000 == 0 {
            refused += u64::from(!is_allowed(0x2001_0db8 << 96 | 1));
        }
    }
    (refused, passed)
}

#[test]
fn five_million_sources_take_a_bounded_memory_and_nothing_from_an_honest_client() {
    // In an unoptimised build a part of them, in smaller tables. Either way they are more than there is room for: of a
    // million per second, all owe something for a second.
    let (sources, keys) = if cfg!(debug_assertions) { (200_000, 1 << 14) } else { (5_000_000, 1 << 19) };
    let clock = FakeRelativeClock::default();
    let before = resident();
    let layer = |burst| RateLimitLayer::new(Quota::per_second(1).burst(burst)).max_keys(keys).clock(clock.clone());
    // The honest client owes the most of all, and is forgotten the last.
    assert_eq!(flood(layer(200), &clock, sources), (0, sources), "each of them is new");
    let with_one = resident().saturating_sub(before);

    let tiers = layer(200)
        .ipv6_tier(56, Quota::per_second(1).burst(400))
        .ipv6_tier(48, Quota::per_second(20).burst(400))
        // Of the flood that is a million per second, so much passes.
        .ipv6_tier(32, Quota::per_second(5000).burst(10_000));
    let (refused, passed) = flood(tiers, &clock, sources);
    assert_eq!(refused, 0);
    let seconds = sources.div_ceil(1_000_000);
    assert!((10_000..=10_001 + 5000 * seconds).contains(&passed), "{passed}");
    let with_tiers = resident().saturating_sub(before);
    println!("{sources} sources: {with_one} kB; with tiers of /56, /48 and /32 as well, {with_tiers} kB");
    assert!(with_tiers < 64 << 10, "{with_tiers} kB");
}
