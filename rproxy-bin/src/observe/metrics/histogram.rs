//! A lock-free histogram of durations with fixed buckets.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The number of durations per bucket, and the sum of the durations.
#[derive(Debug)]
pub(super) struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    microseconds: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: super::zeros(), microseconds: AtomicU64::new(0) }
    }
}

impl Histogram {
    pub(super) fn observe(&self, duration: Duration) {
        let microseconds = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().position(|bound| microseconds <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.microseconds.fetch_add(microseconds, Ordering::Relaxed);
    }

    /// Adds the counts of this histogram to `total`.
    pub(super) fn add_to(&self, total: &mut HistogramTotals) {
        for (sum, bucket) in total.buckets.iter_mut().zip(&self.buckets) {
            *sum += bucket.load(Ordering::Relaxed);
        }
        total.microseconds = total.microseconds.wrapping_add(self.microseconds.load(Ordering::Relaxed));
    }
}

/// The sums of several histograms.
#[derive(Debug, Default)]
pub(super) struct HistogramTotals {
    buckets: [u64; BOUNDS.len() + 1],
    microseconds: u64,
}

impl HistogramTotals {
    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    pub(super) fn seconds(&self) -> f64 {
        self.microseconds as f64 / 1e6
    }

    /// Returns the upper bound in seconds and the count of each histogram bucket.
    pub(super) fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = BOUNDS.iter().map(|bound| *bound as f64 / 1e6).chain([f64::INFINITY]);
        bounds.zip(self.buckets).collect()
    }
}

/// The upper bounds of the histogram buckets in microseconds. A proxied request on one machine takes some hundreds; a
/// download may take minutes.
const BOUNDS: [u64; 16] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000, 60_000_000,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_duration_in_the_first_matching_bucket() {
        for (microseconds, bound) in [
            (0, 0.000_25),
            (250, 0.000_25),
            (251, 0.000_5),
            (1_000, 0.001),
            (60_000_000, 60.0),
            (60_000_001, f64::INFINITY),
        ] {
            let histogram = Histogram::default();
            histogram.observe(Duration::from_micros(microseconds));
            let mut observed = HistogramTotals::default();
            histogram.add_to(&mut observed);
            let filled: Vec<_> = observed.buckets().into_iter().filter(|(_, count)| *count > 0).collect();
            assert_eq!(filled, [(bound, 1)], "{microseconds}");
            assert_eq!((observed.count(), observed.seconds()), (1, microseconds as f64 / 1e6));
        }
    }
}
