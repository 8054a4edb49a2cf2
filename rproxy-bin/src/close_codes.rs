//! Counters of WebSocket close codes.

use std::array;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The label values: registered codes (RFC 6455 §7.4.1) by number, the ranges of §7.4.2, and `none` for no close
/// code. The set is fixed, so that clients cannot create new values.
const LABELS: [&str; 16] = [
    "none", "3xxx", "4xxx", "other", "1000", "1001", "1002", "1003", "1007", "1008", "1009", "1010", "1011", "1012",
    "1013", "1014",
];

/// The number of closed WebSockets per close code. Clones share the counters.
#[derive(Clone, Debug)]
pub(crate) struct CloseCodes {
    counts: Arc<[AtomicU64; LABELS.len()]>,
}

impl CloseCodes {
    pub(crate) fn new() -> Self {
        Self { counts: Arc::new(array::from_fn(|_| AtomicU64::new(0))) }
    }

    pub(crate) fn count(&self, code: Option<u16>) {
        self.counts[index(code)].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of closed WebSockets for each close code label.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        LABELS.iter().zip(&*self.counts).map(|(label, count)| (*label, count.load(Ordering::Relaxed)))
    }
}

fn index(code: Option<u16>) -> usize {
    match code {
        None => 0,
        Some(3000..4000) => 1,
        Some(4000..5000) => 2,
        Some(code @ 1000..=1003) => usize::from(code - 1000) + 4,
        Some(code @ 1007..=1014) => usize::from(code - 1007) + 8,
        Some(_) => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_each_close_code_by_its_label() {
        let codes = CloseCodes::new();
        codes.count(None);
        (0..=u16::MAX).for_each(|code| codes.count(Some(code)));
        for (label, count) in codes.counts() {
            let expected = match label {
                "3xxx" | "4xxx" => 1000,
                "other" => 65_536 - 2012,
                _ => 1,
            };
            assert_eq!(count, expected, "{label}");
            if let Ok(code) = label.parse() {
                assert_eq!(LABELS[index(Some(code))], label);
            }
        }
    }
}
