//! The [`RateLimitLayerBuilder`] type and its errors.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::Clock;
use http::request::Parts;

use crate::config::Config;
use crate::header_fields::PolicyName;
use crate::in_flight::InFlight;
use crate::key::{ClientKey, RequestKey};
use crate::layer::RateLimitLayer;
use crate::limiter::{Limiter, LimiterConfig};
use crate::policies::{DynKey, HeadFn, Policies, Policy};
use crate::quota::Quota;
use crate::refund::RefundFn;
use crate::store::{RateLimitStore, StoreError, StoreFallback, StoreObserver};
use crate::store_check::StoreConfig;
use crate::time::Time;

/// A builder for [`RateLimitLayer`], created by [`RateLimitLayer::builder`].
#[derive(Clone)]
#[must_use]
pub struct RateLimitLayerBuilder<K = ClientKey> {
    quota: Quota,
    key: K,
    name: PolicyName,
    policies: Vec<PolicySpec>,
    cost: Option<HeadFn<u32>>,
    exempt: Option<HeadFn<bool>>,
    refund: Option<RefundFn>,
    max_in_flight: Option<u32>,
    store: Option<(Arc<dyn RateLimitStore>, StoreFallback)>,
    observer: StoreObserver,
    shadow: bool,
    jitter: Duration,
    legacy_fields: bool,
    max_keys: usize,
    time: Time,
    /// The first error detected by a setter, to be returned by `build`.
    error: Option<RateLimitLayerError>,
}

#[derive(Clone)]
struct PolicySpec {
    name: PolicyName,
    quota: Quota,
    key: Arc<dyn DynKey>,
}

impl RateLimitLayerBuilder {
    pub(crate) fn new(quota: Quota) -> Self {
        Self {
            quota,
            key: ClientKey::default(),
            name: PolicyName::default(),
            policies: Vec::new(),
            cost: None,
            exempt: None,
            refund: None,
            max_in_flight: None,
            store: None,
            observer: StoreObserver::default(),
            shadow: false,
            jitter: Duration::ZERO,
            legacy_fields: false,
            max_keys: DEFAULT_MAX_KEYS,
            time: Time::system(),
            error: None,
        }
    }
}

impl<K> RateLimitLayerBuilder<K> {
    /// Sets the key by which requests are counted; default: the client's address.
    ///
    /// The key is a [`ClientKey`] with other prefixes, or a closure over the request head. See
    /// [`RequestKey`](crate::RequestKey).
    ///
    /// # Examples
    ///
    /// ```
    /// use http::request::Parts;
    /// use rproxy_rate_limit::{Quota, RateLimitLayer};
    ///
    /// let layer = RateLimitLayer::builder(Quota::per_minute(600))
    ///     .key(|head: &Parts| head.headers.get("x-api-key").cloned())
    ///     .build()?;
    /// # let _ = layer;
    /// # Ok::<(), rproxy_rate_limit::RateLimitLayerError>(())
    /// ```
    pub fn key<L: RequestKey>(self, key: L) -> RateLimitLayerBuilder<L> {
        RateLimitLayerBuilder {
            key,
            quota: self.quota,
            name: self.name,
            policies: self.policies,
            cost: self.cost,
            exempt: self.exempt,
            refund: self.refund,
            max_in_flight: self.max_in_flight,
            store: self.store,
            observer: self.observer,
            shadow: self.shadow,
            jitter: self.jitter,
            legacy_fields: self.legacy_fields,
            max_keys: self.max_keys,
            time: self.time,
            error: self.error,
        }
    }

    /// Sets the policy name in the `RateLimit` and `RateLimit-Policy` fields; default `default`.
    ///
    /// Names tell several quotas apart. A name is 1 to 64 printable ASCII characters other than `"` and `\`.
    pub fn name(mut self, name: &str) -> Self {
        match PolicyName::new(name) {
            Some(name) => self.name = name,
            None => self.fail(RateLimitLayerError::InvalidName { name: name.to_owned() }),
        }
        self
    }

    /// Adds a policy: an additional quota with a separate key for the same requests.
    ///
    /// A request is forwarded if all policies allow it. If one rejects it, none is charged for it. The name follows the
    /// rules of [`name`](Self::name).
    ///
    /// # Examples
    ///
    /// Each client has a quota, and all clients share another one for searches:
    ///
    /// ```
    /// use http::request::Parts;
    /// use rproxy_rate_limit::{Quota, RateLimitLayer};
    ///
    /// let layer = RateLimitLayer::builder(Quota::per_second(100).burst(200))
    ///     .policy("search", Quota::per_second(50), |head: &Parts| {
    ///         head.uri.path().starts_with("/search").then_some("search")
    ///     })
    ///     .build()?;
    /// # let _ = layer;
    /// # Ok::<(), rproxy_rate_limit::RateLimitLayerError>(())
    /// ```
    pub fn policy<L>(mut self, name: &str, quota: Quota, key: L) -> Self
    where
        L: RequestKey + Send + Sync + 'static,
    {
        match PolicyName::new(name) {
            Some(name) => self.policies.push(PolicySpec { name, quota, key: Arc::new(key) }),
            None => self.fail(RateLimitLayerError::InvalidName { name: name.to_owned() }),
        }
        self
    }

