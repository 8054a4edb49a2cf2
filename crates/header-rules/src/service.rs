//! A service that applies header rules.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower_service::Service;

use crate::future::ResponseFuture;
use crate::rule::{Direction, Rules};

/// A service that changes header fields by rules, see [`HeaderRulesLayer`](crate::HeaderRulesLayer).
#[derive(Clone, Debug)]
pub struct HeaderRulesService<S> {
    inner: S,
    rules: Option<Arc<Rules>>,
}

impl<S> HeaderRulesService<S> {
    pub(crate) fn new(inner: S, rules: Option<Arc<Rules>>) -> Self {
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

    /// Returns the inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for HeaderRulesService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        for rule in self.rules.iter().flat_map(|rules| &rules.request) {
            rule.apply(request.headers_mut(), Direction::Request);
        }
        ResponseFuture::new(self.inner.call(request), self.rules.clone())
    }
}
