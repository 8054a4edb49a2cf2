//! The service that checks WebSocket handshakes before it calls the inner service.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::SEC_WEBSOCKET_EXTENSIONS;
use http::{Request, Response};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use rproxy_client_ip::ClientIp;
use rproxy_core::ResponseBody;
use tower_service::Service;

use crate::config::Config;
use crate::future::ResponseFuture;
use crate::handshake::{self, UpgradeMethod, UpgradeRequest};
use crate::original_uri::original_uri;
use crate::pending_handshake::PendingHandshake;
use crate::protocol_switch::ProtocolSwitch;
use crate::rejection::WsRejection;

/// A service that forwards WebSocket handshakes to the inner service, and relays the WebSockets.
///
/// Requests without an upgrade are forwarded unchanged.
#[derive(Clone, Debug)]
pub struct WsPassthroughService<S> {
    inner: S,
    config: Arc<Config>,
}

impl<S> WsPassthroughService<S> {
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

    /// Consumes the service and returns the inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }

    /// Validates a handshake, and rewrites its request for the inner service.
    ///
    /// `protocol` is the requested protocol if it is not WebSocket.
    fn check_handshake<B>(
        &self,
        request: &mut Request<B>,
        protocol: Option<Protocol>,
        method: UpgradeMethod,
    ) -> Result<Box<PendingHandshake>, WsRejection> {
        let Config { tunnels, counts, shared_limits, max_tunnels, client_limits, messages, .. } = &*self.config;
        let path: Box<str> = original_uri(request).path().into();
        if !self.config.allows_path(&path) {
            return Err(WsRejection::ForbiddenPath);
        }
        if self.config.origins.as_ref().is_some_and(|origins| !origins.allow(request)) {
            return Err(WsRejection::ForbiddenOrigin);
        }
        let switch = match (protocol, method) {
            (Some(protocol), _) => ProtocolSwitch::Other(protocol),
            (None, UpgradeMethod::Upgrade) => ProtocolSwitch::WebSocket { accept: handshake::check_http1(request)? },
            (None, UpgradeMethod::ExtendedConnect) => {
                handshake::check_extended_connect(request)?;
                ProtocolSwitch::WebSocket { accept: handshake::add_key(request.headers_mut()) }
            }
        };
        let client = request.extensions_mut().remove::<OnUpgrade>().ok_or(WsRejection::UpgradeUnavailable)?;
        let ip = request.extensions().get::<ClientIp>().map(|client| client.0);
        let guard = tunnels.open(|| counts.acquire(shared_limits, ip, *max_tunnels, client_limits))?;
        handshake::rewrite_request(request, &switch, method, self.config.keep_upgrade_fields);
        if messages.is_some() {
            // Extensions change the format of frames, which message mode parses.
            request.headers_mut().remove(SEC_WEBSOCKET_EXTENSIONS);
        }
        let config = Arc::clone(&self.config);
        Ok(Box::new(PendingHandshake { client, switch, method, path, ip, guard, config }))
    }

    /// Forwards a handshake to the inner service, or rejects it.
    fn call_with_handshake<B>(
        &mut self,
        mut request: Request<B>,
        protocol: Option<Protocol>,
        method: UpgradeMethod,
    ) -> ResponseFuture<S::Future>
    where
        S: Service<Request<B>>,
    {
        match self.check_handshake(&mut request, protocol, method) {
            Ok(handshake) => ResponseFuture::handshake(self.inner.call(request), handshake),
            Err(rejection) => ResponseFuture::rejected(rejection, method),
        }
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for WsPassthroughService<S>
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
        match UpgradeRequest::parse(&request, &self.config.upgrade_protocols) {
            UpgradeRequest::None => ResponseFuture::forwarded(self.inner.call(request)),
            UpgradeRequest::WebSocket(method) => self.call_with_handshake(request, None, method),
            UpgradeRequest::Allowed(protocol, method) => self.call_with_handshake(request, Some(protocol), method),
            UpgradeRequest::UnsupportedConnect => {
                ResponseFuture::rejected(WsRejection::UnsupportedProtocol, UpgradeMethod::ExtendedConnect)
            }
            // RFC 9110 §7.8: a server may ignore `Upgrade`.
            UpgradeRequest::UnsupportedUpgrade => {
                handshake::remove_upgrade(request.headers_mut());
                ResponseFuture::upgrade_ignored(self.inner.call(request))
            }
        }
    }
}
