//! The configuration of a cache layer.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, response};

use crate::cache_status::ForwardReason;
use crate::clock::Clock;
use crate::hooks::Hooks;
use crate::key::CacheKey;
use crate::paths::CachePaths;
use crate::policy::freshness::{Basis, Freshness, FreshnessNow};
use crate::policy::no_vary_search::SearchVariance;
use crate::policy::request_directives::RequestDirectives;
use crate::policy::reuse::Reuse;
use crate::query::is_unambiguous;
use crate::set_cookie::SetCookiePolicy;
use crate::store::CacheStore;

/// The configuration that a cache layer shares with its services.
#[derive(Clone)]
pub(crate) struct Config {
    pub(crate) store: CacheStore,
    pub(crate) paths: CachePaths,
    /// The maximum size of a stored body in bytes.
    pub(crate) max_object: u64,
    /// The maximum staleness, in seconds, of a response that is served while the origin is unreachable.
    pub(crate) stale_when_unreachable: u64,
    /// The maximum time that a follower waits for the leader's response.
    pub(crate) coalesce_timeout: Duration,
    pub(crate) unreachable_when: Option<UnreachableHook>,
    /// A plain function, because each layer has this configuration.
    pub(crate) store_unless: Option<fn(&response::Parts) -> bool>,
    /// A type-erased `fn() -> B` that returns an empty request body of type `B`.
    pub(crate) empty_body: Option<Arc<dyn Any + Send + Sync>>,
    pub(crate) set_cookie: SetCookiePolicy,
    /// Whether the cache uses heuristic freshness (RFC 9111 §4.2.2).
    pub(crate) heuristic_freshness: bool,
    /// Whether request directives such as `no-cache` can bypass a fresh response (RFC 9111 §5.2.1).
    pub(crate) request_directives: bool,
    /// Whether the cache honours the response field `No-Vary-Search`.
    pub(crate) no_vary_search: bool,
    /// Whether `Cache-Status` contains the cache key.
    pub(crate) status_key: bool,
    pub(crate) hooks: Hooks,
    pub(crate) clock: Clock,
}

/// A function that decides whether a response means that the origin was unreachable.
pub(crate) type UnreachableHook = Arc<dyn Fn(&response::Parts) -> bool + Send + Sync>;

impl Config {
    pub(crate) fn new(store: CacheStore) -> Self {
        Self {
            store,
            paths: CachePaths::all(),
            max_object: 8 << 20,
            stale_when_unreachable: 24 * 60 * 60,
            coalesce_timeout: Duration::from_secs(5),
            unreachable_when: None,
            store_unless: None,
            empty_body: None,
            set_cookie: SetCookiePolicy::default(),
            heuristic_freshness: false,
            request_directives: false,
            no_vary_search: false,
            status_key: false,
            hooks: Hooks::default(),
            clock: Clock::default(),
        }
    }

    /// Returns the cache directives of a request that the cache honours.
    pub(crate) fn honoured_directives(&self, request: &HeaderMap) -> RequestDirectives {
        let directives = RequestDirectives::from_headers(request);
        if self.request_directives { directives } else { directives.without_freshness_demands() }
    }

    /// Returns whether a stored response is fresh, stale but usable, or unusable for a request.
    ///
    /// An estimated lifetime counts only while estimates are enabled: a disk can hold responses that were stored under another
    /// configuration.
    pub(crate) fn reuse(&self, stored: &Freshness, now: FreshnessNow, request: &RequestDirectives) -> Reuse {
        if stored.basis == Basis::Heuristic && !self.heuristic_freshness {
            return Reuse::Forward(ForwardReason::Stale);
        }
        Reuse::decide(stored, now, request)
    }

    /// Whether the cache can repeat a request whose response is unusable.
    pub(crate) fn can_repeat_requests(&self) -> bool {
        self.empty_body.is_some()
    }

    /// Returns an empty request body, if the cache can create one of type `B`.
    pub(crate) fn empty_body<B: 'static>(&self) -> Option<B> {
        let make = self.empty_body.as_ref()?.downcast_ref::<fn() -> B>()?;
        Some(make())
    }

    /// Whether a response from the inner service means that the origin was unreachable.
    pub(crate) fn is_unreachable(&self, response: &response::Parts) -> bool {
        self.unreachable_when.as_ref().is_some_and(|hook| hook(response))
    }

    /// Whether a response from the inner service is excluded from the store.
    pub(crate) fn is_excluded(&self, response: &response::Parts) -> bool {
        self.store_unless.is_some_and(|hook| hook(response))
    }

    /// Returns the cache key shared by all queries that are equivalent to `key` under `No-Vary-Search`.
    ///
    /// A response that is stored under `key` itself takes precedence.
    pub(crate) fn equivalent_key(&self, key: &CacheKey) -> Option<CacheKey> {
        if !self.no_vary_search || !key.query().is_none_or(is_unambiguous) {
            return None;
        }
        let equivalent = self.store.search_variances().equivalent_key(key)?;
        let is_preferred = self.store.contains(equivalent.as_str()) || !self.store.contains(key.as_str());
        is_preferred.then_some(equivalent)
    }

    /// Returns the cache key for a response with `No-Vary-Search`, and records its equivalent queries.
    pub(crate) fn storage_key(&self, request_key: &CacheKey, headers: &HeaderMap) -> Option<CacheKey> {
        if !self.no_vary_search || !request_key.query().is_none_or(is_unambiguous) {
            return None;
        }
        let variance = SearchVariance::from_headers(headers)?;
        Some(self.store.search_variances().record(request_key, variance))
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("store", &self.store)
            .field("paths", &self.paths)
            .field("max_object", &self.max_object)
            .field("stale_when_unreachable", &self.stale_when_unreachable)
            .field("coalesce_timeout", &self.coalesce_timeout)
            .field("set_cookie", &self.set_cookie)
            .field("heuristic_freshness", &self.heuristic_freshness)
            .field("request_directives", &self.request_directives)
            .field("no_vary_search", &self.no_vary_search)
            .field("status_key", &self.status_key)
            .field("hooks", &self.hooks)
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}
