//! The policies against which requests are checked.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use http::request::Parts;
use http::response;

use crate::decision::RateLimitDecision;
use crate::in_flight::{InFlight, Permit};
use crate::key::{MissingKeyError, RequestKey};
use crate::key_table::Fingerprint;
use crate::limiter::Limiter;
use crate::refund::{Charged, Refund, RefundFn};
use crate::store::Charge;
use crate::store_check::{StoreCheck, StoreConfig};

/// The policies of a layer, and the options that apply to all of them.
pub(crate) struct Policies<K> {
    pub(crate) key: K,
    pub(crate) limiter: Arc<Limiter>,
    pub(crate) further: Vec<Policy>,
    pub(crate) cost: Option<HeadFn<u32>>,
    pub(crate) exempt: Option<HeadFn<bool>>,
    pub(crate) refund: Option<RefundFn>,
    pub(crate) in_flight: Option<Arc<InFlight>>,
    /// The shared store of the quotas, or `None` if the quotas are in the memory of this process.
    pub(crate) store: Option<Arc<StoreConfig>>,
}

/// A function that computes a value, such as the cost, from the request head.
pub(crate) type HeadFn<T> = Arc<dyn Fn(&Parts) -> T + Send + Sync>;

/// A policy and its decision about a request.
pub(crate) type PolicyDecision = (Arc<Limiter>, RateLimitDecision);

/// A policy and the key of the request under this policy.
pub(crate) type PolicyKey = (Arc<Limiter>, Fingerprint);

/// An additional policy of a layer. Its key type is erased.
pub(crate) struct Policy {
    pub(crate) key: Arc<dyn DynKey>,
    pub(crate) limiter: Arc<Limiter>,
}

/// A [`RequestKey`] with an erased key type.
pub(crate) trait DynKey: Send + Sync {
    fn fingerprint(&self, head: &Parts, limiter: &Limiter) -> Result<Option<Fingerprint>, MissingKeyError>;

    /// Returns the fingerprint of the request's key, and the charge to send to a store.
    fn charge(
        &self,
        head: &Parts,
        limiter: &Limiter,
        cost: NonZeroU32,
    ) -> Result<Option<(Fingerprint, Charge)>, MissingKeyError>;
}

impl<K> DynKey for K
where
    K: RequestKey + Send + Sync,
{
    fn fingerprint(&self, head: &Parts, limiter: &Limiter) -> Result<Option<Fingerprint>, MissingKeyError> {
        Ok(self.key(head)?.map(|key| limiter.fingerprint(&key)))
    }

    fn charge(
        &self,
        head: &Parts,
        limiter: &Limiter,
        cost: NonZeroU32,
    ) -> Result<Option<(Fingerprint, Charge)>, MissingKeyError> {
        Ok(self.key(head)?.map(|key| (limiter.fingerprint(&key), limiter.charge(&key, cost))))
    }
}

/// The result of checking a request against the policies.
pub(crate) enum Check {
    /// The request is exempt, has cost 0, or has no key.
    Unlimited,
    Decided(Verdict),
    /// The request is being charged to a store, which decides whether to allow it.
    Pending(StoreCheck),
}

/// The decision about a request, and the data that the response needs.
pub(crate) struct Verdict {
    pub(crate) decision: RateLimitDecision,
    /// The decision of each policy, if there are several.
    pub(crate) each_policy: Option<Box<[PolicyDecision]>>,
    /// The limiter of the policy that made the decision.
    pub(crate) limiter: Arc<Limiter>,
    pub(crate) permit: Option<Box<Permit>>,
    /// The possible refund, or `None` if no response can refund the request.
    pub(crate) refund: Option<Refund>,
}

impl Verdict {
    pub(crate) fn new(decision: RateLimitDecision, limiter: &Arc<Limiter>) -> Self {
        Self { decision, each_policy: None, limiter: Arc::clone(limiter), permit: None, refund: None }
    }

    /// Selects the most severe decision of all policies. Returns `None` if there are none.
    pub(crate) fn most_severe(decisions: Vec<PolicyDecision>) -> Option<Self> {
        let (limiter, decision) = decisions.iter().max_by_key(|(_, decision)| decision.severity())?;
        let verdict = Self::new(*decision, limiter);
        Some(Self { each_policy: (decisions.len() > 1).then(|| decisions.into()), ..verdict })
    }

    /// Allows the response to refund the request, if the request was charged.
    pub(crate) fn refundable(
        self,
        is_due: Option<&RefundFn>,
        cost: NonZeroU32,
        charged: impl FnOnce() -> Charged,
    ) -> Self {
        match (self.decision, is_due) {
            (RateLimitDecision::Allowed { .. }, Some(is_due)) => {
                Self { refund: Some(Refund { is_due: Arc::clone(is_due), cost, charged: charged() }), ..self }
            }
            _ => self,
        }
    }

    /// Refunds the request if the refund function accepts the response, and updates the decisions.
    pub(crate) fn refund_for(&mut self, response: &response::Parts) {
        let Some(refund) = self.refund.take_if(|refund| (refund.is_due)(response)) else { return };
        let cost = refund.cost;
        refund.apply();
        self.decision = self.decision.refunded(cost, self.limiter.burst());
        for (limiter, decision) in self.each_policy.iter_mut().flatten() {
            *decision = decision.refunded(cost, limiter.burst());
        }
    }
}

