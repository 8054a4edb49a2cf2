//! The layer and its settings.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, response};
use tower_layer::Layer;

use crate::cache_control::RequestDirectives;
use crate::cache_status::Forwarded;
use crate::clock::Clock;
use crate::freshness::{Basis, Freshness, Moment};
use crate::hooks::{Hooks, RequestHead};
use crate::paths::CachePaths;
use crate::query::QueryRules;
use crate::reuse::Reuse;
use crate::service::CacheService;
use crate::set_cookie::SetCookie;
use crate::store::CacheStore;

/// Answers from a [`CacheStore`] what may be answered from it, and stores what may be stored.
#[derive(Clone, Debug)]
#[must_use]
pub struct CacheLayer {
    settings: Arc<Settings>,
}

#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) store: CacheStore,
    pub(crate) paths: CachePaths,
    pub(crate) max_object: u64,
    pub(crate) stale_when_unreachable: u64,
    /// How long a request waits for the answer to another one.
    pub(crate) collapse: Duration,
    unreachable: Option<Unreachable>,
    /// A `fn() -> B`, where `B` is the body of requests.
    empty_body: Option<Arc<dyn Any + Send + Sync>>,
    pub(crate) set_cookie: SetCookie,
    /// Whether a lifetime may be guessed: RFC 9111 §4.2.2.
    pub(crate) heuristic: bool,
    /// Whether clients may send their requests past a stored response: RFC 9111 §5.2.1.
    pub(crate) request_directives: bool,
    /// Whether responses may say which parts of a query count.
    pub(crate) no_vary_search: bool,
    /// Whether `Cache-Status` names the key.
    pub(crate) status_key: bool,
    pub(crate) hooks: Hooks,
    pub(crate) clock: Clock,
}

type Unreachable = Arc<dyn Fn(&response::Parts) -> bool + Send + Sync>;

impl CacheLayer {
    /// Caches every path in `store`; bodies of up to 8 MiB each.
    pub fn new(store: CacheStore) -> Self {
        let settings = Settings {
            store,
            paths: CachePaths::all(),
            max_object: 8 << 20,
            stale_when_unreachable: 24 * 60 * 60,
            collapse: Duration::from_secs(5),
            unreachable: None,
            empty_body: None,
            set_cookie: SetCookie::default(),
            heuristic: false,
            request_directives: false,
            no_vary_search: false,
            status_key: false,
            hooks: Hooks::default(),
            clock: Clock::default(),
        };
        Self { settings: Arc::new(settings) }
    }

    /// Serves only these paths; requests for others pass by untouched.
    pub fn paths(mut self, paths: CachePaths) -> Self {
        self.settings_mut().paths = paths;
        self
    }

    /// Bodies larger than this pass through unstored.
    pub fn max_object(mut self, bytes: u64) -> Self {
        self.settings_mut().max_object = bytes;
        self
    }

    /// How long past its freshness a response may stand in while the origin can't be reached, if nothing
    /// in it forbids that. A day by default; zero for never.
    pub fn stale_when_unreachable(mut self, limit: Duration) -> Self {
        self.settings_mut().stale_when_unreachable = limit.as_secs();
        self
    }

    /// Requests for what is on its way to another client wait for it so long, and ask for themselves then, or
    /// as soon as it turns out to be for that client alone. 5 s by default; zero asks for everyone.
    ///
    /// Takes a tokio runtime with its timer enabled; without any runtime there is no waiting.
    pub fn collapse(mut self, deadline: Duration) -> Self {
        self.settings_mut().collapse = deadline;
        self
    }

    /// Which responses of the inner service mean that the origin was not reached, as an inner error
    /// does: the 502 that a proxy below makes itself, say. None by default.
    pub fn unreachable_when(mut self, says_so: impl Fn(&response::Parts) -> bool + Send + Sync + 'static) -> Self {
        self.settings_mut().unreachable = Some(Arc::new(says_so));
        self
    }

