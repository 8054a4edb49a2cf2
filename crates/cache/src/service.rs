//! The service: what the store can answer ends here, the rest goes on with a note of what to do with
//! the answer.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, header};
use http_body::Body;
use tokio::runtime::Handle;
use tower_service::Service;

use crate::answer::{Asked, from_store, gateway_timeout};
use crate::body::ResponseBody;
use crate::cache_control::RequestDirectives;
use crate::cache_status::{CacheStatus, Forwarded, Member};
use crate::clock::Timestamp;
use crate::completion::Completion;
use crate::exchange::{Exchange, Post};
use crate::fetch::Fetch;
use crate::flights::Joined;
use crate::follower::Waiting;
use crate::future::{Loading, ResponseFuture};
use crate::hooks::IsForOneRequest;
use crate::key::{Key, target};
use crate::layer::Settings;
use crate::leading::{Asking, read_to_end};
use crate::no_vary_search::SearchVariance;
use crate::query::has_one_reading;
use crate::resource::Resource;
use crate::reuse::Reuse;
use crate::stored::{Revalidation, StoredResponse};
use crate::variants;

/// Made by [`CacheLayer`](crate::CacheLayer).
#[derive(Clone, Debug)]
pub struct CacheService<S> {
    inner: S,
    settings: Arc<Settings>,
}

impl<S> CacheService<S> {
    pub(crate) fn new(inner: S, settings: Arc<Settings>) -> Self {
        Self { inner, settings }
    }

    /// The service inside.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The service inside, to be changed.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The service inside, without this one around it.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for CacheService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Error: Send + 'static,
    S::Future: Send + 'static,
    ReqBody: Body + Send + 'static,
    ResBody: Body<Data = Bytes> + Send + 'static,
    ResBody::Error: Send,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, ResBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let key = self.settings.told_key(&request);
        let mut future = match self.settings.plan(&request, None) {
            // Most requests, which are moved no further.
            Plan::Forward(exchange) => ResponseFuture::forward(self.inner.call(request), exchange),
            plan => self.act(request, plan),
        };
        if key.is_some() {
            future.tell(key);
        }
        future
    }
}

impl<S> CacheService<S> {
    fn act<ReqBody, ResBody>(&mut self, mut request: Request<ReqBody>, plan: Plan) -> ResponseFuture<S::Future, ResBody>
    where
        S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone + Send + 'static,
        S::Error: Send + 'static,
        S::Future: Send + 'static,
        ReqBody: Body + Send + 'static,
        ResBody: Body<Data = Bytes> + Send + 'static,
        ResBody::Error: Send,
    {
        match plan {
            Plan::Forward(exchange) => ResponseFuture::forward(self.inner.call(request), exchange),
            Plan::Refuse(member) => ResponseFuture::ready(gateway_timeout(member)),
            Plan::Serve(answer) => ResponseFuture::ready(answer.respond(&request)),
            Plan::ServeAndRevalidate { answer, revalidation, runtime, fetch } => {
                let response = answer.respond(&request);
                // The client has its answer, so its request is free to be the one that revalidates.
                fetch.prepare(request.headers_mut());
                runtime.spawn(revalidate(self.inner.call(request), fetch, revalidation));
                ResponseFuture::ready(response)
            }
            Plan::Fetch(fetch) => self.fetch(request, fetch),
            Plan::Load(loading) => {
                // The one that was ready is the one that will be called, if any.
                let next = self.inner.clone();
                let ready = std::mem::replace(&mut self.inner, next);
                let mut service = Self::new(ready, Arc::clone(&self.settings));
                ResponseFuture::load(loading, move |loaded| {
                    let plan = service.settings.plan(&request, Some(loaded));
                    service.act(request, plan)
                })
            }
        }
    }

    fn fetch<ReqBody, ResBody>(
        &mut self,
        mut request: Request<ReqBody>,
        mut fetch: Box<Fetch>,
    ) -> ResponseFuture<S::Future, ResBody>
    where
        S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone + Send + 'static,
        S::Error: Send + 'static,
        S::Future: Send + 'static,
        ReqBody: Send + 'static,
        ResBody: Body<Data = Bytes> + Send + 'static,
        ResBody::Error: Send,
    {
        let body = self.settings.make_empty_body::<ReqBody>();
        if body.is_none() {
            fetch.without_repeats();
        }
        match fetch.join() {
            Joined::Alone if fetch.may_repeat() => {
                ResponseFuture::lead(self.call_repeatably(request, body, &fetch), fetch)
            }
            Joined::Alone => {
                fetch.prepare(request.headers_mut());
                ResponseFuture::forward(self.inner.call(request), Exchange::Fetch(fetch))
            }
            Joined::Leader(lead) => {
                // Between the look into the store and the lead another flight may have come to its end.
                if let Some(stored) = fetch.found_meanwhile() {
                    lead.stored();
                    return ResponseFuture::ready(fetch.collapsed(&stored));
                }
                fetch.lead = Some(lead);
                if fetch.may_repeat() {
                    return ResponseFuture::lead(self.call_repeatably(request, body, &fetch), fetch);
                }
                fetch.prepare(request.headers_mut());
                ResponseFuture::lead(Box::pin(self.inner.call(request)), fetch)
            }
            Joined::Follower(follower) => {
                // Should it have to ask for itself, then plainly: that is rare.
                fetch.variants.clear();
                fetch.completion = None;
                // The one that was ready is the one that will be called, if any.
                let next = self.inner.clone();
                let mut ready = std::mem::replace(&mut self.inner, next);
                ResponseFuture::wait(Waiting::new(follower, fetch, move |fetch: &Fetch| {
                    fetch.prepare(request.headers_mut());
                    ready.call(request)
                }))
            }
        }
    }
}

