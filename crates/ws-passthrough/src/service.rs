//! The service: what a request asks for, and whether it is let through.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::SEC_WEBSOCKET_EXTENSIONS;
use http::{Request, Response};
use http_body_util::{Either, Full};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use rproxy_client_ip::ClientIp;
use tower_service::Service;

use crate::future::ResponseFuture;
use crate::handshake::{self, Asked, By};
use crate::layer::Settings;
use crate::opening::Opening;
use crate::refusal::Refusal;
use crate::switch::Switch;
use crate::target::target;

/// Made by [`WsPassthroughLayer`](crate::WsPassthroughLayer).
#[derive(Clone, Debug)]
pub struct WsPassthroughService<S> {
    inner: S,
    settings: Arc<Settings>,
}

impl<S> WsPassthroughService<S> {
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

    /// Whether a handshake is passed on, and then what to expect; it is changed to be passed on. `other` is what is
    /// asked for if that is no WebSocket.
    fn open<B>(&self, request: &mut Request<B>, other: Option<Protocol>, by: By) -> Result<Box<Opening>, Refusal> {
        let Settings { tunnels, max_tunnels, client_limits, messages, .. } = &*self.settings;
        let path: Box<str> = target(request).path().into();
        if !self.settings.allows(&path) {
            return Err(Refusal::ForbiddenPath);
        }
        if self.settings.origins.as_ref().is_some_and(|origins| !origins.allow(request)) {
            return Err(Refusal::ForbiddenOrigin);
        }
        let switch = match (other, by) {
            (Some(protocol), _) => Switch::Other(protocol),
            (None, By::Upgrade) => Switch::WebSocket { accept: handshake::check(request)? },
            (None, By::ExtendedConnect) => {
                handshake::check_extended(request)?;
                Switch::WebSocket { accept: handshake::add_key(request.headers_mut()) }
            }
        };
        let client = request.extensions_mut().remove::<OnUpgrade>().ok_or(Refusal::NoUpgrade)?;
        let ip = request.extensions().get::<ClientIp>().map(|client| client.0);
        let open = tunnels.enter(ip, *max_tunnels, client_limits)?;
        handshake::announce(request, &switch, by, self.settings.keep_upgrade_fields);
        if messages.is_some() {
            // They change what frames mean, and we are to read them.
            request.headers_mut().remove(SEC_WEBSOCKET_EXTENSIONS);
        }
        Ok(Box::new(Opening { client, switch, by, path, ip, open, settings: Arc::clone(&self.settings) }))
    }

    /// Passes a handshake on, or refuses it.
    fn hand_on<B>(&mut self, mut request: Request<B>, other: Option<Protocol>, by: By) -> ResponseFuture<S::Future>
    where
        S: Service<Request<B>>,
    {
        match self.open(&mut request, other, by) {
            Ok(opening) => ResponseFuture::opening(self.inner.call(request), opening),
            Err(refusal) => ResponseFuture::refused(refusal, by),
        }
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for WsPassthroughService<S>
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
        match Asked::of(&request, &self.settings.upgrades) {
            Asked::Nothing => ResponseFuture::ordinary(self.inner.call(request)),
            Asked::WebSocket(by) => self.hand_on(request, None, by),
            Asked::Allowed(protocol, by) => self.hand_on(request, Some(protocol), by),
            Asked::OtherConnect => ResponseFuture::refused(Refusal::UnknownProtocol, By::ExtendedConnect),
            // RFC 9110 §7.8: a server may ignore it.
            Asked::OtherUpgrade => {
                handshake::forget_upgrade(request.headers_mut());
                ResponseFuture::ignored(self.inner.call(request))
            }
        }
    }
}
