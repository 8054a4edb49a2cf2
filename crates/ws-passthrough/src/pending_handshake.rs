//! A forwarded handshake, from the call of the inner service to the end of its tunnel.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::SEC_WEBSOCKET_EXTENSIONS;
use http::{Response, StatusCode};
use hyper::ext::Protocol;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use rproxy_core::ResponseBody;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep};

use crate::byte_relay::ByteRelay;
use crate::config::{Config, MessageConfig, Timeouts};
use crate::decision::WsDecision;
use crate::handshake::UpgradeMethod;
use crate::message_relay::{HandshakeInfo, MessageRelay};
use crate::protocol_switch::ProtocolSwitch;
use crate::rejection::WsRejection;
use crate::summary::{ClosedBy, TunnelSummary};
use crate::tunnel_handle::TunnelHandle;
use crate::tunnels::TunnelGuard;

/// A forwarded handshake whose response from the inner service is pending.
pub(crate) struct PendingHandshake {
    pub(crate) client: OnUpgrade,
    pub(crate) switch: ProtocolSwitch,
    pub(crate) method: UpgradeMethod,
    pub(crate) path: Box<str>,
    /// The address of the client, or `None` if it is unknown.
    pub(crate) ip: Option<IpAddr>,
    pub(crate) guard: TunnelGuard,
    pub(crate) config: Arc<Config>,
}

impl PendingHandshake {
    /// Converts the inner service's response to the response for the client, and spawns the tunnel after a 101.
    pub(crate) fn finish<B>(self, mut response: Response<B>) -> Response<ResponseBody<B>> {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            // RFC 9110 §9.3.6: to the client of a CONNECT, any 2xx means that the tunnel is open.
            if self.method == UpgradeMethod::ExtendedConnect && response.status().is_success() {
                return WsRejection::InvalidSwitch.response(self.method);
            }
            response.extensions_mut().insert(WsDecision::Declined);
            return response.map(ResponseBody::inner);
        }
        let upstream = response.extensions_mut().remove::<OnUpgrade>();
        let http2_protocol = response.extensions_mut().remove::<Protocol>();
        let upstream = upstream.filter(|_| self.switch.is_accepted(response.headers(), http2_protocol.as_ref()));
        let Some(upstream) = upstream else {
            return WsRejection::InvalidSwitch.response(self.method);
        };
        // RFC 6455 §4.1: a server must not use an extension that was not offered. Message mode offers none.
        if self.config.messages.is_some()
            && matches!(self.switch, ProtocolSwitch::WebSocket { .. })
            && response.headers().contains_key(SEC_WEBSOCKET_EXTENSIONS)
        {
            return WsRejection::InvalidSwitch.response(self.method);
        }
        let mut response = response.map(|_| ResponseBody::full(Bytes::new()));
        *response.status_mut() = self.switch.rewrite_response(response.headers_mut(), self.method);
        let handle = TunnelHandle::default();
        tokio::spawn(self.tunnel(upstream, handle.clone()));

        response.extensions_mut().insert(WsDecision::Tunnelled);
        response.extensions_mut().insert(handle);
        response
    }

    async fn tunnel(self, upstream: OnUpgrade, handle: TunnelHandle) {
        let Self { client, switch, path, ip, guard, config, .. } = self;
        let other_protocol = switch.into_other();
        let opened = Instant::now();
        let timeouts = config.timeouts;
        let tunnels = guard.tunnels();
        tunnels.counters().opened();
        let mut summary = match upgrade_both(client, upstream, timeouts, &guard).await {
            Ok((client, upstream)) => {
                let (client, upstream) = (TokioIo::new(client), TokioIo::new(upstream));
                match &config.messages {
                    // The messages of other protocols are unknown.
                    Some(messages) if other_protocol.is_none() => {
                        let info = HandshakeInfo { path, ip, opened };
                        // Boxed because it is as large as two sockets, which would enlarge the future of every tunnel.
                        Box::pin(relay_messages(client, upstream, messages, &config, &guard, info)).await
                    }
                    _ => {
                        let relay = ByteRelay::new(client, upstream, timeouts, tunnels.clone());
                        let mut relay = if other_protocol.is_some() { relay.opaque() } else { relay };
                        relay_bytes(&mut relay, &guard, &config).await;
                        relay.summary(path, opened)
                    }
                }
            }
            Err(by) => TunnelSummary::new(path, opened.elapsed(), by),
        };
        if let Some(protocol) = other_protocol {
            summary.protocol = protocol.as_str().to_owned().into();
        }
        // Both sockets are closed at this point.
        tunnels.counters().closed(summary.closed_by);
        if let Some(on_close) = &config.on_close {
            on_close(&summary);
        }
        // The tunnel is no longer counted as open when the callback runs.
        drop(guard);
        handle.notify(&summary);
    }
}

/// Waits until both HTTP connections are upgraded. The client gets its 101 only now, and may have disconnected.
async fn upgrade_both(
    client: OnUpgrade,
    upstream: OnUpgrade,
    timeouts: Timeouts,
    guard: &TunnelGuard,
) -> Result<(Upgraded, Upgraded), ClosedBy> {
    let both = async {
        let client = client.await.map_err(|_| ClosedBy::Client)?;
        let upstream = upstream.await.map_err(|_| ClosedBy::Upstream)?;
        Ok((client, upstream))
    };
    let drained = async {
        let command = guard.close_command(timeouts.close, None).await;
        sleep(timeouts.close).await;
        Err(command.by)
    };
    tokio::select! {
        biased;
        both = both => both,
        drained = drained => drained,
        () = sleep(timeouts.idle) => Err(ClosedBy::IdleTimeout),
    }
}

async fn relay_bytes<C, U>(relay: &mut ByteRelay<C, U>, guard: &TunnelGuard, config: &Config)
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let command = tokio::select! {
        biased;
        () = &mut *relay => return,
        command = guard.close_command(config.timeouts.close, config.max_lifetime) => command,
    };
    relay.close(command);
    relay.await;
}

async fn relay_messages<C, U>(
    client: C,
    upstream: U,
    messages: &MessageConfig,
    config: &Config,
    guard: &TunnelGuard,
    info: HandshakeInfo,
) -> TunnelSummary
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let relay = MessageRelay::new(client, upstream, messages, config.timeouts).await;
    relay.run(guard, config.max_lifetime, config.client_limits.message_rate, info).await
}
