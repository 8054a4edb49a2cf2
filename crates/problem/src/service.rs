//! A service that formats responses to rejected requests.

use std::error::Error;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body::Body;
use tower_service::Service;

use crate::accept::Accept;
use crate::body::ResponseBody;
use crate::config::Config;
use crate::future::ResponseFuture;
use crate::grpc;
use crate::hooks::ProblemHooks;
use crate::presentation::Client;

/// Middleware that formats responses to rejected requests, and catches panics. See [`ProblemLayer`](crate::ProblemLayer).
#[derive(Clone, Debug)]
pub struct ProblemService<S, H = ()> {
    inner: S,
    hooks: H,
    config: Option<Arc<Config>>,
}

impl<S, H> ProblemService<S, H> {
    pub(crate) fn new(inner: S, hooks: H, config: Option<Arc<Config>>) -> Self {
        Self { inner, hooks, config }
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

impl<S, H, ReqBody, ResBody> Service<Request<ReqBody>> for ProblemService<S, H>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    H: ProblemHooks + Clone,
    ResBody: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>,
{
    type Response = Response<ResponseBody<ResBody, H>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, H>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let accept = Accept::of(request.headers());
        let client = Client {
            request: self.hooks.read_request(&request, accept.is_specific()),
            accept,
            grpc: grpc::content_type(&request),
            is_head: *request.method() == Method::HEAD,
            is_upgrade: self.config.is_some() && is_upgrade(&request),
            config: self.config.clone(),
            hooks: self.hooks.clone(),
        };
        ResponseFuture::new(client, || self.inner.call(request))
    }
}

/// Returns whether the request opens a tunnel, such as a WebSocket (RFC 6455, RFC 8441).
fn is_upgrade<B>(request: &Request<B>) -> bool {
    *request.method() == Method::CONNECT || request.headers().contains_key(header::UPGRADE)
}