    /// Adds a quota per IPv6 network with this prefix length.
    ///
    /// A client with a /48 has 65,536 networks of /64, each of which has the quota of a client. A tier of /48 limits all
    /// of them together. IPv4 clients are not counted in it. The policy is named after the prefix: `ipv6/48`.
    ///
    /// # Examples
    ///
    /// ```
    /// use rproxy_rate_limit::{Quota, RateLimitLayer};
    ///
    /// let layer = RateLimitLayer::builder(Quota::per_second(100).burst(200))
    ///     .ipv6_tier(56, Quota::per_second(400).burst(800))
    ///     .ipv6_tier(48, Quota::per_second(1600).burst(3200))
    ///     .build()?;
    /// # let _ = layer;
    /// # Ok::<(), rproxy_rate_limit::RateLimitLayerError>(())
    /// ```
    pub fn ipv6_tier(mut self, prefix: u8, quota: Quota) -> Self {
        if prefix > 128 {
            self.fail(RateLimitLayerError::PrefixTooLong { prefix });
            return self;
        }
        let key = Arc::new(ClientKey::default().ipv6_prefix(prefix).ipv6_only());
        self.policies.push(PolicySpec { name: PolicyName::of_ipv6_tier(prefix), quota, key });
        self
    }

    /// Limits each key to `max` in-flight requests. Excess requests are rejected with 429.
    ///
    /// A request is in flight until its response body ends or the client disconnects. A request that was upgraded, such
    /// as a WebSocket, is no longer in flight. Requests without a key are not limited.
    ///
    /// The limit applies to this process, even with a [store](Self::store). It takes about 32 bytes of memory for each
    /// key with a request in flight.
    pub fn max_in_flight(mut self, max: u32) -> Self {
        self.max_in_flight = Some(max);
        self
    }

    /// Keeps the quotas in `store`, which can be shared by several processes.
    ///
    /// `fallback` decides about requests that the store fails to charge.
    ///
    /// # Examples
    ///
    /// See [`RateLimitStore`].
    pub fn store(mut self, store: impl RateLimitStore, fallback: StoreFallback) -> Self {
        self.store = Some((Arc::new(store), fallback));
        self
    }

    /// Calls `observer` with the result of each request to the [store](Self::store), for logs and metrics.
    ///
    /// The observer runs while the request is processed, so it must not block.
    pub fn on_store_result<F>(mut self, observer: F) -> Self
    where
        F: Fn(Result<(), &StoreError>) + Send + Sync + 'static,
    {
        self.observer = StoreObserver::new(observer);
        self
    }

    /// Sets the function that computes the cost of a request from its head; default cost 1.
    ///
    /// A request of cost 0 is not limited. A cost above the burst counts as the whole burst.
    pub fn cost<F>(mut self, cost: F) -> Self
    where
        F: Fn(&Parts) -> u32 + Send + Sync + 'static,
    {
        self.cost = Some(Arc::new(cost));
        self
    }

    /// Sets the function that returns whether a request, such as a health check, is exempt from the rate limit.
    pub fn exempt<F>(mut self, exempt: F) -> Self
    where
        F: Fn(&Parts) -> bool + Send + Sync + 'static,
    {
        self.exempt = Some(Arc::new(exempt));
        self
    }

    /// Refunds requests whose response satisfies `refund`, such as cache hits.
    ///
    /// A request is charged before it is forwarded, so a client over its quota still gets 429. When the response head
    /// arrives, the charge is reverted under all policies, up to the burst. `RateLimit` and [`RateLimitDecision`] have the
    /// state after the refund. The [in-flight limit](Self::max_in_flight) counts all requests. The response does not
    /// wait for the refund to a [store](Self::store).
    ///
    /// A charge can be replenished before it is refunded, while the response is slow. The refund then adds to a later
    /// burst, by at most one such request.
    ///
    /// [`RateLimitDecision`]: crate::RateLimitDecision
    ///
    /// # Examples
    ///
    /// ```
    /// use rproxy_rate_limit::{Quota, RateLimitLayer};
    ///
    /// // Only failed logins count.
    /// let layer = RateLimitLayer::builder(Quota::per_minute(5))
    ///     .refund(|head| head.status.is_success())
    ///     .build()?;
    /// # let _ = layer;
    /// # Ok::<(), rproxy_rate_limit::RateLimitLayerError>(())
    /// ```
    pub fn refund<F>(mut self, refund: F) -> Self
    where
        F: Fn(&http::response::Parts) -> bool + Send + Sync + 'static,
    {
        self.refund = Some(Arc::new(refund));
        self
    }

