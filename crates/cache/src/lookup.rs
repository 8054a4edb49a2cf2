//! The cache lookup for a request, and the resulting action.

use std::sync::Arc;

use http::{HeaderMap, Method, Request, Response, header};
use http_body::Body;
use rproxy_core::Authenticated;
use tokio::runtime::Handle;

use crate::body::ResponseBody;
use crate::cache_status::{CacheStatus, ForwardReason, Member};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::exchange::{Exchange, PostExchange};
use crate::fetch::Fetch;
use crate::fetch::completion::Completion;
use crate::fetch::other_variants;
use crate::future::TierLookup;
use crate::hooks::RequestSpecificCheck;
use crate::key::{CacheKey, request_target};
use crate::policy::request_directives::RequestDirectives;
use crate::policy::reuse::Reuse;
use crate::response::{ClientRequest, serve_stored};
use crate::store::resource::Resource;
use crate::store::stored_response::{RevalidationGuard, StoredResponse};

/// The action of the cache service for a request.
pub(crate) enum Action {
    /// The request is forwarded unchanged.
    Forward(Exchange),
    /// The response is fetched from the origin, and stored if allowed.
    Fetch(Box<Fetch>),
    /// A stored response is served without a request to the origin.
    Serve(Hit),
    /// A stale response is served, and revalidated in the background (RFC 5861 §3).
    ServeAndRevalidate { hit: Hit, revalidation: RevalidationGuard, runtime: Handle, fetch: Box<Fetch> },
    /// A 504 response is returned: the request has `only-if-cached` and no stored response is usable.
    GatewayTimeout(Member),
    /// The resource is loaded from the second-level store, and the lookup is repeated.
    LoadFromTier(TierLookup),
}

/// A stored response that is served without a request to the origin.
pub(crate) struct Hit {
    stored: Arc<StoredResponse>,
    age: u64,
    member: Member,
    status: CacheStatus,
}

impl Hit {
    /// Builds the response to the client from the stored response.
    pub(crate) fn respond<B, ResBody>(self, request: &Request<B>) -> Response<ResponseBody<ResBody>> {
        let request = ClientRequest { is_head: request.method() == Method::HEAD, headers: request.headers() };
        serve_stored(request, &self.stored, self.age, self.member, self.status)
    }
}

impl Config {
    /// Returns the action of the cache for a request.
    ///
    /// `loaded` is the outcome of [`Action::LoadFromTier`], if that was the first action.
    pub(crate) fn action<B: Body>(
        self: &Arc<Self>,
        request: &Request<B>,
        loaded: Option<Option<Arc<Resource>>>,
    ) -> Action {
        let headers = request.headers();
        let is_cached_path = self.paths.contains(request_target(request).path());
        let is_head = *request.method() == Method::HEAD;
        // First, as this applies to most requests.
        if !is_cached_path && is_safe(request.method()) {
            return Action::Forward(Exchange::PassThrough);
        }
        // After a protocol change, there is no response. A layer above may have removed `Upgrade`, but the key of a WebSocket
        // handshake (RFC 6455 §4.1) remains.
        let is_upgrade = headers.contains_key(header::UPGRADE) || headers.contains_key(header::SEC_WEBSOCKET_KEY);
        if *request.method() == Method::CONNECT || is_upgrade {
            return Action::Forward(Exchange::PassThrough);
        }
        let Some(key) = self.hooks.key(request) else {
            return Action::Forward(match is_cached_path {
                true => Exchange::Forward(ForwardReason::Bypass),
                false => Exchange::PassThrough,
            });
        };
        if !is_head && *request.method() != Method::GET {
            return Action::Forward(self.exchange_of_other_method(request, key, is_cached_path));
        }
        let directives = self.honoured_directives(headers);
        let is_for_origin = directives.no_store && self.request_directives || is_for_origin(request);
        // RFC 9111 §5.2.1.7: the client does not allow that the request is forwarded, even if it cannot be served otherwise.
        if is_for_origin && directives.only_if_cached {
            return Action::GatewayTimeout(Member::forwarded(ForwardReason::Bypass));
        }
        if is_for_origin || self.hooks.bypasses(request) {
            return Action::Forward(Exchange::Forward(ForwardReason::Bypass));
        }
        let (key, request_key) = match self.equivalent_key(&key) {
            Some(equivalent) => (equivalent, Some(key)),
            None => (key, None),
        };
        let request_specific = request.extensions().get().copied();
        let now = self.clock.now();
        let is_authenticated = is_authenticated(request);
        let config = self;
        Lookup {
            config,
            key,
            request_key,
            loaded,
            is_head,
            headers,
            is_authenticated,
            request_specific,
            directives,
            now,
        }
        .action()
    }

