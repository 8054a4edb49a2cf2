//! What a request is counted against: one policy, or several at once.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use http::request::Parts;

use crate::decision::RateLimitDecision;
use crate::in_flight::{InFlight, Permit};
use crate::key::{MissingKey, RequestKey};
use crate::limiter::Limiter;
use crate::question::{Observe, Question, Shared};
use crate::store::Charge;
use crate::table::Fingerprint;

/// The policies of a layer, and whom they spare.
#[derive(Clone)]
pub(crate) struct Policies<K> {
    pub(crate) key: K,
    pub(crate) limiter: Arc<Limiter>,
    pub(crate) more: Vec<Policy>,
    pub(crate) cost: Option<OfHead<u32>>,
    pub(crate) exempt: Option<OfHead<bool>>,
    pub(crate) in_flight: Option<Arc<InFlight>>,
    /// Where quotas are kept, if not here.
    pub(crate) shared: Option<Arc<Shared>>,
    /// Of a store that there may be.
    pub(crate) observe: Option<Observe>,
}

type OfHead<T> = Arc<dyn Fn(&Parts) -> T + Send + Sync>;

/// What a policy decided.
pub(crate) type Said = (Arc<Limiter>, RateLimitDecision);

/// A policy and the key that it counts.
pub(crate) type Counted = (Arc<Limiter>, Fingerprint);

/// One of several, whose key is of any type.
#[derive(Clone)]
pub(crate) struct Policy {
    pub(crate) key: Arc<dyn AnyKey>,
    pub(crate) limiter: Arc<Limiter>,
}

/// A [`RequestKey`] of any type.
pub(crate) trait AnyKey: Send + Sync {
    fn fingerprint(&self, head: &Parts, limiter: &Limiter) -> Result<Option<Fingerprint>, MissingKey>;

    /// The same for a store, too.
    fn charge(
        &self,
        head: &Parts,
        limiter: &Limiter,
        cost: NonZeroU32,
    ) -> Result<Option<(Fingerprint, Charge)>, MissingKey>;
}

impl<K> AnyKey for K
where
    K: RequestKey + Send + Sync,
{
    fn fingerprint(&self, head: &Parts, limiter: &Limiter) -> Result<Option<Fingerprint>, MissingKey> {
        Ok(self.key(head)?.map(|key| limiter.fingerprint(&key)))
    }

    fn charge(
        &self,
        head: &Parts,
        limiter: &Limiter,
        cost: NonZeroU32,
    ) -> Result<Option<(Fingerprint, Charge)>, MissingKey> {
        Ok(self.key(head)?.map(|key| (limiter.fingerprint(&key), limiter.charge(&key, cost))))
    }
}

/// What comes of a request.
pub(crate) enum Checked {
    /// It is not limited.
    Unlimited,
    Decided(Verdict),
    /// A store is to say.
    Asked(Question),
}

/// What came of it.
pub(crate) struct Verdict {
    pub(crate) decision: RateLimitDecision,
    /// What each policy says, where there are several.
    pub(crate) each: Option<Box<[Said]>>,
    /// The one that decided.
    pub(crate) limiter: Arc<Limiter>,
    pub(crate) permit: Option<Box<Permit>>,
}

impl Verdict {
    pub(crate) fn new(decision: RateLimitDecision, limiter: &Arc<Limiter>) -> Self {
        Self { decision, each: None, limiter: Arc::clone(limiter), permit: None }
    }

    /// The tightest of what the policies say; `None` if there is none.
    pub(crate) fn of(each: Vec<Said>) -> Option<Self> {
        let (limiter, decision) = each.iter().max_by_key(|(_, decision)| decision.tightness())?;
        let verdict = Self::new(*decision, limiter);
        Some(Self { each: (each.len() > 1).then(|| each.into()), ..verdict })
    }
}

impl<K: RequestKey> Policies<K> {
    /// Counts one request, unless a policy denies it.
    pub(crate) fn check(&self, head: &Parts) -> Checked {
        if self.exempt.as_ref().is_some_and(|exempt| exempt(head)) {
            return Checked::Unlimited;
        }
        let cost = match self.cost.as_ref().map(|cost| NonZeroU32::new(cost(head))) {
            None => NonZeroU32::MIN,
            Some(Some(cost)) => cost,
            Some(None) => return Checked::Unlimited,
        };
        let key = match self.key.key(head) {
            Ok(key) => key,
            Err(missing) => return self.unkeyed(missing),
        };
        if !self.more.is_empty() || self.in_flight.is_some() || self.shared.is_some() {
            return self.check_further(head, key, cost);
        }
        match key {
            None => Checked::Unlimited,
            Some(key) => {
                let decision = self.limiter.check(self.limiter.fingerprint(&key), cost);
                Checked::Decided(Verdict::new(decision, &self.limiter))
            }
        }
    }

