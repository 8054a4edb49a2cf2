//! The service: judges the path, then calls or refuses.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{Either, Full};
use rproxy_core::path::is_ambiguous;
use tower_service::Service;

use crate::future::ResponseFuture;
use crate::layer::Settings;
use crate::rules::PathRules;
use crate::target::target;

/// Made by [`PathFilterLayer`](crate::PathFilterLayer).
#[derive(Clone, Debug)]
pub struct PathFilterService<S> {
    inner: S,
    rules: PathRules,
    settings: Settings,
}

impl<S> PathFilterService<S> {
    pub(crate) fn new(inner: S, rules: PathRules, settings: Settings) -> Self {
        Self { inner, rules, settings }
    }

    /// The rule by which `path` is refused, and the answer.
    fn refuses(&self, path: &str) -> Option<(Arc<str>, StatusCode)> {
        if let Some(rule) = self.rules.blocks(path) {
            return Some((rule, self.settings.status));
        }
        let is_refused = self.settings.strict && is_ambiguous(path.as_bytes());
        is_refused.then(|| (Arc::from(AMBIGUOUS), StatusCode::BAD_REQUEST))
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

const AMBIGUOUS: &str = "(more than one reading)";

/// Response extension: what the filter made of a path that a rule matches. Absent where it passed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathFilterDecision {
    /// Refused.
    Blocked {
        /// The rule, as it was written.
        rule: Arc<str>,
    },
    /// Passed, because the filter only logs.
    WouldBlock {
        /// The rule, as it was written.
        rule: Arc<str>,
    },
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for PathFilterService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Response = Response<Either<ResBody, Full<Bytes>>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        match self.refuses(target(&request).path()) {
            None => ResponseFuture::inner(self.inner.call(request), None),
            Some((rule, _)) if self.settings.log_only => {
                ResponseFuture::inner(self.inner.call(request), Some(PathFilterDecision::WouldBlock { rule }))
            }
            Some((rule, status)) => ResponseFuture::blocked(rule, status),
        }
    }
}
