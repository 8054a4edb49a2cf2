//! The service: counts the request, then calls or refuses.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Either, Full};
use tower_service::Service;

use crate::future::ResponseFuture;
use crate::key::{ClientKey, RequestKey};
use crate::layer::Settings;

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
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    K: RequestKey,
{
    type Response = Response<Either<ResBody, Full<Bytes>>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let (head, body) = request.into_parts();
        let verdict = self.settings.policies.check(&head);
        let request = Request::from_parts(head, body);
        match verdict {
            None => ResponseFuture::unlimited(self.inner.call(request)),
            Some(verdict) if self.settings.shadow => {
                ResponseFuture::shadowed(self.inner.call(request), verdict.decision.shadowed())
            }
            Some(verdict) if verdict.decision.refuses() => ResponseFuture::refused(verdict),
            Some(verdict) => ResponseFuture::allowed(self.inner.call(request), verdict),
        }
    }
}
