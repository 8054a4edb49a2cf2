//! Counters: one set for each worker, added up when somebody asks.

mod exposition;
mod histogram;
mod labels;
mod process;

use std::array;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::StatusCode;
use rproxy_cache::CacheStatus;
use rproxy_upstream::ProxyErrorKind;

pub use self::exposition::Labelled;
use self::exposition::Reading;
use self::histogram::Histogram;
pub(super) use self::labels::MethodLabel;
use self::labels::{CACHE, CODES, METHODS, UPSTREAM_ERRORS, cache_index, code_index, upstream_error_index};
use crate::problem::Refusal;

/// What is counted about requests. Clones count into the same.
#[derive(Clone)]
pub struct Metrics {
    shared: Arc<Shared>,
}

struct Shared {
    shards: Box<[Counters]>,
    next: AtomicUsize,
    readings: Mutex<Vec<Reading>>,
}

impl Metrics {
    /// With a set of counters for each core; more workers than cores share them, which costs them
    /// time and nothing else.
    pub fn new() -> Self {
        Self::with_shards(std::thread::available_parallelism().map_or(1, usize::from))
    }

    fn with_shards(shards: usize) -> Self {
        let shards = (0..shards.clamp(1, MOST_SHARDS)).map(|_| Counters::default()).collect();
        Self { shared: Arc::new(Shared { shards, next: AtomicUsize::new(0), readings: Mutex::default() }) }
    }

    /// A set of counters for a worker.
    pub(super) fn shard(&self) -> Shard {
        let place = self.shared.next.fetch_add(1, Ordering::Relaxed) % self.shared.shards.len();
        Shard { metrics: self.clone(), place }
    }

    fn sum(&self, counter: impl Fn(&Counters) -> &AtomicU64) -> u64 {
        self.shared.shards.iter().map(|shard| counter(shard).load(Ordering::Relaxed)).sum()
    }

    fn in_flight(&self) -> i64 {
        self.shared.shards.iter().map(|shard| shard.in_flight.load(Ordering::Relaxed)).sum()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("shards", &self.shared.shards.len()).finish_non_exhaustive()
    }
}

// About 4 kB each.
const MOST_SHARDS: usize = 256;

// Two cache lines, because cores fetch them in pairs.
#[repr(align(128))]
struct Counters {
    in_flight: AtomicI64,
    requests: [[AtomicU64; CODES.len()]; METHODS.len()],
    duration: Histogram,
    body_bytes: AtomicU64,
    aborted: AtomicU64,
    cache: [AtomicU64; CACHE.len()],
    refused: [AtomicU64; Refusal::REASONS.len()],
    upstream_errors: [AtomicU64; UPSTREAM_ERRORS.len()],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            in_flight: AtomicI64::new(0),
            requests: array::from_fn(|_| zeros()),
            duration: Histogram::default(),
            body_bytes: AtomicU64::new(0),
            aborted: AtomicU64::new(0),
            cache: zeros(),
            refused: zeros(),
            upstream_errors: zeros(),
        }
    }
}

fn zeros<const N: usize>() -> [AtomicU64; N] {
    array::from_fn(|_| AtomicU64::new(0))
}

/// The counters of one worker.
#[derive(Debug)]
pub(super) struct Shard {
    metrics: Metrics,
    place: usize,
}

impl Shard {
    pub(super) fn began(&self) {
        self.counters().in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// Where `status` is `None` there was no answer: the client went away first.
    pub(super) fn ended(
        &self,
        method: MethodLabel,
        status: Option<StatusCode>,
        duration: Duration,
        bytes: u64,
        complete: bool,
    ) {
        let counters = self.counters();
        counters.in_flight.fetch_sub(1, Ordering::Relaxed);
        increment(&counters.requests[method as usize][code_index(status)]);
        counters.duration.observe(duration);
        counters.body_bytes.fetch_add(bytes, Ordering::Relaxed);
        if !complete {
            increment(&counters.aborted);
        }
    }

    pub(super) fn cached(&self, status: CacheStatus) {
        increment(&self.counters().cache[cache_index(status)]);
    }

    pub(super) fn refused(&self, refusal: Refusal) {
        increment(&self.counters().refused[refusal.index()]);
        if let Refusal::Upstream(kind) = refusal {
            self.upstream_error(kind);
        }
    }

    fn upstream_error(&self, kind: ProxyErrorKind) {
        increment(&self.counters().upstream_errors[upstream_error_index(kind)]);
    }

    fn counters(&self) -> &Counters {
        &self.metrics.shared.shards[self.place]
    }
}

fn increment(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
