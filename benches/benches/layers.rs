//! Measures the processor time that each layer adds to a request: `cargo bench -p rproxy-benches`.
#![allow(missing_docs, reason = "criterion's macros")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark may panic")]

mod cases;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::Request;
use http_body_util::Empty;
use tower::Service;

/// The batch size, small enough for the requests of a batch to stay in the processor caches, as in a proxy.
const BATCH: BatchSize = BatchSize::NumIterations(32);

struct Timed<'a>(&'a mut Criterion);

impl cases::Measure for Timed<'_> {
    fn measure<S: Service<Request<Empty<Bytes>>>>(&mut self, name: &str, mut service: S) {
        self.0.bench_function(name, |bencher| {
            bencher.iter_batched(cases::request, |request| cases::call(&mut service, request), BATCH);
        });
    }
}

fn layers(criterion: &mut Criterion) {
    cases::all(&mut Timed(criterion));
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(50);
    targets = layers
}
criterion_main!(benches);
