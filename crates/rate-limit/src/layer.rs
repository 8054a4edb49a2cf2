//! The layer and its settings.

use std::sync::Arc;

use governor::clock::Clock;
use tower_layer::Layer;

use crate::fields::{PolicyName, PolicyNameError};
use crate::key::ClientKey;
use crate::limiter::Limiter;
use crate::quota::Quota;
use crate::service::RateLimitService;
use crate::time::Time;

/// Answers 429 to requests that are beyond a quota.
///
/// All clones of a layer, and all services made by them, count together.
#[derive(Debug)]
#[must_use]
pub struct RateLimitLayer<K = ClientKey> {
    settings: Arc<Settings<K>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Settings<K> {
    pub(crate) key: K,
    pub(crate) shadow: bool,
    pub(crate) limiter: Arc<Limiter>,
}

impl RateLimitLayer {
    /// Gives each client this quota.
    pub fn new(quota: Quota) -> Self {
        let limiter = Limiter::new(quota, PolicyName::default(), KEYS, Time::system());
        Self::from_settings(Settings { key: ClientKey::default(), shadow: false, limiter: Arc::new(limiter) })
    }
}

impl<K> RateLimitLayer<K> {
    fn from_settings(settings: Settings<K>) -> Self {
        Self { settings: Arc::new(settings) }
    }
}

impl<K: Clone> RateLimitLayer<K> {
    /// Gives each `key` the quota, instead of each client: a [`ClientKey`] with other prefixes, or any closure over
    /// the head of the request. See [`RequestKey`](crate::RequestKey).
    pub fn key<L>(self, key: L) -> RateLimitLayer<L> {
        let Settings { key: _, shadow, limiter } = Arc::unwrap_or_clone(self.settings);
        RateLimitLayer::from_settings(Settings { key, shadow, limiter })
    }

    /// Whether to let everything pass, tell the client nothing, and only leave what would have been decided in the
    /// response: [`RateLimitDecision::Shadowed`](crate::RateLimitDecision::Shadowed).
    pub fn shadow(self, shadow: bool) -> Self {
        let settings = Arc::unwrap_or_clone(self.settings);
        Self::from_settings(Settings { shadow, ..settings })
    }

    /// Calls the quota by this name in the header fields, so that the client can tell several apart; `default` by
    /// default. Counts from zero.
    ///
    /// # Errors
    ///
    /// If the name is empty, longer than 64 bytes, or holds anything but printable ASCII without `"` and `\`.
    pub fn name(self, name: &str) -> Result<Self, PolicyNameError> {
        let name = PolicyName::new(name)?;
        Ok(self.limiter(|limiter| limiter.named(name)))
    }

    /// Keeps the state of so many keys at the most, rounded up to a power of two, at 16 bytes each; 524,288 by default,
    /// which is 8 MiB. It begins with 256 KiB and grows only while more keys than that have requests to their name.
    /// Counts from zero.
    ///
    /// Beyond that, the key that has the least to lose starts afresh: nobody is refused.
    pub fn max_keys(self, keys: usize) -> Self {
        self.limiter(|limiter| limiter.sized(keys))
    }

    /// Asks `clock` for the time. Counts from zero.
    pub fn clock<C>(self, clock: C) -> Self
    where
        C: Clock + Send + Sync + 'static,
    {
        let time = Time::given(clock);
        self.limiter(|limiter| limiter.timed(time))
    }

    fn limiter(self, change: impl FnOnce(&Limiter) -> Limiter) -> Self {
        let settings = Arc::unwrap_or_clone(self.settings);
        Self::from_settings(Settings { limiter: Arc::new(change(&settings.limiter)), ..settings })
    }
}

impl<K> Clone for RateLimitLayer<K> {
    fn clone(&self) -> Self {
        Self { settings: Arc::clone(&self.settings) }
    }
}

impl<S, K> Layer<S> for RateLimitLayer<K> {
    type Service = RateLimitService<S, K>;

    fn layer(&self, inner: S) -> Self::Service {
        RateLimitService::new(inner, Arc::clone(&self.settings))
    }
}

// Far more than the clients that a server has at a time.
const KEYS: usize = 1 << 19;
