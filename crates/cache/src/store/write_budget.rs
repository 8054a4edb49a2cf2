//! The memory budget for response bodies that are being received.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A limit on the total size of the response bodies that are being received.
pub(crate) struct WriteBudget {
    limit: u64,
    used: AtomicU64,
}

impl WriteBudget {
    pub(crate) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicU64::new(0) })
    }
}

/// A number of bytes that is reserved from a [`WriteBudget`]. Dropping it returns the bytes.
pub(crate) struct Reservation {
    budget: Arc<WriteBudget>,
    bytes: u64,
}

impl Reservation {
    /// Reserves bytes, or returns `None` if the budget is exhausted.
    pub(crate) fn new(budget: &Arc<WriteBudget>, bytes: u64) -> Option<Self> {
        let mut reservation = Self { budget: Arc::clone(budget), bytes: 0 };
        reservation.grow(bytes).then_some(reservation)
    }

    /// Grows the reservation to a total of `bytes`. Returns `false` if the budget has no room.
    pub(crate) fn grow(&mut self, bytes: u64) -> bool {
        self.grow_by(bytes.saturating_sub(self.bytes))
    }

    /// Grows the reservation by `more` bytes. Returns `false` if the budget has no room.
    pub(crate) fn grow_by(&mut self, more: u64) -> bool {
        let WriteBudget { limit, used } = &*self.budget;
        let grown = used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(more).filter(|used| used <= limit)
        });
        if grown.is_ok() {
            self.bytes += more;
        }
        grown.is_ok()
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_budget_limits_the_total_size_of_all_reservations() {
        let budget = WriteBudget::new(2 << 20);
        let mut first = Reservation::new(&budget, 1 << 20).unwrap();
        assert!(first.grow(2 << 20));
        assert!(!first.grow(3 << 20));
        assert!(Reservation::new(&budget, 1).is_none());
        drop(first);
        assert!(Reservation::new(&budget, 2 << 20).is_some());
    }
}
