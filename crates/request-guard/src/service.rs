//! A service that checks each request before it calls the inner service.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::Body;
use rproxy_core::ResponseBody;
use tower_service::Service;

use crate::body::GuardBody;
use crate::check::check;
use crate::future::ResponseFuture;
use crate::layer::GuardConfig;
use crate::rejection::RequestRejection;

/// A service that rejects ambiguous requests and limits request bodies, see [`RequestGuardLayer`](crate::RequestGuardLayer).
#[derive(Clone, Debug)]
pub struct RequestGuardService<S> {
    inner: S,
    config: Arc<GuardConfig>,
}

impl<S> RequestGuardService<S> {
    pub(crate) fn new(inner: S, config: Arc<GuardConfig>) -> Self {
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

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for RequestGuardService<S>
where
    S: Service<Request<GuardBody<ReqBody>>, Response = Response<ResBody>>,
    ReqBody: Body,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let version = request.version();
        if let Err(rejection) = check(&mut request, self.config.is_served.as_deref()) {
            return ResponseFuture::rejected(version, rejection);
        }
        let (head, body) = request.into_parts();
        if body.is_end_stream() {
            let request = Request::from_parts(head, GuardBody::empty(body));
            return ResponseFuture::inner(version, self.inner.call(request), None);
        }
        if self.config.max_body.is_some_and(|max| body.size_hint().lower() > max) {
            return ResponseFuture::rejected(version, RequestRejection::BodyTooLarge);
        }
        let (body, progress) = GuardBody::new(body, self.config.max_body, self.config.body_timeout);
        ResponseFuture::inner(version, self.inner.call(Request::from_parts(head, body)), Some(progress))
    }
}
