//! The service: counts the request, then calls or refuses.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Either, Full};
use tower_service::Service;

use crate::decision::RateLimitDecision;
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
        let Settings { key, shadow, limiter } = &*self.settings;
        let (head, body) = request.into_parts();
        let decision = match key.key(&head) {
            Ok(Some(key)) => Some(limiter.check(&key)),
            Ok(None) => None,
            Err(missing) => Some(RateLimitDecision::Unkeyed(missing)),
        };
        let request = Request::from_parts(head, body);
        match decision {
            None => ResponseFuture::unlimited(self.inner.call(request)),
            Some(decision) if *shadow => ResponseFuture::shadowed(self.inner.call(request), decision.shadowed()),
            Some(decision) if decision.refuses() => ResponseFuture::refused(decision, Arc::clone(limiter)),
            Some(decision) => ResponseFuture::allowed(self.inner.call(request), decision, Arc::clone(limiter)),
        }
    }
}
