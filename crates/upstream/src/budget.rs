//! How much may be sent once more, so that a backend in trouble does not get twice the requests.

use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

/// The throttling of gRPC's retries (gRFC A6): a failure takes a token, a success gives a tenth of one back, and nothing
/// is repeated while half of the tokens are gone. Needs no clock, and while all is well only a load for each request.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    /// In tenths.
    tokens: AtomicI32,
}

impl RetryBudget {
    pub(crate) fn new() -> Self {
        Self { tokens: AtomicI32::new(FULL) }
    }

    pub(crate) fn succeeded(&self) {
        if self.tokens.load(Relaxed) < FULL {
            self.tokens.fetch_add(1, Relaxed);
        }
    }

    /// Takes a token; whether the request that failed may be sent again.
    pub(crate) fn failed(&self) -> bool {
        let before = self.tokens.fetch_sub(10, Relaxed);
        if before < 10 {
            self.tokens.fetch_max(0, Relaxed);
        }
        before - 10 > FULL / 2
    }
}

/// A hundred tokens.
const FULL: i32 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeating_stops_when_half_of_the_tokens_are_gone_and_comes_back_with_successes() {
        let budget = RetryBudget::new();
        assert_eq!((0..1000).filter(|_| budget.failed()).count(), 49);
        for _ in 0..510 {
            budget.succeeded();
            assert!(!budget.tokens.load(Relaxed).is_negative());
        }
        assert!(!budget.failed());
        for _ in 0..20 {
            budget.succeeded();
        }
        assert!(budget.failed());
    }

    #[test]
    fn where_a_tenth_fails_all_of_it_may_be_repeated() {
        let budget = RetryBudget::new();
        for _ in 0..1000 {
            (0..10).for_each(|_| budget.succeeded());
            assert!(budget.failed());
        }
    }
}