    /// Returns the [`Exchange`] for a request with a method other than GET and HEAD.
    fn exchange_of_other_method<B>(
        self: &Arc<Self>,
        request: &Request<B>,
        key: CacheKey,
        is_cached_path: bool,
    ) -> Exchange {
        let is_storable_post = is_cached_path
            && *request.method() == Method::POST
            && !RequestDirectives::from_headers(request.headers()).no_store
            && !self.hooks.bypasses(request);
        if is_storable_post {
            return Exchange::Post(Box::new(PostExchange {
                config: Arc::clone(self),
                key,
                request_headers: request.headers().clone(),
                is_authenticated: is_authenticated(request),
                request_specific: request.extensions().get().copied(),
                request_time: self.clock.now(),
            }));
        }
        let reason = is_cached_path.then_some(ForwardReason::Method);
        match reason {
            _ if !is_safe(request.method()) => Exchange::Unsafe { config: Arc::clone(self), key, reason },
            Some(reason) => Exchange::Forward(reason),
            None => Exchange::PassThrough,
        }
    }

    /// Returns the cache key to include in `Cache-Status`, if enabled and if the request is cacheable.
    pub(crate) fn reported_key<B>(&self, request: &Request<B>) -> Option<CacheKey> {
        if !self.status_key || !self.paths.contains(request_target(request).path()) {
            return None;
        }
        let key = self.hooks.key(request)?;
        Some(self.equivalent_key(&key).unwrap_or(key))
    }
}

/// The cache lookup for a GET or HEAD request.
struct Lookup<'a> {
    config: &'a Arc<Config>,
    key: CacheKey,
    /// The request's original cache key, if `key` is shared with equivalent queries.
    request_key: Option<CacheKey>,
    loaded: Option<Option<Arc<Resource>>>,
    is_head: bool,
    headers: &'a HeaderMap,
    is_authenticated: bool,
    request_specific: Option<RequestSpecificCheck>,
    directives: RequestDirectives,
    now: Timestamp,
}