impl<S> CacheService<S> {
    /// Forwards a request for what the store lacks, and once more as the client sent it if the response is of no use: a 304
    /// that names none of the stored variants, or bytes of another representation than the stored ones.
    fn call_repeatably<ReqBody, ResBody>(
        &mut self,
        mut request: Request<ReqBody>,
        body: Option<ReqBody>,
        fetch: &Fetch,
    ) -> Asking<Result<S::Response, S::Error>>
    where
        S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone + Send + 'static,
        S::Error: Send + 'static,
        S::Future: Send + 'static,
        ReqBody: Send + 'static,
        ResBody: Send + 'static,
    {
        let repeated = body.map(|body| {
            let mut repeated = Request::new(body);
            *repeated.method_mut() = request.method().clone();
            *repeated.uri_mut() = request.uri().clone();
            *repeated.version_mut() = request.version();
            *repeated.headers_mut() = request.headers().clone();
            *repeated.extensions_mut() = request.extensions().clone();
            fetch.prepare_plainly(repeated.headers_mut());
            repeated
        });
        fetch.prepare(request.headers_mut());
        let (first, mut inner) = (self.inner.call(request), self.inner.clone());
        let (variants, completion) = (fetch.variants.clone(), fetch.completion.clone());
        Box::pin(async move {
            let response = first.await?;
            let is_unusable = variants::is_ambiguous(&response, &variants)
                || completion.is_some_and(|completion| completion.is_unusable(&response));
            match repeated {
                Some(repeated) if is_unusable => {
                    drop(response);
                    poll_fn(|cx| inner.poll_ready(cx)).await?;
                    inner.call(repeated).await
                }
                _ => Ok(response),
            }
        })
    }
}

/// What to do with a request.
enum Plan {
    Forward(Exchange),
    Fetch(Box<Fetch>),
    Serve(Answer),
    /// RFC 5861 §3
    ServeAndRevalidate {
        answer: Answer,
        revalidation: Revalidation,
        runtime: Handle,
        fetch: Box<Fetch>,
    },
    Refuse(Member),
    /// Memory has nothing, but the tier behind it may.
    Load(Loading),
}

struct Answer {
    stored: Arc<StoredResponse>,
    age: u64,
    member: Member,
    status: CacheStatus,
}

impl Answer {
    fn respond<B, ResBody>(self, request: &Request<B>) -> Response<ResponseBody<ResBody>> {
        let asked = Asked { head: request.method() == Method::HEAD, headers: request.headers() };
        from_store(asked, &self.stored, self.age, self.member, self.status)
    }
}

