//! The budget for bodies on their way in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many bytes of unfinished bodies there may be.
pub(crate) struct Budget {
    most: u64,
    taken: AtomicU64,
}

impl Budget {
    pub(crate) fn new(most: u64) -> Arc<Self> {
        Arc::new(Self { most, taken: AtomicU64::new(0) })
    }
}

/// Bytes of the budget, given back on drop.
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Reservation {
    /// `None` if there is no room for so many.
    pub(crate) fn new(budget: &Arc<Budget>, bytes: u64) -> Option<Self> {
        let mut reservation = Self { budget: Arc::clone(budget), bytes: 0 };
        reservation.grow(bytes).then_some(reservation)
    }

    /// Grows to `bytes` in all; `false` if there is no room.
    pub(crate) fn grow(&mut self, bytes: u64) -> bool {
        self.grow_by(bytes.saturating_sub(self.bytes))
    }

    pub(crate) fn grow_by(&mut self, more: u64) -> bool {
        let Budget { most, taken } = &*self.budget;
        let grown = taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
            taken.checked_add(more).filter(|taken| taken <= most)
        });
        if grown.is_ok() {
            self.bytes += more;
        }
        grown.is_ok()
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_bodies_have_a_budget_of_their_own() {
        let budget = Budget::new(2 << 20);
        let mut first = Reservation::new(&budget, 1 << 20).unwrap();
        assert!(first.grow(2 << 20));
        assert!(!first.grow(3 << 20));
        assert!(Reservation::new(&budget, 1).is_none());
        drop(first);
        assert!(Reservation::new(&budget, 2 << 20).is_some());
    }
}
