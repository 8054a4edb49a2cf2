//! The cache layer and its settings.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::response;
use tower_layer::Layer;

use crate::clock::Clock;
use crate::config::Config;
use crate::hooks::RequestHead;
use crate::paths::CachePaths;
use crate::query::QueryRules;
use crate::service::CacheService;
use crate::set_cookie::SetCookiePolicy;
use crate::store::CacheStore;

/// A layer that serves stored responses and stores the responses of the inner service.
#[derive(Clone, Debug)]
#[must_use]
pub struct CacheLayer {
    config: Arc<Config>,
}

impl CacheLayer {
    /// Creates a layer that caches all paths in `store`, with response bodies of up to 8 MiB.
    pub fn new(store: CacheStore) -> Self {
        Self { config: Arc::new(Config::new(store)) }
    }

    /// Restricts the cache to requests whose path matches `paths`. Requests for other paths are forwarded unchanged.
    pub fn paths(mut self, paths: CachePaths) -> Self {
        self.config_mut().paths = paths;
        self
    }

    /// Sets the maximum size of a stored response body in bytes. Larger bodies are forwarded and not stored. Default: 8
    /// MiB.
    pub fn max_object(mut self, bytes: u64) -> Self {
        self.config_mut().max_object = bytes;
        self
    }

    /// Sets the maximum staleness of responses that are served while the origin is unreachable. Default: one day; zero
    /// disables it.
    ///
    /// A response that forbids stale use, such as one with `must-revalidate`, is never served this way.
    pub fn stale_when_unreachable(mut self, limit: Duration) -> Self {
        self.config_mut().stale_when_unreachable = limit.as_secs();
        self
    }

    /// Sets the maximum time that a coalesced request waits for the response to a concurrent request. Default: 5 s;
    /// zero disables request coalescing.
    ///
    /// A waiting request is forwarded itself after this time, or as soon as the response turns out to be for one client only.
    /// Coalescing needs a tokio runtime with the timer enabled. Without a runtime, requests do not wait.
    pub fn coalesce_timeout(mut self, timeout: Duration) -> Self {
        self.config_mut().coalesce_timeout = timeout;
        self
    }

    /// Sets a function that decides which responses mean that the origin was unreachable. Default: none.
    ///
    /// An example is the 502 that a proxy below this layer generates itself.
    pub fn unreachable_when(mut self, hook: impl Fn(&response::Parts) -> bool + Send + Sync + 'static) -> Self {
        self.config_mut().unreachable_when = Some(Arc::new(hook));
        self
    }

    /// Sets a function that decides which responses are not stored, although their fields permit it. Default: none.
    ///
    /// An example is a response that a layer below this one reads from a file: a copy in memory would save nothing.
    pub fn store_unless(mut self, hook: fn(&response::Parts) -> bool) -> Self {
        self.config_mut().store_unless = Some(hook);
        self
    }

    /// Allows the cache to repeat a request, with an empty body created by `make`.
    ///
    /// `B` is the type of request bodies of the service. The cache can then forward less than the client requested, and
    /// repeat the original request if the response cannot be used:
    ///
    /// - The forwarded request names the entity tags of up to 16 other variants (RFC 9111 §4.3.1). It is repeated if the
    ///   origin answers 304 without naming one of them. Without this setting, it names one tag.
    /// - The forwarded request is for the missing bytes of an incomplete response (RFC 9111 §3.4). It is repeated if the
    ///   origin sends other bytes. Without this setting, incomplete responses are not completed.
    ///
    /// ```
    /// # use bytes::Bytes;
    /// # use http_body_util::Empty;
    /// # use rproxy_cache::{CacheLayer, CacheStore};
    /// let cache = CacheLayer::new(CacheStore::in_memory(64 << 20)).empty_body(Empty::<Bytes>::new);
    /// ```
    pub fn empty_body<B: 'static>(mut self, make: fn() -> B) -> Self {
        self.config_mut().empty_body = Some(Arc::new(make));
        self
    }

    /// Sets whether responses with `Set-Cookie` are stored, and whether the cookie is stripped. Default:
    /// [`SetCookiePolicy::Strip`].
    pub fn set_cookie(mut self, policy: SetCookiePolicy) -> Self {
        self.config_mut().set_cookie = policy;
        self
    }

    /// Enables heuristic freshness for responses with `Last-Modified` and no lifetime (RFC 9111 §4.2.2). Default: off.
    ///
    /// The estimate is a tenth of the time since `Last-Modified`, and at most one day. It is off by default because many
    /// applications send no caching fields with responses for a single user.
    ///
    /// Even if enabled, it does not apply to the response to a request with credentials (`Cookie`, `Authorization`, `X-Api-Key` and
    /// similar fields), nor to a response that varies by them, unless the response is `public`. A response whose estimated
    /// lifetime has ended is never served without validation.
    pub fn heuristic_freshness(mut self, enabled: bool) -> Self {
        self.config_mut().heuristic_freshness = enabled;
        self
    }

    /// Honours request directives that can bypass a fresh response, such as `no-cache` (RFC 9111 §5.2.1). Default: off.
    ///
    /// These are `no-cache`, `no-store`, `max-age`, `min-fresh`, and `Pragma: no-cache`. With this setting, every client can force the
    /// origin to work.
    ///
    /// `only-if-cached`, `max-stale` and `stale-if-error` are always honoured. If no fresh response is stored, `no-store` always
    /// prevents that the response is stored.
    pub fn request_directives(mut self, enabled: bool) -> Self {
        self.config_mut().request_directives = enabled;
        self
    }

    /// Honours `No-Vary-Search`, so that one stored response serves all equivalent queries. Default: off.
    ///
    /// <https://datatracker.ietf.org/doc/draft-ietf-httpbis-no-vary-search/>
    pub fn no_vary_search(mut self, enabled: bool) -> Self {
        self.config_mut().no_vary_search = enabled;
        self
    }

    /// Adds the cache key to `Cache-Status` (RFC 9211 §2.7), for debugging. Default: off, since clients can read it.
    pub fn status_key(mut self, enabled: bool) -> Self {
        self.config_mut().status_key = enabled;
        self
    }

    /// Sets rules that determine which part of the query belongs to the cache key. Default: all.
    ///
    /// The origin receives the query unchanged. A [`Purge`](crate::Purge) applies the same rules.
    pub fn query(mut self, rules: QueryRules) -> Self {
        self.config_mut().hooks.query = rules;
        self
    }

    /// Sets a hook that replaces the cache key of a request. Its second argument is the default key.
    ///
    /// The result must be a URL; otherwise the request bypasses the cache. A [`Purge`](crate::Purge) finds a response by this URL. Two
    /// requests with the same key get the same response, apart from `Vary`.
    pub fn key(mut self, hook: impl Fn(RequestHead<'_>, &str) -> String + Send + Sync + 'static) -> Self {
        self.config_mut().hooks.key = Some(Arc::new(hook));
        self
    }

    /// Sets a function that decides which additional requests bypass the cache. Default: none.
    pub fn bypass_when(mut self, hook: impl Fn(RequestHead<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.config_mut().hooks.bypass = Some(Arc::new(hook));
        self
    }

    /// Replaces the system clock with `now`, for tests.
    pub fn clock(mut self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.config_mut().clock = Clock::new(now);
        self
    }

    fn config_mut(&mut self) -> &mut Config {
        Arc::make_mut(&mut self.config)
    }
}

impl<S> Layer<S> for CacheLayer {
    type Service = CacheService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CacheService::new(inner, Arc::clone(&self.config))
    }
}
