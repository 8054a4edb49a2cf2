//! Counters of rejections by reason.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::rejections::reasons;

/// The number of rejections by reason: the known reasons, and those of layers of other programs.
pub(super) struct ReasonCounters {
    /// In the order of [`reasons`].
    known: Box<[AtomicU64]>,
    further: Mutex<Vec<(&'static str, u64)>>,
}

/// The maximum number of reasons beyond the known ones. The rest counts as [`OTHER`].
const MAX_FURTHER: usize = 32;

const OTHER: &str = "other";

impl ReasonCounters {
    pub(super) fn count(&self, reason: &'static str) {
        if let Some(index) = reasons().iter().position(|known| *known == reason) {
            self.known[index].fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut further = self.further.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = further.len() >= MAX_FURTHER;
        match further.iter_mut().find(|(present, _)| *present == reason) {
            Some((_, count)) => *count += 1,
            None if is_full => further[0].1 += 1,
            None => further.push((reason, 1)),
        }
    }

    /// Adds the counts to `totals`, in which each known reason has an entry, even without rejections.
    pub(super) fn add_to(&self, totals: &mut Vec<(&'static str, u64)>) {
        let known = reasons().iter().zip(&self.known).map(|(reason, count)| (*reason, count.load(Ordering::Relaxed)));
        let further = self.further.lock().unwrap_or_else(PoisonError::into_inner);
        for (reason, count) in known.chain(further.iter().copied()) {
            match totals.iter_mut().find(|(present, _)| *present == reason) {
                Some((_, total)) => *total += count,
                None => totals.push((reason, count)),
            }
        }
    }
}

impl Default for ReasonCounters {
    fn default() -> Self {
        let known = reasons().iter().map(|_| AtomicU64::new(0)).collect();
        Self { known, further: Mutex::new(vec![(OTHER, 0)]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(counters: &[ReasonCounters]) -> Vec<(&'static str, u64)> {
        let mut totals = Vec::new();
        counters.iter().for_each(|counters| counters.add_to(&mut totals));
        totals
    }

    fn total(totals: &[(&'static str, u64)], reason: &str) -> Option<u64> {
        totals.iter().find(|(present, _)| *present == reason).map(|(_, count)| *count)
    }

    #[test]
    fn adds_up_known_and_custom_rejection_reasons() {
        let counters = [ReasonCounters::default(), ReasonCounters::default()];
        counters[0].count("blocked_path");
        counters[1].count("blocked_path");
        counters[0].count("closed");
        counters[1].count("closed");
        let totals = totals(&counters);
        assert_eq!(total(&totals, "blocked_path"), Some(2));
        assert_eq!(total(&totals, "closed"), Some(2));
        assert_eq!((total(&totals, "rate_limited"), total(&totals, OTHER)), (Some(0), Some(0)));
        assert_eq!(totals.len(), reasons().len() + 2);
    }

    #[test]
    fn number_of_custom_rejection_reasons_is_limited() {
        let counters = ReasonCounters::default();
        for number in 0..100 {
            counters.count(Box::leak(format!("reason_{number}").into_boxed_str()));
        }
        let totals = totals(&[counters]);
        assert_eq!(totals.len(), reasons().len() + MAX_FURTHER);
        assert_eq!(total(&totals, OTHER), Some(100 - (MAX_FURTHER as u64 - 1)));
    }
}
