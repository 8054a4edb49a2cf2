//! Refunds of charges, which are decided when the response head is available.

use std::num::NonZeroU32;
use std::sync::Arc;

use http::response::Parts;

use crate::key_table::Fingerprint;
use crate::limiter::Limiter;
use crate::policies::PolicyKey;
use crate::store::Charge;
use crate::store_check::StoreConfig;

/// A function that returns whether the response refunds its request.
pub(crate) type RefundFn = Arc<dyn Fn(&Parts) -> bool + Send + Sync>;

/// A charge that the response can refund.
pub(crate) struct Refund {
    pub(crate) is_due: RefundFn,
    pub(crate) cost: NonZeroU32,
    pub(crate) charged: Charged,
}

/// The keys to which a request was charged.
pub(crate) enum Charged {
    Key(Arc<Limiter>, Fingerprint),
    Keys(Box<[PolicyKey]>),
    Store(Arc<StoreConfig>, Vec<Charge>),
}

impl Refund {
    /// Refunds the quota that the request was charged.
    pub(crate) fn apply(self) {
        match self.charged {
            Charged::Key(limiter, key) => limiter.refund(key, self.cost),
            Charged::Keys(keys) => keys.iter().for_each(|(limiter, key)| limiter.refund(*key, self.cost)),
            Charged::Store(config, charges) => config.store.refund(charges, config.observer.clone()),
        }
    }
}