impl Lookup<'_> {
    fn action(mut self) -> Action {
        let store = &self.config.store;
        let loaded = self.loaded.take();
        let is_first_lookup = loaded.is_none();
        let resource = loaded.unwrap_or_else(|| store.lookup(self.key.as_str()));
        // Without a runtime, no task can wait for the second-level store.
        if resource.is_none()
            && is_first_lookup
            && let Some(load) = store.load(self.key.as_str())
            && Handle::try_current().is_ok()
        {
            return Action::LoadFromTier(Box::pin(load));
        }
        let selected = resource.as_ref().and_then(|resource| resource.select(self.headers));
        let Some(stored) = selected.filter(|stored| stored.may_serve(self.headers, self.request_specific)) else {
            return match resource {
                Some(resource) => self.select_incomplete(&resource),
                None => self.miss(ForwardReason::UriMiss, None),
            };
        };
        let now = stored.freshness_now(self.now);
        let (age, member) = (now.age, Member::hit().ttl(now.ttl));
        match self.config.reuse(&stored.freshness, now, &self.directives) {
            Reuse::Fresh => {
                store.count_hit(&stored);
                Action::Serve(Hit { stored, age, member, status: CacheStatus::Hit })
            }
            Reuse::Stale => {
                store.count_hit(&stored);
                Action::Serve(Hit { stored, age, member: member.detail("max-stale"), status: CacheStatus::Stale })
            }
            Reuse::WhileRevalidating => {
                // Without a runtime, no task can validate the response.
                let Ok(runtime) = Handle::try_current() else {
                    return self.miss(ForwardReason::Stale, Some(stored));
                };
                store.count_hit(&stored);
                let member = member.detail("stale-while-revalidate");
                let hit = Hit { stored: Arc::clone(&stored), age, member, status: CacheStatus::Stale };
                match stored.begin_revalidation().filter(|_| !self.directives.no_store) {
                    Some(revalidation) => {
                        let fetch = self.fetch(ForwardReason::Stale, Some(stored));
                        Action::ServeAndRevalidate { hit, revalidation, runtime, fetch }
                    }
                    None => Action::Serve(hit),
                }
            }
            Reuse::Forward(reason) => self.miss(reason, Some(stored)),
        }
    }

    /// Returns the action if no complete response is selected, but other variants or parts are stored.
    fn select_incomplete(self, resource: &Resource) -> Action {
        // RFC 9211 §2.2: the reason also applies to requests for the whole response.
        let reason = match resource.has_part(self.headers) {
            true => ForwardReason::Partial,
            false => ForwardReason::VaryMiss,
        };
        if self.is_head {
            return self.miss(reason, None);
        }
        let completion = Completion::new(resource, self.headers, self.request_specific);
        if !self.headers.contains_key(header::RANGE) {
            let variants = match completion {
                None => other_variants::candidates(resource, self.headers, self.request_specific),
                Some(_) => Vec::new(),
            };
            return self.incomplete_miss(reason, variants, completion);
        }
        let Some(stored) = resource.select_part(self.headers) else {
            return self.incomplete_miss(reason, Vec::new(), completion);
        };
        let now = stored.freshness_now(self.now);
        match self.config.reuse(&stored.freshness, now, &self.directives) {
            Reuse::Fresh => {
                self.config.store.count_hit(&stored);
                let member = Member::hit().ttl(now.ttl);
                Action::Serve(Hit { stored, age: now.age, member, status: CacheStatus::Hit })
            }
            Reuse::Stale | Reuse::WhileRevalidating => self.miss(ForwardReason::Stale, None),
            Reuse::Forward(reason) => self.miss(reason, None),
        }
    }

    /// Returns the action for a cache miss with stored variants or parts that a conditional request can use.
    fn incomplete_miss(
        self,
        reason: ForwardReason,
        variants: Vec<Arc<StoredResponse>>,
        completion: Option<Completion>,
    ) -> Action {
        let mut action = self.miss(reason, None);
        if let Action::Fetch(fetch) = &mut action {
            fetch.other_variants = variants;
            fetch.completion = completion.map(Arc::new);
        }
        action
    }

    /// Returns the action for a cache miss. `selected` is the stored response that cannot be used without the origin.
    fn miss(self, reason: ForwardReason, selected: Option<Arc<StoredResponse>>) -> Action {
        self.config.store.count_miss();
        if self.directives.only_if_cached {
            return Action::GatewayTimeout(Member::forwarded(reason));
        }
        // RFC 9111 §5.2.1.5
        if self.directives.no_store {
            return Action::Forward(Exchange::Forward(ForwardReason::Bypass));
        }
        Action::Fetch(self.fetch(reason, selected))
    }

    fn fetch(self, reason: ForwardReason, selected: Option<Arc<StoredResponse>>) -> Box<Fetch> {
        // RFC 9111 §4.3.5: the response to HEAD is compared with the stored response instead.
        let has_validators = selected.as_ref().is_some_and(|selected| !selected.validators.is_empty());
        Box::new(Fetch {
            config: Arc::clone(self.config),
            ticket: self.config.store.ticket(self.key.as_str()),
            key: self.key,
            request_key: self.request_key,
            is_head: self.is_head,
            request_headers: self.headers.clone(),
            is_authenticated: self.is_authenticated,
            request_specific: self.request_specific,
            directives: self.directives,
            reason,
            is_validating: !self.is_head && has_validators,
            selected,
            other_variants: Vec::new(),
            completion: None,
            request_time: self.now,
            leader: None,
        })
    }
}

/// Whether a layer authenticated the client. Its credentials need not be in the header section of the request.
fn is_authenticated<B>(request: &Request<B>) -> bool {
    request.extensions().get::<Authenticated>().is_some()
}

/// Whether a request method is safe (RFC 9110 §9.2.1). An unknown method is not (RFC 9111 §4.4).
fn is_safe(method: &Method) -> bool {
    matches!(method.as_str(), "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PROPFIND" | "REPORT" | "SEARCH" | "QUERY")
}

/// Whether a GET or HEAD request must be forwarded to the origin.
fn is_for_origin<B: Body>(request: &Request<B>) -> bool {
    // RFC 9110 §9.3.1: content of a GET has no defined meaning, but applications may use it, and it is not part of the key.
    let has_content = !request.body().is_end_stream() && request.body().size_hint().exact() != Some(0);
    // RFC 9111 §4.3.2: a cache does not evaluate these conditions.
    let has_origin_condition =
        request.headers().contains_key(header::IF_MATCH) || request.headers().contains_key(header::IF_UNMODIFIED_SINCE);
    has_content || has_origin_condition
}
