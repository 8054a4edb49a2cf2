//! The settings of the rate limit per client.

#[cfg(feature = "redis")]
mod store;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use rproxy_cache::{CachePaths, CacheStatus};
use rproxy_client_ip::{ClientIp, TrustedProxies};
use rproxy_rate_limit::{
    ClientKey, Quota, QuotaError, RateLimitLayer, RateLimitLayerBuilder, RateLimitLayerError, original_uri,
};
#[cfg(feature = "redis")]
use rproxy_rate_limit::{RedisStore, RedisUrlError};

use crate::known_rejection::KnownRejection;
use crate::setting::{DURATION, PATHS, SWITCH, settings};
use crate::values::parsed::Parsed;
use crate::values::paths::globs;
use crate::values::rate::Rate;
use crate::values::rate_limit::{Ipv6Tiers, RateLimitFallback, RateLimitStorage};
use crate::values::shared::Shared;
use crate::values::value::{boolean, count, format_duration, ipv6_prefix, rate, timeout};

/// The rejections of the rate limit.
pub(crate) const REJECTIONS: &[KnownRejection] = &[
    KnownRejection::new("rate_limited", "rate_limited")
        .explained("the client exceeded its rate limit; RPROXY_RATE_LIMIT and RPROXY_RATE_BURST set it")
        .logged(),
    KnownRejection::new("rate_limited", "too_many_in_flight")
        .explained("the client has more requests in flight than RPROXY_RATE_MAX_IN_FLIGHT")
        .logged(),
    KnownRejection::new("limiter_unavailable", "limiter_unavailable")
        .explained("the rate limit store does not respond; check RPROXY_RATE_LIMIT_STORE"),
    KnownRejection::new("unkeyed", "unkeyed"),
];

