//! A retry budget, which limits the additional load on failing backends.

use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

/// A retry budget that follows the retry throttling of gRPC (gRFC A6).
///
/// A failure takes a token, a success adds a tenth of a token. Retries stop while less than half of the tokens are
/// left. The budget needs no clock. Without failures, a request costs one load.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    /// The number of tokens in the retry budget, in tenths of a token.
    tokens: AtomicI32,
}

impl RetryBudget {
    pub(crate) fn new() -> Self {
        Self { tokens: AtomicI32::new(MAX_TOKENS) }
    }

    /// Adds a tenth of a token to the retry budget after a success.
    pub(crate) fn record_success(&self) {
        if self.tokens.load(Relaxed) < MAX_TOKENS {
            self.tokens.fetch_add(1, Relaxed);
        }
    }

    /// Takes a token out of the retry budget after a failure. Returns whether the failed request may be sent again.
    pub(crate) fn record_failure(&self) -> bool {
        let before = self.tokens.fetch_sub(10, Relaxed);
        if before < 10 {
            self.tokens.fetch_max(0, Relaxed);
        }
        before - 10 > MAX_TOKENS / 2
    }
}

/// The maximum number of tokens in the retry budget, in tenths of a token.
const MAX_TOKENS: i32 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_budget_stops_retries_at_half_of_its_tokens_and_recovers_with_successes() {
        let budget = RetryBudget::new();
        assert_eq!((0..1000).filter(|_| budget.record_failure()).count(), 49);
        for _ in 0..510 {
            budget.record_success();
            assert!(!budget.tokens.load(Relaxed).is_negative());
        }
        assert!(!budget.record_failure());
        for _ in 0..20 {
            budget.record_success();
        }
        assert!(budget.record_failure());
    }

    #[test]
    fn retry_budget_covers_ten_percent_failures() {
        let budget = RetryBudget::new();
        for _ in 0..1000 {
            (0..10).for_each(|_| budget.record_success());
            assert!(budget.record_failure());
        }
    }
}
