//! A handshake that is under way: from the request that was passed on to the tunnel.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::SEC_WEBSOCKET_EXTENSIONS;
use http::{Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::ext::Protocol;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep};

use crate::end::TunnelEnd;
use crate::handshake::By;
use crate::layer::Settings;
use crate::messages::{About, MessageSettings, Messages};
use crate::refusal::{Refusal, WsDecision};
use crate::summary::{ClosedBy, TunnelSummary};
use crate::switch::Switch;
use crate::tunnel::{Limits, Tunnel};
use crate::tunnels::OpenTunnel;

/// What is to be known when the inner service has answered.
pub(crate) struct Opening {
    pub(crate) client: OnUpgrade,
    pub(crate) switch: Switch,
    /// How the client asked.
    pub(crate) by: By,
    pub(crate) path: Box<str>,
    /// The client, if anybody told.
    pub(crate) ip: Option<IpAddr>,
    pub(crate) open: OpenTunnel,
    pub(crate) settings: Arc<Settings>,
}

impl Opening {
    /// Makes the answer to the client of the one from the inner service.
    pub(crate) fn answer<B>(self, mut response: Response<B>) -> Response<Either<B, Full<Bytes>>> {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            // RFC 9110 §9.3.6: to a CONNECT, any 2xx says that there is a tunnel.
            if self.by == By::ExtendedConnect && response.status().is_success() {
                return Refusal::BadSwitch.response(self.by);
            }
            response.extensions_mut().insert(WsDecision::Declined);
            return response.map(Either::Left);
        }
        let upstream = response.extensions_mut().remove::<OnUpgrade>();
        let by_http2 = response.extensions_mut().remove::<Protocol>();
        let upstream = upstream.filter(|_| self.switch.is_accepted(response.headers(), by_http2.as_ref()));
        let Some(upstream) = upstream else {
            return Refusal::BadSwitch.response(self.by);
        };
        // RFC 6455 §4.1: not an extension that nobody asked for.
        if self.settings.messages.is_some()
            && matches!(self.switch, Switch::WebSocket { .. })
            && response.headers().contains_key(SEC_WEBSOCKET_EXTENSIONS)
        {
            return Refusal::BadSwitch.response(self.by);
        }
        let mut response = response.map(|_| Either::Right(Full::default()));
        *response.status_mut() = self.switch.to_client(response.headers_mut(), self.by);
        let end = TunnelEnd::default();
        tokio::spawn(self.tunnel(upstream, end.clone()));

        response.extensions_mut().insert(WsDecision::Tunnelled);
        response.extensions_mut().insert(end);
        response
    }

    async fn tunnel(self, upstream: OnUpgrade, end: TunnelEnd) {
        let Self { client, switch, path, ip, open, settings, .. } = self;
        let other = switch.into_other();
        let opened = Instant::now();
        let limits = settings.limits;
        let tunnels = open.tunnels();
        tunnels.counters().opened();
        let mut summary = match both(client, upstream, limits, &open).await {
            Ok((client, upstream)) => {
                let (client, upstream) = (TokioIo::new(client), TokioIo::new(upstream));
                match &settings.messages {
                    // In other protocols there are none that we know of.
                    Some(messages) if other.is_none() => {
                        let about = About { path, ip, opened };
                        // As large as the sockets of both ends together: not in every tunnel's future.
                        Box::pin(relay_messages(client, upstream, messages, &settings, &open, about)).await
                    }
                    _ => {
                        let tunnel = Tunnel::new(client, upstream, limits, tunnels.clone());
                        let mut tunnel = if other.is_some() { tunnel.opaque() } else { tunnel };
                        relay(&mut tunnel, &open, &settings).await;
                        tunnel.summary(path, opened)
                    }
                }
            }
            Err(by) => TunnelSummary::new(path, opened.elapsed(), by),
        };
        if let Some(protocol) = other {
            summary.protocol = protocol.as_str().to_owned().into();
        }
        // By now both sockets are closed.
        tunnels.counters().closed(summary.closed_by);
        if let Some(tell) = &settings.on_close {
            tell(&summary);
        }
        // Whoever is told of the end finds it counted.
        drop(open);
        end.tell(&summary);
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
        let ending = open.ended(limits.close, None).await;
        sleep(limits.close).await;
        Err(ending.by)
    };
    tokio::select! {
        biased;
        both = both => both,
        drained = drained => drained,
        () = sleep(limits.idle) => Err(ClosedBy::IdleTimeout),
    }
}

async fn relay<C, U>(tunnel: &mut Tunnel<C, U>, open: &OpenTunnel, settings: &Settings)
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let ending = tokio::select! {
        biased;
        () = &mut *tunnel => return,
        ending = open.ended(settings.limits.close, settings.lifetime) => ending,
    };
    tunnel.close(ending);
    tunnel.await;
}

async fn relay_messages<C, U>(
    client: C,
    upstream: U,
    messages: &MessageSettings,
    settings: &Settings,
    open: &OpenTunnel,
    about: About,
) -> TunnelSummary
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let relay = Messages::new(client, upstream, messages, settings.limits).await;
    relay.relay(open, settings.lifetime, settings.client_limits.messages, about).await
}