settings! {
    /// The settings of the rate limit per client.
    RateLimitSettings, "Rate limit"

    "rate_limit_enabled" => enabled: bool {
        value: "BOOL",
        default: "true",
        help: "Limits the request rate per client; excess requests get 429",
        accepted: SWITCH,
        scope: Route,
        reload: Live,
        parse: boolean,
        show: |s| Some(s.enabled.to_string()),
    }

    "rate_limit" => rate: Rate {
        value: "RATE",
        default: "100",
        help: "Maximum request rate per client; per second by default, or per minute or hour",
        accepted: "a whole number from 1 to 4294967295, with /min or /h for minutes and hours: 100, 5/min, 1000/h",
        scope: Route,
        reload: Live,
        parse: str::parse,
        show: |s| Some(s.rate.to_string()),
    }

    "rate_burst" => burst: Option<NonZeroU32> {
        value: "NUMBER",
        default: "ten times a rate per second, otherwise the rate" => None,
        help: "Burst: number of requests that a client can send at once",
        accepted: "a whole number from 1 to 4294967295",
        scope: Route,
        reload: Live,
        parse: |t| rate(t).map(Some),
        show: |s| Some(s.burst_size().to_string()),
    }

    "rate_ipv6_prefix" => ipv6_prefix: u8 {
        value: "BITS",
        default: "64",
        help: "Prefix length by which IPv6 addresses count as one client",
        accepted: "a whole number from 1 to 128",
        scope: Route,
        reload: Live,
        parse: ipv6_prefix,
        show: |s| Some(s.ipv6_prefix.to_string()),
    }

    "rate_ipv6_tiers" => ipv6_tiers: Ipv6Tiers {
        value: "TIER,...",
        default: "none" => Ipv6Tiers::default(),
        help: "Additional quotas per IPv6 network, by prefix length, shared by all clients in the network",
        accepted: "comma-separated PREFIX:RATE or PREFIX:RATE:BURST, such as 56:400,48:1600; the default burst is twice the rate",
        scope: Route,
        reload: Live,
        parse: str::parse,
        show: |s| (!s.ipv6_tiers.is_empty()).then(|| s.ipv6_tiers.to_string()),
    }

    "rate_max_in_flight" => max_in_flight: Option<NonZeroU32> {
        value: "NUMBER",
        default: "`0` (no limit)" => None,
        help: "Maximum number of concurrent requests per client; excess requests get 429",
        accepted: "a whole number up to 1000000; 0 for no limit",
        scope: Route,
        reload: Live,
        parse: |t| count(t, 1_000_000).map(NonZeroU32::new),
        show: |s| Some(s.max_in_flight.map_or(0, NonZeroU32::get).to_string()),
    }

    "rate_exempt" => exempt: Parsed<TrustedProxies> {
        value: "RANGE,...",
        default: "none" => Parsed::default(),
        help: "Clients exempt from the rate limit",
        accepted: "comma-separated CIDRs and addresses, or private, loopback, cloudflare, fastly, cloudfront",
        scope: Route,
        reload: Live,
        parse: str::parse,
        show: |s| (!s.exempt.is_empty()).then(|| s.exempt.text().to_owned()),
    }

    "rate_exempt_paths" => exempt_paths: Option<Parsed<CachePaths>> {
        value: "GLOB,...",
        default: "none" => None,
        help: "Paths exempt from the rate limit; an ambiguous path is never exempt",
        accepted: PATHS,
        scope: Route,
        reload: Live,
        parse: |t| globs(t).map(Some),
        show: |s| s.exempt_paths.as_ref().map(|paths| paths.text().to_owned()),
    }

    "rate_count_cache_hits" => count_cache_hits: bool {
        value: "BOOL",
        default: "false",
        help: "Counts responses from the cache towards the rate limit; by default, only requests that reach a backend and rejected requests count",
        accepted: SWITCH,
        scope: Route,
        reload: Live,
        parse: boolean,
        show: |s| Some(s.count_cache_hits.to_string()),
    }

    "rate_shadow" => shadow: bool {
        value: "BOOL",
        default: "false",
        help: "Shadow mode: forwards requests over the limit, and marks them in the access log",
        accepted: SWITCH,
        scope: Route,
        reload: Live,
        parse: boolean,
        show: |s| Some(s.shadow.to_string()),
    }

    "rate_limit_store" => store: RateLimitStorage {
        value: "STORE",
        default: "memory",
        help: "Storage of quotas: the memory of the process, or a Redis or Valkey server that several processes share",
        accepted: "memory, redis://USER:PASSWORD@HOST:PORT/DATABASE or redis+unix:///PATH",
        scope: Process,
        reload: Live,
        parse: str::parse,
        show: |s| Some(s.store.to_string()),
    }

    "rate_limit_fallback" => fallback: RateLimitFallback {
        value: "MODE",
        default: "local",
        help: "Fallback while the rate limit store is unavailable: local limits per process, open allows all requests, closed rejects them with 503",
        accepted: "local, open or closed",
        scope: Process,
        reload: Live,
        parse: str::parse,
        show: |s| Some(s.fallback.to_string()),
    }

    "rate_limit_store_timeout" => store_timeout: Duration {
        value: "DURATION",
        default: "50ms",
        help: "Maximum time to wait for the rate limit store",
        accepted: DURATION,
        scope: Process,
        reload: Live,
        parse: timeout,
        show: |s| Some(format_duration(s.store_timeout)),
    }

    derived {
        /// The site and route that declare the limit.
        scope: QuotaScope,
    }

    rules {
        ["rate_limit_store"] => |s, _| {
            let is_missing = s.store != RateLimitStorage::Memory && !cfg!(feature = "redis");
            is_missing.then(|| "this rproxy was built without the feature redis".to_owned())
        },
        ["rate_ipv6_tiers", "rate_ipv6_prefix"] => |s, c| {
            let tier = s.ipv6_tiers.iter().find(|tier| tier.prefix >= s.ipv6_prefix)?;
            Some(format!(
                "an IPv6 tier of /{} must be larger than the network of one client, which is a /{} by {}",
                tier.prefix,
                c.name("rate_ipv6_prefix"),
                s.ipv6_prefix,
            ))
        },
    }

    idle {
        ["rate_limit_fallback", "rate_limit_store_timeout"] => |s, _| {
            (s.store == RateLimitStorage::Memory).then(|| "quotas are stored in memory".to_owned())
        },
    }
}

/// The site and route that declare a rate limit. Their clients have a separate quota in a shared store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct QuotaScope {
    /// The name of the site, or `None` for the default site.
    site: Option<Arc<str>>,
    /// The name of the route, or `None` for the limit of the site.
    route: Option<Arc<str>>,
}

