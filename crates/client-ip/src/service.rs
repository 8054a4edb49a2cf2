//! A service that determines the client of each request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use rproxy_core::ResponseBody;
use tower_service::Service;

use crate::client_connection;
use crate::config::Config;
use crate::extensions::{ClientIp, PeerAddr};
use crate::future::ResponseFuture;
use crate::resolve::resolve;

/// A service that inserts the client's address into each request as [`ClientIp`].
///
/// It rejects requests without a peer address with 500, because the server must supply one.
#[derive(Clone, Debug)]
pub struct ClientIpService<S> {
    inner: S,
    config: Arc<Config>,
}

impl<S> ClientIpService<S> {
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

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for ClientIpService<S>
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
        let Some(peer) = peer_addr(&request) else {
            return ResponseFuture::no_peer_address();
        };
        let Config { trusted, source } = &*self.config;
        let resolved = resolve(peer.ip().to_canonical(), request.headers(), trusted, source);
        request.extensions_mut().insert(ClientIp(resolved.client));
        #[cfg(feature = "axum")]
        if request.extensions().get::<PeerAddr>().is_none() {
            // Inner layers look for this extension only.
            request.extensions_mut().insert(PeerAddr(peer));
        }
        if let Some(trusted) = resolved.trusted {
            client_connection::separate(request.extensions_mut(), resolved.client);
            request.extensions_mut().insert(trusted);
        }
        ResponseFuture::inner(self.inner.call(request))
    }
}

fn peer_addr<B>(request: &Request<B>) -> Option<SocketAddr> {
    let extensions = request.extensions();
    let peer = extensions.get::<PeerAddr>().map(|peer| peer.0);
    #[cfg(feature = "axum")]
    let peer = peer.or_else(|| extensions.get::<axum::extract::ConnectInfo<SocketAddr>>().map(|info| info.0));
    peer
}
