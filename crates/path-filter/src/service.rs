//! A service that checks the path of a request before it calls the inner service.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response, StatusCode, Uri};
use rproxy_core::ResponseBody;
use rproxy_core::path::is_ambiguous;
use tower_service::Service;

use crate::config::Config;
use crate::future::ResponseFuture;
use crate::original_uri::original_uri;

/// A service that rejects requests for blocked paths.
///
/// Other requests are forwarded to the inner service with an unchanged path.
#[derive(Clone, Debug)]
pub struct PathFilterService<S> {
    inner: S,
    config: Arc<Config>,
}

impl<S> PathFilterService<S> {
    pub(crate) fn new(inner: S, config: Arc<Config>) -> Self {
        Self { inner, config }
    }

    /// Returns the rule that blocks `uri`, before or after the rewrite, and the status of the response.
    fn rejection(&self, uri: &Uri) -> Option<(Arc<str>, StatusCode)> {
        let rejection = self.rejection_of_path(uri.path());
        match &self.config.rewrite {
            Some(rewrite) if rejection.is_none() => self.rejection_of_path(rewrite.0(uri)?.path()),
            _ => rejection,
        }
    }

    fn rejection_of_path(&self, path: &str) -> Option<(Arc<str>, StatusCode)> {
        if let Some(rule) = self.config.rules.blocking_rule(path) {
            return Some((rule, self.config.status));
        }
        let is_rejected = self.config.reject_ambiguous && is_ambiguous(path.as_bytes());
        is_rejected.then(|| (Arc::from(AMBIGUOUS), StatusCode::BAD_REQUEST))
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

const AMBIGUOUS: &str = "(ambiguous path)";

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for PathFilterService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        match self.rejection(original_uri(&request)) {
            None => ResponseFuture::allowed(self.inner.call(request)),
            Some((rule, _)) if self.config.shadow => ResponseFuture::would_block(self.inner.call(request), rule),
            Some((rule, status)) => ResponseFuture::blocked(rule, status),
        }
    }
}
