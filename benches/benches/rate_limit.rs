//! Measures the time that rate limiting adds to a request, by number of clients: `cargo bench -p rproxy-benches --bench
//! rate_limit`.
//!
//! The clients alternate, so that the processor's caches never hold the next one. `no layer` is the inner service alone.
#![allow(missing_docs, reason = "criterion's macros")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark may panic")]

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::{IpAddr, Ipv6Addr};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use futures_util::FutureExt;
use http::{Request, Response};
use rproxy_client_ip::ClientIp;
use rproxy_rate_limit::{Quota, RateLimitLayer};
use tower::{Layer, Service, service_fn};

// The module has tests, and a benchmark has no harness for them.
#[allow(dead_code, unused_imports)]
#[path = "../../rproxy-bin/src/allocator.rs"]
mod allocator;

/// The memory allocator of the rproxy binary.
#[global_allocator]
static ALLOCATOR: allocator::Mimalloc = allocator::Mimalloc;

const MANY: u64 = 100_000;

fn inner(_: Request<()>) -> Ready<Result<Response<&'static str>, Infallible>> {
    let mut response = Response::new("hello");
    // rproxy's upstream reserves room for added fields, too.
    response.headers_mut().reserve(8);
    ready(Ok(response))
}

fn layers(criterion: &mut Criterion) {
    // A quota that is never exhausted: no request is rejected.
    let quota = Quota::per_second(1_000).burst(1_000_000);
    let layer = || RateLimitLayer::new(quota);
    let builder = || RateLimitLayer::builder(quota);
    measure(criterion, "no layer", MANY, service_fn(inner));
    measure(criterion, "one client", 1, layer().layer(service_fn(inner)));
    measure(criterion, "100,000 clients", MANY, layer().layer(service_fn(inner)));
    measure(
        criterion,
        "100,000 clients, shadow",
        MANY,
        builder().shadow(true).build().expect("valid").layer(service_fn(inner)),
    );
    measure(
        criterion,
        "100,000 clients, in flight",
        MANY,
        builder().max_in_flight(100).build().expect("valid").layer(service_fn(inner)),
    );
    let tiers = builder().ipv6_tier(56, Quota::per_second(1_000_000)).ipv6_tier(48, Quota::per_second(1_000_000_000));
    let tiers = tiers.build().expect("valid");
    measure(criterion, "100,000 clients, three tiers", MANY, tiers.layer(service_fn(inner)));
}

/// The batch size, as small as in the benchmark `layers`, so that the requests stay in the processor caches.
const BATCH: BatchSize = BatchSize::NumIterations(32);

fn measure<S>(criterion: &mut Criterion, name: &str, clients: u64, mut service: S)
where
    S: Service<Request<()>, Response: Sized>,
{
    let mut client = 0;
    let mut request = || {
        // The step is coprime to the number of clients, so each client comes once per cycle.
        client = (client + 7919) % clients;
        let address = Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(client) << 64 | 1);
        Request::builder().extension(ClientIp(IpAddr::V6(address))).body(()).unwrap()
    };
    // Each client has an entry in the table before the measurement.
    for _ in 0..clients {
        service.call(request()).now_or_never();
    }
    criterion.bench_function(&format!("rate-limit/{name}"), |bencher| {
        bencher.iter_batched(&mut request, |request| service.call(request).now_or_never(), BATCH);
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(50);
    targets = layers
}
criterion_main!(benches);
