//! A handshake that is under way: from the request that was passed on to the tunnel.

use std::sync::Arc;

use bytes::Bytes;
use http::header::SEC_WEBSOCKET_EXTENSIONS;
use http::{Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, sleep};

use crate::handshake;
use crate::layer::Settings;
use crate::messages::Messages;
use crate::refusal::{Refusal, WsDecision};
use crate::summary::{ClosedBy, TunnelSummary};
use crate::tunnel::{Limits, Tunnel};
use crate::tunnels::OpenTunnel;

/// What is to be known when the inner service has answered.
pub(crate) struct Opening {
    pub(crate) client: OnUpgrade,
    /// The `Sec-WebSocket-Accept` that is the right answer.
    pub(crate) accept: String,
    /// The client asked by extended CONNECT.
    pub(crate) extended: bool,
    pub(crate) path: Box<str>,
    pub(crate) settings: Arc<Settings>,
}

impl Opening {
    /// Makes the answer to the client of the one from the inner service.
    pub(crate) fn answer<B>(self, mut response: Response<B>) -> Response<Either<B, Full<Bytes>>> {
        let extended = self.extended;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            // RFC 9110 §9.3.6: to a CONNECT, any 2xx says that there is a tunnel.
            if extended && response.status().is_success() {
                return Refusal::BadSwitch.response(extended);
            }
            response.extensions_mut().insert(WsDecision::Declined);
            return response.map(Either::Left);
        }
        let upstream = response.extensions_mut().remove::<OnUpgrade>();
        let Some(upstream) = upstream.filter(|_| handshake::is_accepted(response.headers(), &self.accept)) else {
            return Refusal::BadSwitch.response(extended);
        };
        // RFC 6455 §4.1: not an extension that nobody asked for.
        if self.settings.max_message_size.is_some() && response.headers().contains_key(SEC_WEBSOCKET_EXTENSIONS) {
            return Refusal::BadSwitch.response(extended);
        }
        let open = self.settings.tunnels.enter();
        tokio::spawn(self.tunnel(upstream, open));

        let mut response = response.map(|_| Either::Right(Full::default()));
        handshake::to_client(response.headers_mut(), extended);
        if extended {
            // RFC 8441 §5
            *response.status_mut() = StatusCode::OK;
        }
        response.extensions_mut().insert(WsDecision::Tunnelled);
        response
    }

    async fn tunnel(self, upstream: OnUpgrade, open: OpenTunnel) {
        let Self { client, path, settings, .. } = self;
        let opened = Instant::now();
        let limits = settings.limits;
        let summary = match both(client, upstream, limits, &open).await {
            Ok((client, upstream)) => {
                let (client, upstream) = (TokioIo::new(client), TokioIo::new(upstream));
                match settings.max_message_size {
                    Some(max) => {
                        // As large as the sockets of both ends together: not in every tunnel's future.
                        let messages = Messages::new(client, upstream, max, limits).await;
                        Box::pin(messages.relay(open.drained())).await.summary(path, opened)
                    }
                    None => {
                        let mut tunnel = Tunnel::new(client, upstream, limits);
                        relay(&mut tunnel, &open).await;
                        tunnel.summary(path, opened)
                    }
                }
            }
            Err(by) => TunnelSummary::unopened(path, opened.elapsed(), by),
        };
        // By now both sockets are closed.
        if let Some(tell) = &settings.on_close {
            tell(&summary);
        }
        drop(open);
    }
}

/// Waits until both connections are free of HTTP. The client gets its 101 only now, and may well be
/// gone.
async fn both(
    client: OnUpgrade,
    upstream: OnUpgrade,
    limits: Limits,
    open: &OpenTunnel,
) -> Result<(Upgraded, Upgraded), ClosedBy> {
    let both = async {
        let client = client.await.map_err(|_| ClosedBy::Client)?;
        let upstream = upstream.await.map_err(|_| ClosedBy::Upstream)?;
        Ok((client, upstream))
    };
    let drained = async {
        open.drained().await;
        sleep(limits.close).await;
    };
    tokio::select! {
        biased;
        both = both => both,
        () = drained => Err(ClosedBy::Drain),
        () = sleep(limits.idle) => Err(ClosedBy::IdleTimeout),
    }
}

async fn relay(tunnel: &mut Tunnel<TokioIo<Upgraded>, TokioIo<Upgraded>>, open: &OpenTunnel) {
    tokio::select! {
        biased;
        () = &mut *tunnel => return,
        () = open.drained() => {}
    }
    tunnel.close(ClosedBy::Drain);
    tunnel.await;
}
