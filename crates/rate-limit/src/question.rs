//! A request that a store is to decide on.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crate::decision::RateLimitDecision;
use crate::in_flight::Permit;
use crate::policies::{Counted, Said, Verdict, check_all};
use crate::store::{Charge, Fallback, Left, RateLimitStore, StoreError, StoreFuture};

/// A store, and what becomes of requests when it does not answer.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn RateLimitStore>,
    pub(crate) fallback: Fallback,
    pub(crate) observe: Option<Observe>,
}

pub(crate) type Observe = Arc<dyn Fn(Result<(), &StoreError>) + Send + Sync>;

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("fallback", &self.fallback).finish_non_exhaustive()
    }
}

/// Put to a store; it resolves to a verdict, whatever the store does.
pub(crate) struct Question {
    answer: StoreFuture,
    shared: Arc<Shared>,
    counted: Vec<Counted>,
    cost: NonZeroU32,
    permit: Option<Box<Permit>>,
}

impl Question {
    /// About at least one key; the `charges` are those of what is `counted`.
    pub(crate) fn new(shared: &Arc<Shared>, charges: &[Charge], counted: Vec<Counted>, cost: NonZeroU32) -> Self {
        let answer = shared.store.charge(charges);
        Self { answer, shared: Arc::clone(shared), counted, cost, permit: None }
    }

    pub(crate) fn with(self, permit: Option<Box<Permit>>) -> Self {
        Self { permit, ..self }
    }

    /// `None` if it has been said before.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Verdict>> {
        let answer = ready!(self.answer.as_mut().poll(cx)).and_then(|left| match left.len() == self.counted.len() {
            true => Ok(left),
            false => Err(StoreError::Failed("not as many answers as there were charges".into())),
        });
        if let Some(observe) = &self.shared.observe {
            observe(answer.as_ref().map(drop));
        }
        let counted = std::mem::take(&mut self.counted);
        let verdict = match answer {
            Ok(left) => Verdict::of(decisions(counted, &left)),
            Err(_) => match self.shared.fallback {
                Fallback::Local => check_all(counted, self.cost),
                Fallback::Open => uncounted(&counted, RateLimitDecision::Uncounted),
                Fallback::Closed => uncounted(&counted, RateLimitDecision::StoreUnavailable),
            },
        };
        Poll::Ready(verdict.map(|verdict| Verdict { permit: self.permit.take(), ..verdict }))
    }
}

fn decisions(counted: Vec<Counted>, left: &[Left]) -> Vec<Said> {
    let each = counted.into_iter().zip(left);
    each.map(|((limiter, key), left)| {
        let decision = limiter.decision(key, *left);
        (limiter, decision)
    })
    .collect()
}

fn uncounted(counted: &[Counted], decision: RateLimitDecision) -> Option<Verdict> {
    counted.first().map(|(limiter, _)| Verdict::new(decision, limiter))
}