impl Settings {
    /// `loaded`: what the tier behind memory had, if it has been asked.
    fn plan<B: Body>(self: &Arc<Self>, request: &Request<B>, loaded: Option<Option<Arc<Resource>>>) -> Plan {
        let headers = request.headers();
        let applies = self.paths.contains(target(request).path());
        let head = *request.method() == Method::HEAD;
        // First, as it is what becomes of most.
        if !applies && is_safe(request.method()) {
            return Plan::Forward(Exchange::Untouched);
        }
        // What follows a change of protocol is not a response. A layer above may have taken `Upgrade` for itself;
        // the key of a WebSocket handshake (RFC 6455 §4.1) stays.
        let switches = headers.contains_key(header::UPGRADE) || headers.contains_key(header::SEC_WEBSOCKET_KEY);
        if *request.method() == Method::CONNECT || switches {
            return Plan::Forward(Exchange::Untouched);
        }
        let Some(key) = self.hooks.key(request) else {
            return Plan::Forward(if applies { Exchange::Forwarded(Forwarded::Bypass) } else { Exchange::Untouched });
        };
        if !head && *request.method() != Method::GET {
            let reason = applies.then_some(Forwarded::Method);
            return Plan::Forward(match reason {
                Some(_)
                    if *request.method() == Method::POST
                        && !RequestDirectives::of(headers).no_store
                        && !self.hooks.bypasses(request) =>
                {
                    Exchange::Post(Box::new(Post {
                        settings: Arc::clone(self),
                        key,
                        request: headers.clone(),
                        is_for_one: request.extensions().get().copied(),
                        request_time: self.clock.now(),
                    }))
                }
                _ if !is_safe(request.method()) => Exchange::Unsafe { settings: Arc::clone(self), key, reason },
                Some(reason) => Exchange::Forwarded(reason),
                None => Exchange::Untouched,
            });
        }
        let directives = self.directives(headers);
        let is_for_the_origin = directives.no_store && self.request_directives || is_for_the_origin(request);
        // RFC 9111 §5.2.1.7: whatever else the client says, it does not want the origin to be asked.
        if is_for_the_origin && directives.only_if_cached {
            return Plan::Refuse(Member::forwarded(Forwarded::Bypass));
        }
        if is_for_the_origin || self.hooks.bypasses(request) {
            return Plan::Forward(Exchange::Forwarded(Forwarded::Bypass));
        }
        let (key, literal) = match self.same_as(&key) {
            Some(same) => (same, Some(key)),
            None => (key, None),
        };
        let is_for_one = request.extensions().get().copied();
        let now = self.clock.now();
        Lookup { settings: self, key, literal, loaded, head, headers, is_for_one, directives, now }.plan()
    }

    /// The key for `Cache-Status`, where it is to be told and there will be one of ours.
    fn told_key<B>(&self, request: &Request<B>) -> Option<Key> {
        if !self.status_key || !self.paths.contains(target(request).path()) {
            return None;
        }
        let key = self.hooks.key(request)?;
        Some(self.same_as(&key).unwrap_or(key))
    }

    /// The key of what means the same as `key`, if responses have said so, unless there is something under `key` alone.
    fn same_as(&self, key: &Key) -> Option<Key> {
        if !self.no_vary_search || !key.query().is_none_or(has_one_reading) {
            return None;
        }
        let same = self.store.searches().of(key)?;
        (self.store.holds(same.as_str()) || !self.store.holds(key.as_str())).then_some(same)
    }

    /// Where a response with these fields belongs, if not under the key of the request that it answers.
    pub(crate) fn place(&self, asked: &Key, headers: &HeaderMap) -> Option<Key> {
        if !self.no_vary_search || !asked.query().is_none_or(has_one_reading) {
            return None;
        }
        SearchVariance::of(headers).map(|variance| self.store.searches().learn(asked, variance))
    }
}

/// A GET or HEAD that the store may answer.
struct Lookup<'a> {
    settings: &'a Arc<Settings>,
    key: Key,
    literal: Option<Key>,
    loaded: Option<Option<Arc<Resource>>>,
    head: bool,
    headers: &'a HeaderMap,
    is_for_one: Option<IsForOneRequest>,
    directives: RequestDirectives,
    now: Timestamp,
}