impl<K: RequestKey> Policies<K> {
    /// Checks a request, and charges it to its keys if all policies allow it.
    pub(crate) fn check(&self, head: &Parts) -> Check {
        if self.exempt.as_ref().is_some_and(|exempt| exempt(head)) {
            return Check::Unlimited;
        }
        let cost = match self.cost.as_ref().map(|cost| NonZeroU32::new(cost(head))) {
            None => NonZeroU32::MIN,
            Some(Some(cost)) => cost,
            Some(None) => return Check::Unlimited,
        };
        let key = match self.key.key(head) {
            Ok(key) => key,
            Err(error) => return self.missing_key(error),
        };
        if !self.further.is_empty() || self.in_flight.is_some() || self.store.is_some() {
            return self.check_slow_path(head, key, cost);
        }
        match key {
            None => Check::Unlimited,
            Some(key) => {
                let key = self.limiter.fingerprint(&key);
                let verdict = Verdict::new(self.limiter.check(key, cost), &self.limiter);
                let charged = || Charged::Key(Arc::clone(&self.limiter), key);
                Check::Decided(verdict.refundable(self.refund.as_ref(), cost, charged))
            }
        }
    }

    /// Checks a request against several policies, an in-flight limit or a store.
    fn check_slow_path(&self, head: &Parts, key: Option<K::Key>, cost: NonZeroU32) -> Check {
        let permit = match (&self.in_flight, &key) {
            (Some(in_flight), Some(key)) => match in_flight.acquire(self.limiter.fingerprint(key)) {
                Some(permit) => Some(Box::new(permit)),
                None => {
                    return Check::Decided(Verdict::new(RateLimitDecision::TooManyInFlight, &self.limiter));
                }
            },
            _ => None,
        };
        let check = match &self.store {
            None => self.check_in_memory(head, key, cost),
            Some(store) => self.check_in_store(store, head, key, cost),
        };
        match check {
            Ok(Check::Decided(verdict)) => Check::Decided(Verdict { permit, ..verdict }),
            Ok(Check::Pending(check)) => Check::Pending(check.with_permit(permit)),
            Ok(Check::Unlimited) => Check::Unlimited,
            Err(error) => self.missing_key(error),
        }
    }

    fn check_in_memory(&self, head: &Parts, key: Option<K::Key>, cost: NonZeroU32) -> Result<Check, MissingKeyError> {
        let mut keys = Vec::with_capacity(1 + self.further.len());
        keys.extend(key.map(|key| (Arc::clone(&self.limiter), self.limiter.fingerprint(&key))));
        for Policy { key, limiter } in &self.further {
            keys.extend(key.fingerprint(head, limiter)?.map(|key| (Arc::clone(limiter), key)));
        }
        Ok(check_all(keys, cost, self.refund.as_ref()).map_or(Check::Unlimited, Check::Decided))
    }

    fn check_in_store(
        &self,
        store: &Arc<StoreConfig>,
        head: &Parts,
        key: Option<K::Key>,
        cost: NonZeroU32,
    ) -> Result<Check, MissingKeyError> {
        let mut keys = Vec::with_capacity(1 + self.further.len());
        let mut charges = Vec::with_capacity(1 + self.further.len());
        if let Some(key) = key {
            keys.push((Arc::clone(&self.limiter), self.limiter.fingerprint(&key)));
            charges.push(self.limiter.charge(&key, cost));
        }
        for Policy { key, limiter } in &self.further {
            if let Some((key, charge)) = key.charge(head, limiter, cost)? {
                keys.push((Arc::clone(limiter), key));
                charges.push(charge);
            }
        }
        Ok(match charges.is_empty() {
            true => Check::Unlimited,
            false => Check::Pending(StoreCheck::new(store, charges, keys, cost, self.refund.clone())),
        })
    }

    fn missing_key(&self, error: MissingKeyError) -> Check {
        Check::Decided(Verdict::new(RateLimitDecision::MissingKey(error), &self.limiter))
    }
}

/// Checks the keys of a request under all policies, and charges all of them or none. Returns `None` if there are no
/// keys.
pub(crate) fn check_all(keys: Vec<PolicyKey>, cost: NonZeroU32, refund: Option<&RefundFn>) -> Option<Verdict> {
    let mut decisions: Vec<_> = keys.iter().map(|(limiter, key)| limiter.check(*key, cost)).collect();
    if decisions.iter().any(RateLimitDecision::is_rejection) {
        for ((limiter, key), decision) in keys.iter().zip(&mut decisions) {
            if !decision.is_rejection() {
                limiter.refund(*key, cost);
                *decision = decision.refunded(cost, limiter.burst());
            }
        }
    }
    let limiters = keys.iter().map(|(limiter, _)| Arc::clone(limiter));
    let verdict = Verdict::most_severe(limiters.zip(decisions).collect())?;
    Some(verdict.refundable(refund, cost, || Charged::Keys(keys.into())))
}

impl<K: fmt::Debug> fmt::Debug for Policies<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limiters: Vec<_> =
            std::iter::once(&self.limiter).chain(self.further.iter().map(|policy| &policy.limiter)).collect();
        f.debug_struct("Policies")
            .field("key", &self.key)
            .field("limiters", &limiters)
            .field("in_flight", &self.in_flight)
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}
