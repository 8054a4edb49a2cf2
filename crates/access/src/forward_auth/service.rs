//! A service that sends a request to the authentication service before it calls the inner service.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Empty;
use rproxy_core::{EitherBody, ResponseBody};
use tower_service::Service;

use super::auth_request::{UnknownAddress, auth_request};
use super::config::ForwardAuthConfig;
use super::exchange::decide;
use crate::decision::{Decision, DecisionFuture};
use crate::rejection::unknown_address;

/// A service that admits the requests that an authentication service admits, see
/// [`ForwardAuthLayer`](crate::ForwardAuthLayer).
#[derive(Clone, Debug)]
pub struct ForwardAuthService<S, C> {
    inner: S,
    client: C,
    config: ForwardAuthConfig,
}

impl<S, C> ForwardAuthService<S, C> {
    pub(crate) fn new(inner: S, client: C, config: ForwardAuthConfig) -> Self {
        Self { inner, client, config }
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

impl<S, C, B, R, A> Service<Request<B>> for ForwardAuthService<S, C>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    C: Service<Request<Empty<Bytes>>, Response = Response<A>, Error: Send, Future: Send> + Clone + Send + 'static,
    A: Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<EitherBody<R, ResponseBody<A>>>;
    type Error = S::Error;
    type Future = DecisionFuture<S, B, ResponseBody<A>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let auth = auth_request(&request, &self.config.shared);
        self.config.shared.copied_fields.remove(request.headers_mut());
        let auth = match auth {
            Ok(auth) => auth,
            Err(UnknownAddress) => {
                let response = unknown_address().map(ResponseBody::full);
                return DecisionFuture::decided(Decision::Respond(response), &mut self.inner, request);
            }
        };
        let (client, config) = (self.client.clone(), Arc::clone(&self.config.shared));
        let decision = async move { decide(client, auth, &config).await };
        // Only this instance is known to be ready: it makes the call, and its clone stays behind.
        let clone = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, clone);
        DecisionFuture::pending(Box::pin(decision), ready, request)
    }
}
