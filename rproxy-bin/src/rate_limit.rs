//! The rate limit that the settings describe.

use std::sync::atomic::{AtomicBool, Ordering};

use rproxy_client_ip::ClientIp;
use rproxy_rate_limit::{
    ClientKey, Quota, RateLimitLayer, RateLimitLayerBuilder, RateLimitLayerError, RedisStore, RedisUrlError,
    StoreError, original_uri,
};

use crate::config::{Config, RateLimitFallback, RateLimitStorage};
use crate::log_throttle::LogThrottle;

/// The layer, and where it keeps quotas.
#[derive(Clone, Debug)]
pub(crate) struct RateLimit {
    pub(crate) layer: RateLimitLayer,
    /// `None`: in the memory of the process.
    pub(crate) store: Option<RedisStore>,
}

/// The error for rate limit settings that do not make a layer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RateLimitError {
    /// The URL of the store is invalid.
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
        let store = match &config.rate_limit_store {
            RateLimitStorage::Memory => None,
            RateLimitStorage::Redis(url) => {
                Some(RedisStore::new(url.expose())?.timeout(config.rate_limit_store_timeout))
            }
        };
        if let Some(store) = &store {
            let health = StoreHealth::new(config.rate_limit_fallback);
            let fallback = config.rate_limit_fallback.to_fallback();
            builder = builder.store(store.clone(), fallback).on_store_result(move |result| health.observe(result));
        }
        Ok(Self { layer: exempt(builder, config).build()?, store })
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

/// Tells the log when a store fails, and when it no longer does.
struct StoreHealth {
    fallback: RateLimitFallback,
    is_failing: AtomicBool,
    failures: LogThrottle,
    recoveries: LogThrottle,
}

impl StoreHealth {
    fn new(fallback: RateLimitFallback) -> Self {
        Self {
            fallback,
            is_failing: AtomicBool::new(false),
            failures: LogThrottle::default(),
            recoveries: LogThrottle::default(),
        }
    }

    fn observe(&self, answer: Result<(), &StoreError>) {
        match answer {
            Err(error) => {
                self.is_failing.store(true, Ordering::Relaxed);
                if let Some(suppressed) = self.failures.permit() {
                    let until_then = match self.fallback {
                        RateLimitFallback::Local => "this process counts for itself",
                        RateLimitFallback::Open => "requests pass uncounted",
                        RateLimitFallback::Closed => "requests get 503",
                    };
                    tracing::warn!(%error, suppressed, "no answer from the store of rate limits: {until_then}");
                }
            }
            // Read first: it is one line of memory for all workers.
            Ok(()) => {
                if self.is_failing.load(Ordering::Relaxed)
                    && self.is_failing.swap(false, Ordering::Relaxed)
                    && self.recoveries.permit().is_some()
                {
                    tracing::info!("the store of rate limits answers");
                }
            }
        }
    }
}