impl Lookup<'_> {
    fn plan(mut self) -> Plan {
        let store = &self.settings.store;
        let loaded = self.loaded.take();
        let is_first_look = loaded.is_none();
        let resource = loaded.unwrap_or_else(|| store.lookup(self.key.as_str()));
        // Without a runtime there is nobody to wait for it.
        if resource.is_none()
            && is_first_look
            && let Some(loading) = store.load(self.key.as_str())
            && Handle::try_current().is_ok()
        {
            return Plan::Load(Box::pin(loading));
        }
        let selected = resource.as_ref().and_then(|resource| resource.select(self.headers));
        let Some(stored) = selected.filter(|stored| stored.may_answer(self.headers, self.is_for_one)) else {
            return match resource {
                Some(resource) => self.without_the_whole(&resource),
                None => self.miss(Forwarded::UriMiss, None),
            };
        };
        let moment = stored.moment(self.now);
        let (age, hit) = (moment.age, Member::hit().ttl(moment.ttl));
        match self.settings.reuse(&stored.freshness, moment, &self.directives) {
            Reuse::Fresh => {
                store.count_hit(&stored);
                Plan::Serve(Answer { stored, age, member: hit, status: CacheStatus::Hit })
            }
            Reuse::Stale => {
                store.count_hit(&stored);
                Plan::Serve(Answer { stored, age, member: hit.detail("max-stale"), status: CacheStatus::Stale })
            }
            Reuse::WhileRevalidating => {
                // Without a runtime there is no background to revalidate in.
                let Ok(runtime) = Handle::try_current() else {
                    return self.miss(Forwarded::Stale, Some(stored));
                };
                store.count_hit(&stored);
                let member = hit.detail("stale-while-revalidate");
                let answer = Answer { stored: Arc::clone(&stored), age, member, status: CacheStatus::Stale };
                match stored.begin_revalidation().filter(|_| !self.directives.no_store) {
                    Some(revalidation) => {
                        let fetch = self.fetch(Forwarded::Stale, Some(stored));
                        Plan::ServeAndRevalidate { answer, revalidation, runtime, fetch }
                    }
                    None => Plan::Serve(answer),
                }
            }
            Reuse::Not(reason) => self.miss(reason, Some(stored)),
        }
    }

    /// Other variants are stored, or parts.
    fn without_the_whole(self, resource: &Resource) -> Plan {
        // RFC 9211 §2.2: also where all of it is asked for.
        let reason = if resource.holds_part(self.headers) { Forwarded::Partial } else { Forwarded::VaryMiss };
        if self.head {
            return self.miss(reason, None);
        }
        let completion = Completion::new(resource, self.headers, self.is_for_one);
        if !self.headers.contains_key(header::RANGE) {
            let variants = match completion {
                None => variants::to_validate(resource, self.headers, self.is_for_one),
                Some(_) => Vec::new(),
            };
            return self.miss_with(reason, variants, completion);
        }
        let Some(stored) = resource.select_part(self.headers) else {
            return self.miss_with(reason, Vec::new(), completion);
        };
        let moment = stored.moment(self.now);
        match self.settings.reuse(&stored.freshness, moment, &self.directives) {
            Reuse::Fresh => {
                self.settings.store.count_hit(&stored);
                let member = Member::hit().ttl(moment.ttl);
                Plan::Serve(Answer { stored, age: moment.age, member, status: CacheStatus::Hit })
            }
            Reuse::Stale | Reuse::WhileRevalidating => self.miss(Forwarded::Stale, None),
            Reuse::Not(reason) => self.miss(reason, None),
        }
    }

    /// A miss that has the origin asked for what the store lacks.
    fn miss_with(self, reason: Forwarded, variants: Vec<Arc<StoredResponse>>, completion: Option<Completion>) -> Plan {
        let mut plan = self.miss(reason, None);
        if let Plan::Fetch(fetch) = &mut plan {
            fetch.variants = variants;
            fetch.completion = completion.map(Arc::new);
        }
        plan
    }

    fn miss(self, reason: Forwarded, stored: Option<Arc<StoredResponse>>) -> Plan {
        self.settings.store.count_miss();
        if self.directives.only_if_cached {
            return Plan::Refuse(Member::forwarded(reason));
        }
        // RFC 9111 §5.2.1.5
        if self.directives.no_store {
            return Plan::Forward(Exchange::Forwarded(Forwarded::Bypass));
        }
        Plan::Fetch(self.fetch(reason, stored))
    }

    fn fetch(self, reason: Forwarded, stored: Option<Arc<StoredResponse>>) -> Box<Fetch> {
        // RFC 9111 §4.3.5: what a HEAD says is compared with what is stored instead.
        let validating = !self.head && stored.as_ref().is_some_and(|stored| !stored.validators.is_empty());
        Box::new(Fetch {
            settings: Arc::clone(self.settings),
            ticket: self.settings.store.ticket(self.key.as_str()),
            key: self.key,
            literal: self.literal,
            head: self.head,
            request: self.headers.clone(),
            is_for_one: self.is_for_one,
            directives: self.directives,
            reason,
            stored,
            validating,
            variants: Vec::new(),
            completion: None,
            request_time: self.now,
            lead: None,
        })
    }
}

/// RFC 9110 §9.2.1; RFC 9111 §4.4: a method that is not known to be safe is not.
fn is_safe(method: &Method) -> bool {
    matches!(method.as_str(), "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PROPFIND" | "REPORT" | "SEARCH" | "QUERY")
}

/// Requests that a stored response can't answer, and whose answer is not stored.
fn is_for_the_origin<B: Body>(request: &Request<B>) -> bool {
    // RFC 9110 §9.3.1: content has no meaning in a GET, but to an application it may have one, and
    // it is no part of the key.
    let has_content = !request.body().is_end_stream() && request.body().size_hint().exact() != Some(0);
    // RFC 9111 §4.3.2: these two are not for a cache to evaluate.
    let has_origin_condition =
        request.headers().contains_key(header::IF_MATCH) || request.headers().contains_key(header::IF_UNMODIFIED_SINCE);
    has_content || has_origin_condition
}

/// Validates a stale response after the client that met it has been served.
async fn revalidate<F, B, E>(response: F, fetch: Box<Fetch>, revalidation: Revalidation)
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Send,
{
    if let Ok(response) = Exchange::Fetch(fetch).finish(response.await) {
        read_to_end(response.into_body()).await;
    }
    drop(revalidation);
}
