//! A service that checks the client's address before it calls the inner service.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response, StatusCode};
use rproxy_client_ip::{AddressDecision, AddressRules, ClientIp};
use rproxy_core::{Rejection, RejectionDetail, ResponseBody};
use tower_service::Service;

use crate::future::ResponseFuture;
use crate::rejection::unknown_address;

/// A service that rejects clients by their address, see [`AddressFilterLayer`](crate::AddressFilterLayer).
#[derive(Clone, Debug)]
pub struct AddressFilterService<S> {
    inner: S,
    rules: Arc<AddressRules>,
}

impl<S> AddressFilterService<S> {
    pub(crate) fn new(inner: S, rules: Arc<AddressRules>) -> Self {
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

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for AddressFilterService<S>
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
        let client = request.extensions().get::<ClientIp>();
        match client.map(|client| self.rules.decide(client.0)) {
            Some(AddressDecision::Allowed) => ResponseFuture::inner(self.inner.call(request)),
            decision => ResponseFuture::response(rejection(decision)),
        }
    }
}

/// Returns the response to a client that is not allowed. `None`: its address is not known.
fn rejection(decision: Option<AddressDecision>) -> Response<&'static str> {
    let denied = |cause| Rejection::new("access", "access_denied", StatusCode::FORBIDDEN).with_cause(cause);
    match decision {
        Some(AddressDecision::Denied(range)) => denied("denied_address")
            .with_detail(RejectionDetail::Rule(range.to_string().into()))
            .into_response("Forbidden\n"),
        Some(_) => denied("unlisted_address").into_response("Forbidden\n"),
        None => unknown_address(),
    }
}
