//! A service that changes the heads of requests and responses.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use rproxy_core::ResponseBody;
use tower_service::Service;

use crate::config::Config;
use crate::forwarding_fields;
use crate::future::ResponseFuture;
use crate::max_forwards::{self, Recipient};
use crate::via::LoopDetected;

/// A service that sets the forwarding fields of requests, and removes hop-by-hop fields.
#[derive(Clone, Debug)]
pub struct ForwardHeadersService<S> {
    inner: S,
    config: Arc<Config>,
}

impl<S> ForwardHeadersService<S> {
    pub(crate) fn new(inner: S, config: Arc<Config>) -> Self {
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

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for ForwardHeadersService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        match max_forwards::count_down(&mut request) {
            Recipient::Next => {}
            Recipient::Options => return ResponseFuture::options(),
            Recipient::Trace(text) => return ResponseFuture::trace(text),
        }
        match forwarding_fields::rebuild(&mut request, &self.config) {
            Ok(id) => ResponseFuture::inner(self.inner.call(request), id),
            Err(LoopDetected) => ResponseFuture::loop_detected(),
        }
    }
}
