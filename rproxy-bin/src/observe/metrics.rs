//! Request metrics, with one set of counters per worker, which are added up on each scrape.

mod exposition;
mod histogram;
mod labels;
mod process;
mod prometheus;
mod reasons;

use std::array;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::StatusCode;
use rproxy_cache::CacheStatus;
use rproxy_core::Rejection;
use rproxy_upstream::ProxyErrorKind;

use self::exposition::ExternalMetric;
pub use self::exposition::LabelledValue;
use self::histogram::Histogram;
pub(super) use self::labels::MethodLabel;
use self::labels::{CACHE, CODES, METHODS, UPSTREAM_ERRORS, cache_index, code_index, upstream_error_index};
use self::reasons::ReasonCounters;

/// The request metrics of the proxy, and the metrics that other components register. Clones share the counters.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    shards: Box<[Counters]>,
    next: AtomicUsize,
    external: Mutex<Vec<ExternalMetric>>,
}

impl Metrics {
    /// Creates metrics with one set of counters per CPU core. If there are more workers than cores, some share a set,
    /// which is only slower.
    pub fn new() -> Self {
        Self::with_shards(std::thread::available_parallelism().map_or(1, usize::from))
    }

    fn with_shards(shards: usize) -> Self {
        let shards = (0..shards.clamp(1, MAX_SHARDS)).map(|_| Counters::default()).collect();
        Self { inner: Arc::new(Inner { shards, next: AtomicUsize::new(0), external: Mutex::default() }) }
    }

    /// Returns a set of counters for a worker.
    pub(super) fn shard(&self) -> Shard {
        let index = self.inner.next.fetch_add(1, Ordering::Relaxed) % self.inner.shards.len();
        Shard { metrics: self.clone(), index }
    }

    fn sum(&self, counter: impl Fn(&Counters) -> &AtomicU64) -> u64 {
        self.inner.shards.iter().map(|shard| counter(shard).load(Ordering::Relaxed)).sum()
    }

    /// Returns whether the proxy has received any request.
    pub(crate) fn has_requests(&self) -> bool {
        let has_ended =
            |counters: &Counters| counters.requests.iter().flatten().any(|it| it.load(Ordering::Relaxed) > 0);
        self.in_flight() > 0 || self.inner.shards.iter().any(has_ended)
    }

    /// Returns the most important numbers.
    pub(crate) fn totals(&self) -> Totals {
        let total = |array: fn(&Counters) -> &[AtomicU64], index: usize| self.sum(|it| &array(it)[index]);
        let cache = |status| total(|it| &it.cache, cache_index(status));
        let mut rejections = Vec::new();
        self.inner.shards.iter().for_each(|shard| shard.rejections.add_to(&mut rejections));
        let rejected =
            |reason: &str| rejections.iter().find(|(known, _)| *known == reason).map_or(0, |(_, count)| *count);
        let requests = self.inner.shards.iter().flat_map(|shard| shard.requests.iter().flatten());
        Totals {
            requests: requests.map(|counter| counter.load(Ordering::Relaxed)).sum(),
            in_flight: self.in_flight(),
            body_bytes: self.sum(|it| &it.body_bytes),
            cache_hits: cache(CacheStatus::Hit),
            rate_limited: rejected("rate_limited"),
            blocked_paths: rejected("blocked_path"),
        }
    }

    /// Counts a request with a body of 10 bytes.
    #[cfg(test)]
    pub(crate) fn count_request_for_tests(&self) {
        let shard = self.shard();
        shard.request_started();
        shard.request_ended(MethodLabel::Get, Some(StatusCode::OK), Duration::ZERO, 10, true);
    }

    fn in_flight(&self) -> i64 {
        self.inner.shards.iter().map(|shard| shard.in_flight.load(Ordering::Relaxed)).sum()
    }
}

/// The most important numbers since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Completed requests.
    pub(crate) requests: u64,
    /// Requests in flight.
    pub(crate) in_flight: i64,
    /// Bytes of response bodies.
    pub(crate) body_bytes: u64,
    /// Responses from the cache.
    pub(crate) cache_hits: u64,
    /// Requests over the rate limit.
    pub(crate) rate_limited: u64,
    /// Requests that the path filter rejected.
    pub(crate) blocked_paths: u64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("shards", &self.inner.shards.len()).finish_non_exhaustive()
    }
}

// About 4 kB each.
const MAX_SHARDS: usize = 256;

// Two cache lines, since processors prefetch them in pairs.
#[repr(align(128))]
struct Counters {
    in_flight: AtomicI64,
    requests: [[AtomicU64; CODES.len()]; METHODS.len()],
    duration: Histogram,
    body_bytes: AtomicU64,
    aborted: AtomicU64,
    cache: [AtomicU64; CACHE.len()],
    rejections: ReasonCounters,
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
            rejections: ReasonCounters::default(),
            upstream_errors: zeros(),
        }
    }
}

fn zeros<const N: usize>() -> [AtomicU64; N] {
    array::from_fn(|_| AtomicU64::new(0))
}

/// The request counters of one worker.
#[derive(Debug)]
pub(super) struct Shard {
    metrics: Metrics,
    index: usize,
}

impl Shard {
    pub(super) fn request_started(&self) {
        self.counters().in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// Records a finished request. `status` is `None` if the client disconnected before the response.
    pub(super) fn request_ended(
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

    pub(super) fn count_cache_status(&self, status: CacheStatus) {
        increment(&self.counters().cache[cache_index(status)]);
    }

    pub(super) fn count_rejection(&self, rejection: &Rejection) {
        self.counters().rejections.count(rejection.reason());
    }

    pub(super) fn count_upstream_error(&self, kind: ProxyErrorKind) {
        increment(&self.counters().upstream_errors[upstream_error_index(kind)]);
    }

    fn counters(&self) -> &Counters {
        &self.metrics.inner.shards[self.index]
    }
}

fn increment(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