impl QuotaScope {
    /// Returns the prefix of the keys in the store. The limit of the default site has no name, so that a configuration
    /// without sites keeps its counts when rproxy is upgraded.
    #[cfg(feature = "redis")]
    fn key_prefix(&self) -> String {
        match (self.site.as_deref(), self.route.as_deref()) {
            (None, None) => "rproxy".to_owned(),
            (Some(site), None) => format!("rproxy:{site}"),
            (site, Some(route)) => format!("rproxy:{}:{route}", site.unwrap_or("default")),
        }
    }
}

/// The rate limit layer of a site or route, and the store for quotas.
#[derive(Clone, Debug)]
pub(crate) struct RateLimit {
    pub(crate) layer: RateLimitLayer,
    /// The shared store, or `None` if quotas are stored in the memory of the process.
    #[cfg(feature = "redis")]
    pub(crate) store: Option<RedisStore>,
}

/// An error in the rate limit settings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RateLimitError {
    /// The URL of the rate limit store is invalid.
    #[cfg(feature = "redis")]
    #[error(transparent)]
    Store(#[from] RedisUrlError),
    /// The rate limit quota is invalid.
    #[error(transparent)]
    Quota(#[from] QuotaError),
    /// The quotas conflict, or the name of a quota is invalid.
    #[error(transparent)]
    Layer(#[from] RateLimitLayerError),
}

impl RateLimitSettings {
    /// Returns the burst: the number of requests that a client can send at once.
    pub fn burst_size(&self) -> NonZeroU32 {
        self.burst.unwrap_or_else(|| self.rate.default_burst())
    }

    /// Returns whether the settings need the names of site and route, because a store is shared.
    fn is_shared(&self) -> bool {
        self.store != RateLimitStorage::Memory
    }

    /// Names the site that declares the limit.
    pub(crate) fn name_site(this: &mut Shared<Self>, site: &str) {
        if this.is_shared() {
            this.scope = QuotaScope { site: Some(site.into()), route: None };
        }
    }

    /// Names the route that declares the limit, in the site of which it is.
    pub(crate) fn name_route(this: &mut Shared<Self>, route: &str) {
        if this.is_shared() {
            this.scope.route = Some(route.into());
        }
    }

    pub(crate) fn build(&self) -> Result<RateLimit, RateLimitError> {
        let quota = self.rate.quota().try_burst(self.burst_size().get())?;
        let mut builder =
            RateLimitLayer::builder(quota).key(ClientKey::default().ipv6_prefix(self.ipv6_prefix)).shadow(self.shadow);
        for tier in self.ipv6_tiers.iter() {
            builder = builder.ipv6_tier(tier.prefix, Quota::per_second(tier.rate.get()).burst(tier.burst.get()));
        }
        if !self.count_cache_hits {
            builder = builder.refund(|head| head.extensions.get::<CacheStatus>().is_some_and(|status| status.is_hit()));
        }
        if let Some(max) = self.max_in_flight {
            builder = builder.max_in_flight(max.get());
        }
        #[cfg(feature = "redis")]
        let (builder, store) = store::add(builder, self)?;
        Ok(RateLimit {
            layer: self.add_exemptions(builder).build()?,
            #[cfg(feature = "redis")]
            store,
        })
    }

    fn add_exemptions(&self, builder: RateLimitLayerBuilder) -> RateLimitLayerBuilder {
        let clients = self.exempt.value().clone();
        let is_exempt = |client: Option<&ClientIp>, clients: &TrustedProxies| {
            client.is_some_and(|client| clients.contains(client.0))
        };
        let Some(paths) = self.exempt_paths.clone() else {
            if clients.is_empty() {
                return builder;
            }
            return builder.exempt(move |head| is_exempt(head.extensions.get(), &clients));
        };
        builder
            .exempt(move |head| paths.contains(original_uri(head).path()) || is_exempt(head.extensions.get(), &clients))
    }

    pub(crate) fn describe(&self) -> Option<String> {
        if !self.enabled {
            return None;
        }
        let mut text = format!("RateLimit        {} per client, burst {}", self.rate, self.burst_size());
        if !self.ipv6_tiers.is_empty() {
            text += &format!(", IPv6 networks {}", self.ipv6_tiers);
        }
        if let Some(max) = self.max_in_flight {
            text += &format!(", {max} concurrent");
        }
        if let RateLimitStorage::Redis(_) = self.store {
            text += &format!(", stored in {}, fallback {}", self.store, self.fallback);
        }
        Some(text)
    }
}
