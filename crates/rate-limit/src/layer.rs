//! A tower layer that limits the rate of requests.

use std::sync::Arc;

use tower_layer::Layer;

use crate::builder::RateLimitLayerBuilder;
use crate::config::Config;
use crate::key::ClientKey;
use crate::quota::Quota;
use crate::service::RateLimitService;

/// A layer that rejects requests over their quota with `429 Too Many Requests`.
///
/// All clones of a layer, and all services that it wraps, share their counts.
///
/// # Examples
///
/// ```
/// use rproxy_rate_limit::{Quota, RateLimitLayer};
///
/// let layer = RateLimitLayer::new(Quota::per_second(100).burst(200));
/// # let _ = layer;
/// ```
#[derive(Debug)]
#[must_use]
pub struct RateLimitLayer<K = ClientKey> {
    config: Arc<Config<K>>,
}

impl RateLimitLayer {
    /// Creates a layer that limits each client to this quota.
    ///
    /// A client is an IPv4 address or an IPv6 /64, read from the request extension
    /// [`ClientIp`](rproxy_client_ip::ClientIp).
    pub fn new(quota: Quota) -> Self {
        RateLimitLayerBuilder::new(quota).into_layer()
    }

    /// Returns a builder for a layer with options such as a custom key, several policies, a store or shadow mode.
    ///
    /// # Examples
    ///
    /// ```
    /// use rproxy_rate_limit::{ClientKey, Quota, RateLimitLayer};
    ///
    /// let layer = RateLimitLayer::builder(Quota::per_second(100).burst(200))
    ///     .key(ClientKey::default().ipv6_prefix(56))
    ///     .max_in_flight(20)
    ///     .build()?;
    /// # let _ = layer;
    /// # Ok::<(), rproxy_rate_limit::RateLimitLayerError>(())
    /// ```
    pub fn builder(quota: Quota) -> RateLimitLayerBuilder {
        RateLimitLayerBuilder::new(quota)
    }
}

impl<K> RateLimitLayer<K> {
    pub(crate) fn from_config(config: Config<K>) -> Self {
        Self { config: Arc::new(config) }
    }
}

impl<K> Clone for RateLimitLayer<K> {
    fn clone(&self) -> Self {
        Self { config: Arc::clone(&self.config) }
    }
}

impl<S, K> Layer<S> for RateLimitLayer<K> {
    type Service = RateLimitService<S, K>;

    fn layer(&self, inner: S) -> Self::Service {
        RateLimitService::new(inner, Arc::clone(&self.config))
    }
}
