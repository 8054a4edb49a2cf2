//! A service that adds nonces to requests, and adds and removes header fields of responses.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Extensions, Request, Response};
use tower_service::Service;

use crate::future::ResponseFuture;
use crate::rules::{RequestContext, Rules};

/// A service that adds security headers to responses and removes fingerprinting headers.
#[derive(Clone, Debug)]
pub struct SecurityHeadersService<S> {
    inner: S,
    rules: Arc<Rules>,
}

impl<S> SecurityHeadersService<S> {
    pub(crate) fn new(inner: S, rules: Arc<Rules>) -> Self {
        Self { inner, rules }
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

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for SecurityHeadersService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let context = self.rules.prepare(&mut request);
        self.rules.apply_to_interim(request.extensions_mut(), &context);
        ResponseFuture::new(self.inner.call(request), Arc::clone(&self.rules), context)
    }
}

/// A request extension with a function that sends interim responses to the client.
///
/// It is the same type as `rproxy_server::InterimRelay`, spelled out to avoid a dependency.
type InterimRelay = Arc<dyn Fn(Response<()>) + Send + Sync>;

impl Rules {
    /// Also applies the rules to interim responses (RFC 9110 §15.2).
    fn apply_to_interim(self: &Arc<Self>, extensions: &mut Extensions, context: &RequestContext) {
        if let Some(relay) = extensions.get_mut::<InterimRelay>() {
            let (rules, outer, context) = (Arc::clone(self), Arc::clone(relay), context.clone());
            *relay = Arc::new(move |mut head| {
                rules.apply(&mut head, &context);
                outer(head);
            });
        }
    }
}
