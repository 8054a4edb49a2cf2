//! A service that redirects, rewrites and responds by the target of a request.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use rproxy_core::ResponseBody;
use tower_service::Service;

use crate::future::ResponseFuture;
use crate::rules::{RewrittenPath, Rules};

/// A service that applies rules to request targets, see [`TargetRulesLayer`](crate::TargetRulesLayer).
#[derive(Clone, Debug)]
pub struct TargetRulesService<S> {
    inner: S,
    rules: Arc<Rules>,
}

impl<S> TargetRulesService<S> {
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

    /// Returns the inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for TargetRulesService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        if let Some(response) = self.rules.respond(&request) {
            return ResponseFuture::answered(response);
        }
        if let Some(uri) = self.rules.rewrite(request.uri()) {
            *request.uri_mut() = uri;
            request.extensions_mut().insert(RewrittenPath);
        }
        ResponseFuture::forwarded(self.inner.call(request))
    }
}
