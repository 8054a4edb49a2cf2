//! The store in Redis or Valkey that processes share for rate limit quotas.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rproxy_rate_limit::{RateLimitLayerBuilder, RedisStore, RedisUrlError, StoreError};

use super::RateLimitSettings;
use crate::log_throttle::LogThrottle;
use crate::values::rate_limit::{RateLimitFallback, RateLimitStorage};

/// Adds the quota store to the layer, if one is configured.
pub(super) fn add(
    builder: RateLimitLayerBuilder,
    settings: &RateLimitSettings,
) -> Result<(RateLimitLayerBuilder, Option<RedisStore>), RedisUrlError> {
    let RateLimitStorage::Redis(url) = &settings.store else { return Ok((builder, None)) };
    let store = RedisStore::new(url.expose())?.timeout(settings.store_timeout).key_prefix(&settings.scope.key_prefix());
    let health = StoreHealth::new(settings.fallback);
    let fallback = settings.fallback.to_fallback();
    let builder = builder.store(store.clone(), fallback).on_store_result(move |result| health.observe(result));
    Ok((builder, Some(store)))
}

/// Logs when the quota store becomes unavailable, and when it is available again.
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
                    let consequence = match self.fallback {
                        RateLimitFallback::Local => "limiting in this process only",
                        RateLimitFallback::Open => "allowing all requests",
                        RateLimitFallback::Closed => "rejecting requests with 503",
                    };
                    tracing::warn!(%error, suppressed, "rate limit store unavailable, {consequence}");
                }
            }
            // A read first, since all workers share this cache line.
            Ok(()) => {
                if self.is_failing.load(Ordering::Relaxed)
                    && self.is_failing.swap(false, Ordering::Relaxed)
                    && self.recoveries.permit_at(Instant::now()).is_some()
                {
                    tracing::info!("rate limit store available again");
                }
            }
        }
    }
}
