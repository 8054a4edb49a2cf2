//! The service: peer in, client out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Either, Full};
use tower_service::Service;

use crate::future::ResponseFuture;
use crate::layer::Settings;
use crate::resolve::resolve;
use crate::{ClientIp, PeerAddr};

/// Made by [`ClientIpLayer`](crate::ClientIpLayer).
#[derive(Clone, Debug)]
pub struct ClientIpService<S> {
    inner: S,
    settings: Arc<Settings>,
}

impl<S> ClientIpService<S> {
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

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for ClientIpService<S>
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
        let Some(peer) = peer_addr(&request) else {
            return ResponseFuture::no_peer_address();
        };
        let Settings { trusted, source } = &*self.settings;
        let resolved = resolve(peer.ip().to_canonical(), request.headers(), trusted, source);
        request.extensions_mut().insert(ClientIp(resolved.client));
        #[cfg(feature = "axum")]
        if request.extensions().get::<PeerAddr>().is_none() {
            // For those further in, who know only our own word for it.
            request.extensions_mut().insert(PeerAddr(peer));
        }
        if let Some(trusted) = resolved.trusted {
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
