//! The shared store of quotas in Redis or Valkey.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rproxy_rate_limit::{RateLimitLayerBuilder, RedisStore, RedisUrlError, StoreError};

use crate::config::{Config, RateLimitFallback, RateLimitStorage};
use crate::log_throttle::LogThrottle;

/// Adds the store to the layer, if the settings have one.
pub(super) fn add(
    builder: RateLimitLayerBuilder,
    config: &Config,
) -> Result<(RateLimitLayerBuilder, Option<RedisStore>), RedisUrlError> {
    let RateLimitStorage::Redis(url) = &config.rate_limit_store else { return Ok((builder, None)) };
    let store = RedisStore::new(url.expose())?.timeout(config.rate_limit_store_timeout);
    let health = StoreHealth::new(config.rate_limit_fallback);
    let fallback = config.rate_limit_fallback.to_fallback();
    let builder = builder.store(store.clone(), fallback).on_store_result(move |result| health.observe(result));
    Ok((builder, Some(store)))
}

/// Logs the failures and the recovery of the store.
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
                if let Some(suppressed) = self.failures.permit_at(Instant::now()) {
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
                    && self.recoveries.permit_at(Instant::now()).is_some()
                {
                    tracing::info!("the store of rate limits answers");
                }
            }
        }
    }
}
