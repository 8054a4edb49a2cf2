//! What a request is counted against: one policy, or several at once.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use http::request::Parts;

use crate::decision::RateLimitDecision;
use crate::key::{MissingKey, RequestKey};
use crate::limiter::Limiter;
use crate::table::Fingerprint;

/// The policies of a layer, and whom they spare.
#[derive(Clone)]
pub(crate) struct Policies<K> {
    pub(crate) key: K,
    pub(crate) limiter: Arc<Limiter>,
    pub(crate) more: Vec<Policy>,
    pub(crate) cost: Option<OfHead<u32>>,
    pub(crate) exempt: Option<OfHead<bool>>,
}

type OfHead<T> = Arc<dyn Fn(&Parts) -> T + Send + Sync>;

/// What a policy decided.
pub(crate) type Said = (Arc<Limiter>, RateLimitDecision);

/// One of several, whose key is of any type.
#[derive(Clone)]
pub(crate) struct Policy {
    pub(crate) key: Arc<dyn AnyKey>,
    pub(crate) limiter: Arc<Limiter>,
}

/// A [`RequestKey`] of any type.
pub(crate) trait AnyKey: Send + Sync {
    fn fingerprint(&self, head: &Parts, limiter: &Limiter) -> Result<Option<Fingerprint>, MissingKey>;
}

impl<K> AnyKey for K
where
    K: RequestKey + Send + Sync,
{
    fn fingerprint(&self, head: &Parts, limiter: &Limiter) -> Result<Option<Fingerprint>, MissingKey> {
        Ok(self.key(head)?.map(|key| limiter.fingerprint(&key)))
    }
}

/// What came of it.
pub(crate) struct Verdict {
    pub(crate) decision: RateLimitDecision,
    /// What each policy says, where there are several.
    pub(crate) each: Option<Box<[Said]>>,
    /// The one that decided.
    pub(crate) limiter: Arc<Limiter>,
}

impl<K: RequestKey> Policies<K> {
    /// Counts one request, unless a policy denies it; `None` if it is not limited.
    pub(crate) fn check(&self, head: &Parts) -> Option<Verdict> {
        if self.exempt.as_ref().is_some_and(|exempt| exempt(head)) {
            return None;
        }
        let cost = match &self.cost {
            None => NonZeroU32::MIN,
            Some(cost) => NonZeroU32::new(cost(head))?,
        };
        let first = match self.key.key(head) {
            Ok(key) => key.map(|key| self.limiter.fingerprint(&key)),
            Err(missing) => return Some(self.unkeyed(missing)),
        };
        if !self.more.is_empty() {
            return self.check_several(head, first, cost);
        }
        let decision = self.limiter.check(first?, cost);
        Some(Verdict { decision, each: None, limiter: Arc::clone(&self.limiter) })
    }

    /// All of them have to let it in, and none is charged if one does not.
    fn check_several(&self, head: &Parts, first: Option<Fingerprint>, cost: NonZeroU32) -> Option<Verdict> {
        let mut keys = Vec::with_capacity(1 + self.more.len());
        keys.extend(first.map(|key| (&self.limiter, key)));
        for Policy { key, limiter } in &self.more {
            match key.fingerprint(head, limiter) {
                Ok(key) => keys.extend(key.map(|key| (limiter, key))),
                Err(missing) => return Some(self.unkeyed(missing)),
            }
        }
        let mut each: Vec<_> = keys.iter().map(|(limiter, key)| (*limiter, limiter.check(*key, cost))).collect();
        if each.iter().any(|(_, decision)| decision.refuses()) {
            for ((limiter, key), (_, decision)) in keys.iter().zip(&mut each) {
                if let RateLimitDecision::Allowed { remaining } = decision {
                    limiter.give_back(*key, cost);
                    *remaining = remaining.saturating_add(cost.get()).min(limiter.burst());
                }
            }
        }
        let (limiter, decision) = *each.iter().max_by_key(|(_, decision)| decision.tightness())?;
        let each = each.iter().map(|(limiter, decision)| (Arc::clone(limiter), *decision)).collect();
        Some(Verdict { decision, each: Some(each), limiter: Arc::clone(limiter) })
    }

    fn unkeyed(&self, missing: MissingKey) -> Verdict {
        let decision = RateLimitDecision::Unkeyed(missing);
        Verdict { decision, each: None, limiter: Arc::clone(&self.limiter) }
    }
}

impl<K: fmt::Debug> fmt::Debug for Policies<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limiters: Vec<_> =
            std::iter::once(&self.limiter).chain(self.more.iter().map(|more| &more.limiter)).collect();
        f.debug_struct("Policies").field("key", &self.key).field("limiters", &limiters).finish_non_exhaustive()
    }
}
