//! The check of a request against the quotas in a store.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crate::decision::RateLimitDecision;
use crate::in_flight::Permit;
use crate::policies::{PolicyDecision, PolicyKey, Verdict, check_all};
use crate::refund::{Charged, RefundFn};
use crate::store::{Charge, ChargeOutcome, RateLimitStore, StoreError, StoreFallback, StoreFuture, StoreObserver};

/// A store, and the fallback for requests that it fails to charge.
#[derive(Clone)]
pub(crate) struct StoreConfig {
    pub(crate) store: Arc<dyn RateLimitStore>,
    pub(crate) fallback: StoreFallback,
    pub(crate) observer: StoreObserver,
}

impl fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreConfig").field("fallback", &self.fallback).finish_non_exhaustive()
    }
}

/// A pending charge to a store, which resolves to a verdict even if the charge fails.
pub(crate) struct StoreCheck {
    outcomes: StoreFuture,
    config: Arc<StoreConfig>,
    keys: Vec<PolicyKey>,
    cost: NonZeroU32,
    /// The charges of the request, which are needed for a refund.
    charges: Vec<Charge>,
    refund: Option<RefundFn>,
    permit: Option<Box<Permit>>,
}

impl StoreCheck {
    /// Starts charging the request to the store.
    ///
    /// `charges` and `keys` name the same keys in the same order, at least one.
    pub(crate) fn new(
        config: &Arc<StoreConfig>,
        charges: Vec<Charge>,
        keys: Vec<PolicyKey>,
        cost: NonZeroU32,
        refund: Option<RefundFn>,
    ) -> Self {
        let outcomes = config.store.charge(&charges);
        Self { outcomes, config: Arc::clone(config), keys, cost, charges, refund, permit: None }
    }

    pub(crate) fn with_permit(self, permit: Option<Box<Permit>>) -> Self {
        Self { permit, ..self }
    }

    /// Polls for the decision of the store or of the fallback about the request. Returns `None` if it was returned
    /// before.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Verdict>> {
        let outcomes =
            ready!(self.outcomes.as_mut().poll(cx)).and_then(|outcomes| match outcomes.len() == self.keys.len() {
                true => Ok(outcomes),
                false => {
                    Err(StoreError::Failed("the rate limit store returned fewer or more outcomes than charges".into()))
                }
            });
        self.config.observer.observe(outcomes.as_ref().map(drop));
        let keys = std::mem::take(&mut self.keys);
        let verdict = match outcomes {
            Ok(outcomes) => Verdict::most_severe(decisions(keys, &outcomes)).map(|verdict| {
                let charged = || Charged::Store(Arc::clone(&self.config), std::mem::take(&mut self.charges));
                verdict.refundable(self.refund.as_ref(), self.cost, charged)
            }),
            Err(_) => match self.config.fallback {
                StoreFallback::Local => check_all(keys, self.cost, self.refund.as_ref()),
                StoreFallback::Open => fallback_verdict(&keys, RateLimitDecision::FailedOpen),
                StoreFallback::Closed => fallback_verdict(&keys, RateLimitDecision::FailedClosed),
            },
        };
        Poll::Ready(verdict.map(|verdict| Verdict { permit: self.permit.take(), ..verdict }))
    }
}

fn decisions(keys: Vec<PolicyKey>, outcomes: &[ChargeOutcome]) -> Vec<PolicyDecision> {
    let charged = keys.into_iter().zip(outcomes);
    charged
        .map(|((limiter, key), outcome)| {
            let decision = limiter.decision(key, *outcome);
            (limiter, decision)
        })
        .collect()
}

fn fallback_verdict(keys: &[PolicyKey], decision: RateLimitDecision) -> Option<Verdict> {
    keys.first().map(|(limiter, _)| Verdict::new(decision, limiter))
}