    /// Where one policy and this process are not all that there is.
    fn check_further(&self, head: &Parts, key: Option<K::Key>, cost: NonZeroU32) -> Checked {
        let permit = match (&self.in_flight, &key) {
            (Some(in_flight), Some(key)) => match in_flight.enter(self.limiter.fingerprint(key)) {
                Some(permit) => Some(Box::new(permit)),
                None => {
                    return Checked::Decided(Verdict::new(RateLimitDecision::TooManyInFlight, &self.limiter));
                }
            },
            _ => None,
        };
        let checked = match &self.shared {
            None => self.check_here(head, key, cost),
            Some(shared) => self.ask(shared, head, key, cost),
        };
        match checked {
            Ok(Checked::Decided(verdict)) => Checked::Decided(Verdict { permit, ..verdict }),
            Ok(Checked::Asked(question)) => Checked::Asked(question.with(permit)),
            Ok(Checked::Unlimited) => Checked::Unlimited,
            Err(missing) => self.unkeyed(missing),
        }
    }

    fn check_here(&self, head: &Parts, key: Option<K::Key>, cost: NonZeroU32) -> Result<Checked, MissingKey> {
        let mut counted = Vec::with_capacity(1 + self.more.len());
        counted.extend(key.map(|key| (Arc::clone(&self.limiter), self.limiter.fingerprint(&key))));
        for Policy { key, limiter } in &self.more {
            counted.extend(key.fingerprint(head, limiter)?.map(|key| (Arc::clone(limiter), key)));
        }
        Ok(check_all(counted, cost).map_or(Checked::Unlimited, Checked::Decided))
    }

    fn ask(
        &self,
        shared: &Arc<Shared>,
        head: &Parts,
        key: Option<K::Key>,
        cost: NonZeroU32,
    ) -> Result<Checked, MissingKey> {
        let mut counted = Vec::with_capacity(1 + self.more.len());
        let mut charges = Vec::with_capacity(1 + self.more.len());
        if let Some(key) = key {
            counted.push((Arc::clone(&self.limiter), self.limiter.fingerprint(&key)));
            charges.push(self.limiter.charge(&key, cost));
        }
        for Policy { key, limiter } in &self.more {
            if let Some((key, charge)) = key.charge(head, limiter, cost)? {
                counted.push((Arc::clone(limiter), key));
                charges.push(charge);
            }
        }
        Ok(match charges.is_empty() {
            true => Checked::Unlimited,
            false => Checked::Asked(Question::new(shared, &charges, counted, cost)),
        })
    }

    fn unkeyed(&self, missing: MissingKey) -> Checked {
        Checked::Decided(Verdict::new(RateLimitDecision::Unkeyed(missing), &self.limiter))
    }
}

/// All of them have to let it in, and none is charged if one does not. `None` if there is none.
pub(crate) fn check_all(counted: Vec<Counted>, cost: NonZeroU32) -> Option<Verdict> {
    let mut decisions: Vec<_> = counted.iter().map(|(limiter, key)| limiter.check(*key, cost)).collect();
    if decisions.iter().any(RateLimitDecision::refuses) {
        for ((limiter, key), decision) in counted.iter().zip(&mut decisions) {
            if let RateLimitDecision::Allowed { remaining } = decision {
                limiter.give_back(*key, cost);
                *remaining = remaining.saturating_add(cost.get()).min(limiter.burst());
            }
        }
    }
    Verdict::of(counted.into_iter().map(|(limiter, _)| limiter).zip(decisions).collect())
}

impl<K: fmt::Debug> fmt::Debug for Policies<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limiters: Vec<_> =
            std::iter::once(&self.limiter).chain(self.more.iter().map(|more| &more.limiter)).collect();
        f.debug_struct("Policies")
            .field("key", &self.key)
            .field("limiters", &limiters)
            .field("in_flight", &self.in_flight)
            .field("shared", &self.shared)
            .finish_non_exhaustive()
    }
}
