//! The cache service, which performs the action selected by the cache lookup.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use crate::body::{ResponseBody, read_to_end};
use crate::coalesce::follower::FollowerFuture;
use crate::coalesce::in_flight::Role;
use crate::coalesce::leader::BoxedExchange;
use crate::config::Config;
use crate::exchange::Exchange;
use crate::fetch::{Fetch, other_variants};
use crate::future::ResponseFuture;
use crate::lookup::Action;
use crate::response::gateway_timeout;
use crate::store::resource::Resource;
use crate::store::stored_response::RevalidationGuard;

/// The service of a [`CacheLayer`](crate::CacheLayer).
#[derive(Clone, Debug)]
pub struct CacheService<S> {
    inner: S,
    config: Arc<Config>,
}

impl<S> CacheService<S> {
    pub(crate) fn new(inner: S, config: Arc<Config>) -> Self {
        Self { inner, config }
    }

    /// Returns a reference to the inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns a mutable reference to the inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Returns the inner service.
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
        let key = self.config.reported_key(&request);
        match self.config.action(&request, None) {
            // The action for most requests. Handled here, so that the request is not moved again.
            Action::Forward(exchange) => ResponseFuture::forward(self.inner.call(request), exchange, key),
            action => self.act(request, action).with_reported_key(key),
        }
    }
}

impl<S> CacheService<S> {
    fn act<ReqBody, ResBody>(
        &mut self,
        mut request: Request<ReqBody>,
        action: Action,
    ) -> ResponseFuture<S::Future, ResBody>
    where
        S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone + Send + 'static,
        S::Error: Send + 'static,
        S::Future: Send + 'static,
        ReqBody: Body + Send + 'static,
        ResBody: Body<Data = Bytes> + Send + 'static,
        ResBody::Error: Send,
    {
        match action {
            Action::Forward(exchange) => ResponseFuture::forward(self.inner.call(request), exchange, None),
            Action::GatewayTimeout(member) => ResponseFuture::ready(gateway_timeout(member)),
            Action::Serve(hit) => ResponseFuture::ready(hit.respond(&request)),
            Action::ServeAndRevalidate { hit, revalidation, runtime, fetch } => {
                let response = hit.respond(&request);
                // The request is served, and is used again to validate.
                fetch.prepare(request.headers_mut());
                runtime.spawn(revalidate(self.inner.call(request), fetch, revalidation));
                ResponseFuture::ready(response)
            }
            Action::Fetch(fetch) => self.fetch(request, fetch),
            Action::LoadFromTier(load) => {
                let mut service = Self::new(self.take_ready_inner(), Arc::clone(&self.config));
                ResponseFuture::load(load, move |loaded: Option<Arc<Resource>>| {
                    let action = service.config.action(&request, Some(loaded));
                    service.act(request, action)
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
        let empty_body = self.config.empty_body::<ReqBody>();
        if empty_body.is_none() {
            fetch.disable_repeats();
        }
        match fetch.join() {
            Role::Independent if fetch.may_need_repeat() => {
                ResponseFuture::lead(self.call_repeatable(request, empty_body, &fetch), fetch)
            }
            Role::Independent => {
                fetch.prepare(request.headers_mut());
                ResponseFuture::forward(self.inner.call(request), Exchange::Fetch(fetch), None)
            }
            Role::Leader(leader) => {
                // Another fetch may have ended between the lookup and this point.
                if let Some(stored) = fetch.stored_meanwhile() {
                    leader.finish_stored();
                    return ResponseFuture::ready(fetch.serve_coalesced(&stored));
                }
                fetch.leader = Some(leader);
                if fetch.may_need_repeat() {
                    return ResponseFuture::lead(self.call_repeatable(request, empty_body, &fetch), fetch);
                }
                fetch.prepare(request.headers_mut());
                ResponseFuture::lead(Box::pin(self.inner.call(request)), fetch)
            }
            Role::Follower(follower) => {
                // A follower rarely sends a request itself, and then without the tags or the range of a leader.
                fetch.other_variants.clear();
                fetch.completion = None;
                let mut inner = self.take_ready_inner();
                ResponseFuture::follow(FollowerFuture::new(follower, fetch, move |fetch: &Fetch| {
                    fetch.prepare(request.headers_mut());
                    inner.call(request)
                }))
            }
        }
    }

    /// Forwards a validation or completion request, and repeats the original if the response is unusable.
    ///
    /// That is a 304 that names none of the stored variants, or a 206 that does not complete the stored parts.
    fn call_repeatable<ReqBody, ResBody>(
        &mut self,
        mut request: Request<ReqBody>,
        empty_body: Option<ReqBody>,
        fetch: &Fetch,
    ) -> BoxedExchange<Result<S::Response, S::Error>>
    where
        S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone + Send + 'static,
        S::Error: Send + 'static,
        S::Future: Send + 'static,
        ReqBody: Send + 'static,
        ResBody: Send + 'static,
    {
        let repetition = empty_body.map(|body| {
            let mut repetition = Request::new(body);
            *repetition.method_mut() = request.method().clone();
            *repetition.uri_mut() = request.uri().clone();
            *repetition.version_mut() = request.version();
            *repetition.headers_mut() = request.headers().clone();
            *repetition.extensions_mut() = request.extensions().clone();
            fetch.prepare_plain(repetition.headers_mut());
            repetition
        });
        fetch.prepare(request.headers_mut());
        let (first, mut inner) = (self.inner.call(request), self.inner.clone());
        let (variants, completion) = (fetch.other_variants.clone(), fetch.completion.clone());
        Box::pin(async move {
            let response = first.await?;
            let is_unusable = other_variants::is_ambiguous(&response, &variants)
                || completion.is_some_and(|completion| completion.is_unusable(&response));
            match repetition {
                Some(repetition) if is_unusable => {
                    drop(response);
                    poll_fn(|cx| inner.poll_ready(cx)).await?;
                    inner.call(repetition).await
                }
                _ => Ok(response),
            }
        })
    }

    /// Takes the ready inner service, and replaces it with a clone.
    fn take_ready_inner(&mut self) -> S
    where
        S: Clone,
    {
        let clone = self.inner.clone();
        std::mem::replace(&mut self.inner, clone)
    }
}

/// Revalidates a stale response in the background, after it has been served.
async fn revalidate<F, B, E>(response: F, fetch: Box<Fetch>, revalidation: RevalidationGuard)
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Send,
{
    if let Ok(response) = fetch.finish(response.await) {
        read_to_end(response.into_body()).await;
    }
    drop(revalidation);
}
