//! The layer and its settings.

use std::sync::Arc;
use std::time::Duration;

use governor::clock::Clock;
use http::request::Parts;
use tower_layer::Layer;

use crate::fields::{PolicyName, PolicyNameError};
use crate::in_flight::InFlight;
use crate::key::{ClientKey, RequestKey};
use crate::limiter::{Limiter, Plan};
use crate::policies::{Policies, Policy};
use crate::question::{Observe, Shared};
use crate::quota::Quota;
use crate::service::RateLimitService;
use crate::store::{Fallback, RateLimitStore, StoreError};
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
    pub(crate) policies: Policies<K>,
    pub(crate) shadow: bool,
}

impl RateLimitLayer {
    /// Gives each client this quota.
    pub fn new(quota: Quota) -> Self {
        let plan = Plan {
            quota,
            name: PolicyName::default(),
            keys: KEYS,
            time: Time::system(),
            jitter: Duration::ZERO,
            legacy: false,
        };
        let limiter = Arc::new(Limiter::new(plan));
        let policies = Policies {
            key: ClientKey::default(),
            limiter,
            more: Vec::new(),
            cost: None,
            exempt: None,
            in_flight: None,
            shared: None,
            observe: None,
        };
        Self::from_settings(Settings { policies, shadow: false })
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
    pub fn key<L: RequestKey>(self, key: L) -> RateLimitLayer<L> {
        let Settings { policies, shadow } = Arc::unwrap_or_clone(self.settings);
        let Policies { key: _, limiter, more, cost, exempt, in_flight, shared, observe } = policies;
        let policies = Policies { key, limiter, more, cost, exempt, in_flight, shared, observe };
        RateLimitLayer::from_settings(Settings { policies, shadow })
    }

    /// Gives each `key` this quota as well. A request passes if all of its policies let it, and is charged to none of
    /// them if one does not.
    ///
    /// ```
    /// use http::request::Parts;
    /// use rproxy_rate_limit::{PolicyNameError, Quota, RateLimitLayer};
    ///
    /// fn main() -> Result<(), PolicyNameError> {
    ///     // Each client has its quota; searching, all of them together have another.
    ///     let layer = RateLimitLayer::new(Quota::per_second(100).burst(200)).policy(
    ///         "search",
    ///         Quota::per_second(50),
    ///         |head: &Parts| head.uri.path().starts_with("/search").then_some("search"),
    ///     )?;
    ///     # let _ = layer;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`name`](Self::name).
    pub fn policy<L>(self, name: &str, quota: Quota, key: L) -> Result<Self, PolicyNameError>
    where
        L: RequestKey + Send + Sync + 'static,
    {
        let name = PolicyName::new(name)?;
        Ok(self.with_policy(name, quota, key))
    }

    /// Gives each IPv6 network of this prefix length the quota as well: a tier. Whoever has a /48 has 65,536 clients by
    /// /64, and is held to what the tier of /48 has for all of them. IPv4 clients are not counted in it. It is the
    /// policy `ipv6/48`.
    ///
    /// ```
    /// use rproxy_rate_limit::{Quota, RateLimitLayer};
    ///
    /// let layer = RateLimitLayer::new(Quota::per_second(100).burst(200))
    ///     .ipv6_tier(56, Quota::per_second(400).burst(800))
    ///     .ipv6_tier(48, Quota::per_second(1600).burst(3200));
    /// # let _ = layer;
    /// ```
    pub fn ipv6_tier(self, prefix: u8, quota: Quota) -> Self {
        let networks = ClientKey::default().ipv6_prefix(prefix).ipv6_only();
        self.with_policy(PolicyName::of_tier(prefix), quota, networks)
    }

    fn with_policy<L>(self, name: PolicyName, quota: Quota, key: L) -> Self
    where
        L: RequestKey + Send + Sync + 'static,
    {
        self.policies(|policies| {
            let limiter = Limiter::new(Plan { quota, name, ..policies.limiter.plan().clone() });
            policies.more.push(Policy { key: Arc::new(key), limiter: Arc::new(limiter) });
        })
    }

    /// Lets each key have so many requests in progress at once; more are answered 429. A request is in progress until
    /// the body of its answer has ended, or the client has gone away; one that was upgraded no longer is. Only requests
    /// that are counted have to do with it, and it counts in this process alone, whatever the [store](Self::store).
    /// Memory: an entry of some 32 bytes for each key that has a request in progress.
    pub fn max_in_flight(self, most: u32) -> Self {
        self.policies(|policies| policies.in_flight = Some(Arc::new(InFlight::new(most))))
    }

    /// Keeps quotas in `store`, to share them with other processes. What becomes of requests that it does not answer
    /// is up to `fallback`; [`Fallback::Local`] counts them here.
    pub fn store(self, store: impl RateLimitStore, fallback: Fallback) -> Self {
        self.policies(|policies| {
            let observe = policies.observe.clone();
            policies.shared = Some(Arc::new(Shared { store: Arc::new(store), fallback, observe }));
        })
    }

    /// Tells `observe` of each answer of the [store](Self::store), and of each that it does not give: for logs and
    /// metrics. It is called on the path of a request.
    pub fn observe_store<F>(self, observe: F) -> Self
    where
        F: Fn(Result<(), &StoreError>) + Send + Sync + 'static,
    {
        let observe: Observe = Arc::new(observe);
        self.policies(|policies| {
            if let Some(shared) = &mut policies.shared {
                Arc::make_mut(shared).observe = Some(Arc::clone(&observe));
            }
            policies.observe = Some(observe);
        })
    }

    /// Counts a request as so many, by its head. Zero is not counted at all, and more than the burst is the whole
    /// burst.
    pub fn cost<F>(self, cost: F) -> Self
    where
        F: Fn(&Parts) -> u32 + Send + Sync + 'static,
    {
        self.policies(|policies| policies.cost = Some(Arc::new(cost)))
    }

    /// Lets pass, uncounted, whatever `exempt` says of the head of the request: addresses of one's own, a path for
    /// health checks.
    pub fn exempt<F>(self, exempt: F) -> Self
    where
        F: Fn(&Parts) -> bool + Send + Sync + 'static,
    {
        self.policies(|policies| policies.exempt = Some(Arc::new(exempt)))
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
        Ok(self.policies(|policies| policies.limiter = Arc::new(policies.limiter.changed(|plan| plan.name = name))))
    }

    /// Adds up to so much to the time that a client is told to wait, at random, so that those that were refused
    /// together do not come back together. Counts from zero.
    pub fn jitter(self, most: Duration) -> Self {
        self.limiters(|plan| plan.jitter = most)
    }

    /// Whether to send `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset`, too, for clients that
    /// know nothing else; the last is in seconds from now. Counts from zero.
    pub fn legacy_fields(self, send: bool) -> Self {
        self.limiters(|plan| plan.legacy = send)
    }

    /// Keeps the state of so many keys at the most, rounded up to a power of two, at 16 bytes each; 524,288 by default,
    /// which is 8 MiB. It begins with 256 KiB and grows only while more keys than that have requests to their name.
    /// Counts from zero.
    ///
    /// Beyond that, the key that has the least to lose starts afresh: nobody is refused. Each
    /// [policy](Self::policy) has a table of its own.
    pub fn max_keys(self, keys: usize) -> Self {
        self.limiters(|plan| plan.keys = keys)
    }

    /// Asks `clock` for the time. Counts from zero.
    pub fn clock<C>(self, clock: C) -> Self
    where
        C: Clock + Send + Sync + 'static,
    {
        let time = Time::given(clock);
        self.limiters(|plan| plan.time = time.clone())
    }

    fn policies(self, change: impl FnOnce(&mut Policies<K>)) -> Self {
        let mut settings = Arc::unwrap_or_clone(self.settings);
        change(&mut settings.policies);
        Self::from_settings(settings)
    }

    fn limiters(self, change: impl Fn(&mut Plan)) -> Self {
        self.policies(|policies| {
            policies.limiter = Arc::new(policies.limiter.changed(&change));
            for more in &mut policies.more {
                more.limiter = Arc::new(more.limiter.changed(&change));
            }
        })
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
