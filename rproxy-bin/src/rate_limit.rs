//! Builds the rate limit that a configuration describes.

#[cfg(feature = "redis")]
mod store;

use rproxy_client_ip::ClientIp;
use rproxy_rate_limit::{ClientKey, Quota, RateLimitLayer, RateLimitLayerBuilder, RateLimitLayerError, original_uri};
#[cfg(feature = "redis")]
use rproxy_rate_limit::{RedisStore, RedisUrlError};

use crate::config::Config;

/// The rate limit layer and its store.
#[derive(Clone, Debug)]
pub(crate) struct RateLimit {
    pub(crate) layer: RateLimitLayer,
    /// `None` if quotas are stored in the memory of the process.
    #[cfg(feature = "redis")]
    pub(crate) store: Option<RedisStore>,
}

/// An error in the rate limit settings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RateLimitError {
    /// The URL of the store is invalid.
    #[cfg(feature = "redis")]
    #[error(transparent)]
    Store(#[from] RedisUrlError),
    /// The quotas or their names are invalid.
    #[error(transparent)]
    Layer(#[from] RateLimitLayerError),
}

impl RateLimit {
    pub(crate) fn new(config: &Config) -> Result<Self, RateLimitError> {
        let quota = Quota::per_second(config.rate_limit.get()).burst(config.rate_burst.get());
        let mut builder = RateLimitLayer::builder(quota)
            .key(ClientKey::default().ipv6_prefix(config.rate_ipv6_prefix))
            .shadow(config.rate_shadow);
        for tier in config.rate_ipv6_tiers.iter() {
            builder = builder.ipv6_tier(tier.prefix, Quota::per_second(tier.rate.get()).burst(tier.burst.get()));
        }
        if let Some(most) = config.rate_max_in_flight {
            builder = builder.max_in_flight(most.get());
        }
        #[cfg(feature = "redis")]
        let (builder, store) = store::add(builder, config)?;
        Ok(Self {
            layer: exempt(builder, config).build()?,
            #[cfg(feature = "redis")]
            store,
        })
    }
}

fn exempt(builder: RateLimitLayerBuilder, config: &Config) -> RateLimitLayerBuilder {
    let clients = config.rate_exempt.value().clone();
    let Some(paths) = config.rate_exempt_paths.clone() else {
        if clients.is_empty() {
            return builder;
        }
        return builder.exempt(move |head| is_exempt(head.extensions.get(), &clients));
    };
    builder.exempt(move |head| paths.contains(original_uri(head).path()) || is_exempt(head.extensions.get(), &clients))
}

fn is_exempt(client: Option<&ClientIp>, clients: &rproxy_client_ip::TrustedProxies) -> bool {
    client.is_some_and(|client| clients.contains(client.0))
}
