//! The service: counts the request, then calls or refuses.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower_service::Service;

use crate::body::RateLimitBody;
use crate::future::ResponseFuture;
use crate::key::{ClientKey, RequestKey};
use crate::layer::Settings;
use crate::policies::Checked;

/// Made by [`RateLimitLayer`](crate::RateLimitLayer).
#[derive(Debug)]
pub struct RateLimitService<S, K = ClientKey> {
    inner: S,
    settings: Arc<Settings<K>>,
}

impl<S, K> RateLimitService<S, K> {
    pub(crate) fn new(inner: S, settings: Arc<Settings<K>>) -> Self {
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

impl<S: Clone, K> Clone for RateLimitService<S, K> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), settings: Arc::clone(&self.settings) }
    }
}

impl<S, K, ReqBody, ResBody> Service<Request<ReqBody>> for RateLimitService<S, K>
where
    // Cloned only while a store is asked.
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
    K: RequestKey,
{
    type Response = Response<RateLimitBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, Request<ReqBody>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let Settings { policies, shadow } = &*self.settings;
        let (head, body) = request.into_parts();
        let checked = policies.check(&head);
        let request = Request::from_parts(head, body);
        match checked {
            Checked::Unlimited => ResponseFuture::unlimited(self.inner.call(request)),
            Checked::Decided(verdict) if verdict.decision.refuses() && !shadow => ResponseFuture::refused(verdict),
            Checked::Decided(verdict) => ResponseFuture::allowed(self.inner.call(request), verdict, *shadow),
            Checked::Asked(question) => {
                // The one that is ready is the one that is called.
                let another = self.inner.clone();
                let ready = std::mem::replace(&mut self.inner, another);
                ResponseFuture::asking(question, ready, request, *shadow)
            }
        }
    }
}