    /// Lets the cache send a request a second time, with an empty body from `make`.
    ///
    /// `B` is the type of the request body that the service is called with. A request is repeated as the client sent it if
    /// the response to the first one is of no use. So the first one may ask for less than the client did:
    ///
    /// - for the entity-tags of up to 16 other variants (RFC 9111 §4.3.1). It is repeated if the origin answers 304 and does not say
    ///   which of them it means. Without a second body, one tag is sent.
    /// - for the bytes that a stored part lacks (RFC 9111 §3.4). It is repeated if the origin sends others. Without a second
    ///   body, parts are not completed.
    ///
    /// ```
    /// # use bytes::Bytes;
    /// # use http_body_util::Empty;
    /// # use rproxy_cache::{CacheLayer, CacheStore};
    /// let cache = CacheLayer::new(CacheStore::in_memory(64 << 20)).empty_body(Empty::<Bytes>::new);
    /// ```
    pub fn empty_body<B: 'static>(mut self, make: fn() -> B) -> Self {
        self.settings_mut().empty_body = Some(Arc::new(make));
        self
    }

    /// What becomes of `Set-Cookie` in responses that may be stored otherwise. By default it is [stripped](SetCookie::Strip).
    pub fn set_cookie(mut self, policy: SetCookie) -> Self {
        self.settings_mut().set_cookie = policy;
        self
    }

    /// Whether a response with `Last-Modified` and without a lifetime is fresh for a tenth of the time since then, at most a
    /// day (RFC 9111 §4.2.2). Off by default: many applications say nothing about caching of what is for one user alone.
    ///
    /// Even where it is on, no lifetime is guessed for the response to a request with credentials (`Cookie`,
    /// `Authorization`, `X-Api-Key` and the like), or for one that varies by them, unless it is `public`. And a
    /// response whose guessed lifetime has ended is never served without the origin.
    pub fn heuristic_freshness(mut self, enabled: bool) -> Self {
        self.settings_mut().heuristic = enabled;
        self
    }

    /// Whether `no-cache`, `no-store`, `max-age` and `min-fresh` of a request, and `Pragma: no-cache`, send it to the origin
    /// although a fresh response is stored: RFC 9111 §5.2.1. Off by default, as in other caches of origins: with it,
    /// any client can have the origin do its work again, as often as it likes.
    ///
    /// `only-if-cached`, `max-stale` and `stale-if-error` always count, and so does `no-store` where nothing fresh is stored: the
    /// response is not stored then.
    pub fn request_directives(mut self, honoured: bool) -> Self {
        self.settings_mut().request_directives = honoured;
        self
    }

    /// Whether responses may say by `No-Vary-Search` which parts of a query they do not depend on: one of them then
    /// answers all requests whose queries mean the same. Off by default.
    ///
    /// <https://datatracker.ietf.org/doc/draft-ietf-httpbis-no-vary-search/>
    pub fn no_vary_search(mut self, honoured: bool) -> Self {
        self.settings_mut().no_vary_search = honoured;
        self
    }

    /// Whether `Cache-Status` tells the key, too (RFC 9211 §2.7), which helps to find out why something is not a hit. Off by
    /// default: it is nothing for strangers.
    pub fn status_key(mut self, told: bool) -> Self {
        self.settings_mut().status_key = told;
        self
    }

    /// Which parts of a query tell resources apart. All by default. The origin sees the query as it came; a
    /// [`Purge`](crate::Purge) goes by what counts of it.
    pub fn query(mut self, rules: QueryRules) -> Self {
        self.settings_mut().hooks.query = rules;
        self
    }

    /// Under which URL the resource that a request asks for is stored, and found by a [`Purge`](crate::Purge): `key` is
    /// given the one that it would be. What it makes of it has to be a URL again, or else the request passes by.
    ///
    /// Two requests with the same key get the same answer, whatever else is in them, `Vary` aside.
    pub fn key(mut self, key: impl Fn(RequestHead<'_>, &str) -> String + Send + Sync + 'static) -> Self {
        self.settings_mut().hooks.key = Some(Arc::new(key));
        self
    }

    /// Which requests pass by, besides those that are not for a cache anyway. None by default.
    pub fn bypass_when(mut self, bypasses: impl Fn(RequestHead<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.settings_mut().hooks.bypass = Some(Arc::new(bypasses));
        self
    }

    /// Asks `now` for the time instead of the system's clock.
    pub fn clock(mut self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.settings_mut().clock = Clock::new(now);
        self
    }

    fn settings_mut(&mut self) -> &mut Settings {
        Arc::make_mut(&mut self.settings)
    }
}

impl Settings {
    /// What the client says about stored responses, as far as it counts.
    pub(crate) fn directives(&self, request: &HeaderMap) -> RequestDirectives {
        let directives = RequestDirectives::of(request);
        if self.request_directives { directives } else { directives.without_demands() }
    }

    /// Whether `stored` may answer a request, and how. A guessed lifetime counts only while guesses are wanted: a disk may
    /// hold what was stored under other settings.
    pub(crate) fn reuse(&self, stored: &Freshness, moment: Moment, asked: &RequestDirectives) -> Reuse {
        if stored.basis == Basis::Heuristic && !self.heuristic {
            return Reuse::Not(Forwarded::Stale);
        }
        Reuse::of(stored, moment, asked)
    }

    /// Whether a request can be sent a second time, should the first response be of no use.
    pub(crate) fn repeats_requests(&self) -> bool {
        self.empty_body.is_some()
    }

    pub(crate) fn make_empty_body<B: 'static>(&self) -> Option<B> {
        let make = self.empty_body.as_ref()?.downcast_ref::<fn() -> B>()?;
        Some(make())
    }

    pub(crate) fn says_unreachable(&self, response: &response::Parts) -> bool {
        self.unreachable.as_ref().is_some_and(|says_so| says_so(response))
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("store", &self.store)
            .field("paths", &self.paths)
            .field("max_object", &self.max_object)
            .field("stale_when_unreachable", &self.stale_when_unreachable)
            .field("collapse", &self.collapse)
            .field("set_cookie", &self.set_cookie)
            .field("heuristic", &self.heuristic)
            .field("request_directives", &self.request_directives)
            .field("no_vary_search", &self.no_vary_search)
            .field("status_key", &self.status_key)
            .field("hooks", &self.hooks)
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}

impl<S> Layer<S> for CacheLayer {
    type Service = CacheService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CacheService::new(inner, Arc::clone(&self.settings))
    }
}
