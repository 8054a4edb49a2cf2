//! The service: headers on the way in, and a future for those on the way out.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Either, Full};
use tower_service::Service;

use crate::forwarding;
use crate::future::ResponseFuture;
use crate::hop_by_hop;
use crate::layer::Settings;
use crate::max_forwards::{self, Recipient};
use crate::via::Loop;

/// Made by [`ForwardHeadersLayer`](crate::ForwardHeadersLayer).
#[derive(Clone, Debug)]
pub struct ForwardHeadersService<S> {
    inner: S,
    settings: Arc<Settings>,
}

impl<S> ForwardHeadersService<S> {
    pub(crate) fn new(inner: S, settings: Arc<Settings>) -> Self {
        Self { inner, settings }
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

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for ForwardHeadersService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Response = Response<Either<ResBody, Full<Bytes>>>;
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
        // First what the client may remove, then what it may not.
        let seen = hop_by_hop::remove(request.headers_mut());
        match forwarding::rebuild(&mut request, &self.settings, seen) {
            Ok(id) => ResponseFuture::inner(self.inner.call(request), id),
            Err(Loop) => ResponseFuture::loop_detected(),
        }
    }
}
