//! A service that checks the rate limit before it calls the inner service.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower_service::Service;

use crate::body::ResponseBody;
use crate::config::Config;
use crate::future::ResponseFuture;
use crate::key::{ClientKey, RequestKey};
use crate::policies::Check;

/// A service that rejects requests over their quota with `429 Too Many Requests`.
///
/// Requests within their quota are forwarded to the inner service. See the [crate documentation](crate) for the
/// header fields and extensions that it adds to responses.
#[derive(Debug)]
pub struct RateLimitService<S, K = ClientKey> {
    inner: S,
    config: Arc<Config<K>>,
}

impl<S, K> RateLimitService<S, K> {
    pub(crate) fn new(inner: S, config: Arc<Config<K>>) -> Self {
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

    /// Consumes `self` and returns the inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S: Clone, K> Clone for RateLimitService<S, K> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), config: Arc::clone(&self.config) }
    }
}

impl<S, K, ReqBody, ResBody> Service<Request<ReqBody>> for RateLimitService<S, K>
where
    // Cloned only for requests that wait for a store.
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
    K: RequestKey,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, Request<ReqBody>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let Config { policies, shadow } = &*self.config;
        let (head, body) = request.into_parts();
        let check = policies.check(&head);
        let request = Request::from_parts(head, body);
        match check {
            Check::Unlimited => ResponseFuture::unlimited(self.inner.call(request)),
            Check::Decided(verdict) if verdict.decision.is_rejection() && !shadow => ResponseFuture::rejected(verdict),
            Check::Decided(verdict) => ResponseFuture::forwarded(self.inner.call(request), verdict, *shadow),
            Check::Pending(check) => {
                // Only this instance is known to be ready: it makes the call, and its clone stays behind.
                let clone = self.inner.clone();
                let ready = std::mem::replace(&mut self.inner, clone);
                ResponseFuture::pending(check, ready, request, *shadow)
            }
        }
    }
}
