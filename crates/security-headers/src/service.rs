//! The service: notes what matters of the request, and leaves the rest to the future.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Extensions, Request, Response};
use tower_service::Service;

use crate::future::ResponseFuture;
use crate::rules::{Asked, Rules};

/// Made by [`SecurityHeadersLayer`](crate::SecurityHeadersLayer).
#[derive(Clone, Debug)]
pub struct SecurityHeadersService<S> {
    inner: S,
    rules: Arc<Rules>,
}

impl<S> SecurityHeadersService<S> {
    pub(crate) fn new(inner: S, rules: Arc<Rules>) -> Self {
        Self { inner, rules }
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
        let asked = self.rules.ask(&mut request);
        self.rules.apply_to_interim(request.extensions_mut(), &asked);
        ResponseFuture::new(self.inner.call(request), Arc::clone(&self.rules), asked)
    }
}

/// How interim responses reach the client, where a server knows a way: `rproxy_server::InterimRelay`, which is a type
/// that takes no dependency to name.
type InterimRelay = Arc<dyn Fn(Response<()>) + Send + Sync>;

impl Rules {
    /// Has the rules applied to what comes ahead of the answer (RFC 9110 §15.2), too.
    fn apply_to_interim(self: &Arc<Self>, extensions: &mut Extensions, asked: &Asked) {
        if let Some(relay) = extensions.get_mut::<InterimRelay>() {
            let (rules, outer, asked) = (Arc::clone(self), Arc::clone(relay), asked.clone());
            *relay = Arc::new(move |mut head| {
                rules.apply(&mut head, &asked);
                outer(head);
            });
        }
    }
}