    /// Sets whether to forward all requests and only record the decisions; off by default.
    ///
    /// In shadow mode the client gets no header fields. A request that would have been rejected has
    /// [`RateLimitDecision::WouldReject`](crate::RateLimitDecision::WouldReject) in its response.
    pub fn shadow(mut self, shadow: bool) -> Self {
        self.shadow = shadow;
        self
    }

    /// Adds a random time up to `max` to `Retry-After`; default 0.
    ///
    /// Clients that were rejected at the same moment then do not retry at the same moment.
    pub fn jitter(mut self, max: Duration) -> Self {
        self.jitter = max;
        self
    }

    /// Sets whether to also send the `X-RateLimit-*` fields; default `false`.
    ///
    /// These are `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset`, in seconds from now, for clients
    /// that do not know `RateLimit`.
    pub fn legacy_fields(mut self, legacy_fields: bool) -> Self {
        self.legacy_fields = legacy_fields;
        self
    }

    /// Sets the maximum number of keys in memory; default 524,288, which takes 8 MiB.
    ///
    /// The number is rounded up to a power of two, at least 512. A key takes 16 bytes. The first request allocates a
    /// table of 16 KiB, which grows when more keys than it holds have used part of their quota.
    ///
    /// A full table forgets the keys that have used the least of their quota. No request is rejected because the table is
    /// full. Each [policy](Self::policy) has its own table.
    pub fn max_keys(mut self, max: usize) -> Self {
        self.max_keys = max;
        self
    }

    /// Sets the clock, for tests; default: the monotonic system clock.
    pub fn clock<C>(mut self, clock: C) -> Self
    where
        C: Clock + Send + Sync + 'static,
    {
        self.time = Time::custom(clock);
        self
    }

    /// Builds the [`RateLimitLayer`].
    ///
    /// # Errors
    ///
    /// Returns an error if a policy name is invalid or is used twice, or if an IPv6 tier has a prefix longer than 128.
    ///
    /// # Examples
    ///
    /// ```
    /// use rproxy_rate_limit::{Quota, RateLimitLayer, RateLimitLayerError};
    ///
    /// let error = RateLimitLayer::builder(Quota::per_second(100)).name("").build().unwrap_err();
    /// assert!(matches!(error, RateLimitLayerError::InvalidName { .. }));
    /// ```
    pub fn build(self) -> Result<RateLimitLayer<K>, RateLimitLayerError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let names = || std::iter::once(&self.name).chain(self.policies.iter().map(|policy| &policy.name));
        if let Some((_, name)) = names().enumerate().find(|(place, name)| names().take(*place).any(|n| n == *name)) {
            return Err(RateLimitLayerError::DuplicateName { name: name.text().to_string() });
        }
        Ok(self.into_layer())
    }

    /// Builds the layer from valid settings.
    pub(crate) fn into_layer(self) -> RateLimitLayer<K> {
        let limiter = |quota, name: &PolicyName| {
            Arc::new(Limiter::new(LimiterConfig {
                quota,
                name: name.clone(),
                max_keys: self.max_keys,
                time: self.time.clone(),
                jitter: self.jitter,
                legacy_fields: self.legacy_fields,
            }))
        };
        let further = self
            .policies
            .iter()
            .map(|PolicySpec { name, quota, key }| Policy { key: Arc::clone(key), limiter: limiter(*quota, name) });
        let policies = Policies {
            limiter: limiter(self.quota, &self.name),
            further: further.collect(),
            key: self.key,
            cost: self.cost,
            exempt: self.exempt,
            refund: self.refund,
            in_flight: self.max_in_flight.map(|max| Arc::new(InFlight::new(max))),
            store: self
                .store
                .map(|(store, fallback)| Arc::new(StoreConfig { store, fallback, observer: self.observer })),
        };
        RateLimitLayer::from_config(Config { policies, shadow: self.shadow })
    }

    fn fail(&mut self, error: RateLimitLayerError) {
        self.error.get_or_insert(error);
    }
}

impl<K: fmt::Debug> fmt::Debug for RateLimitLayerBuilder<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitLayerBuilder")
            .field("quota", &self.quota)
            .field("key", &self.key)
            .field("name", &self.name)
            .field("shadow", &self.shadow)
            .finish_non_exhaustive()
    }
}

/// The error type of [`RateLimitLayerBuilder::build`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RateLimitLayerError {
    /// The policy name cannot be sent in a header field.
    #[error("bad policy name {name:?}: expected 1 to 64 printable ASCII characters except quotes and backslashes")]
    InvalidName {
        /// The invalid policy name.
        name: String,
    },
    /// Two policies have the same name.
    #[error("duplicate policy name {name:?}: each policy needs a unique name")]
    DuplicateName {
        /// The duplicate policy name.
        name: String,
    },
    /// The prefix of an IPv6 tier is longer than an IPv6 address.
    #[error("bad IPv6 prefix length {prefix}: longer than 128")]
    PrefixTooLong {
        /// The invalid prefix length.
        prefix: u8,
    },
}

// Far more than the clients that a server has at a time.
const DEFAULT_MAX_KEYS: usize = 1 << 19;
