//! The relay of WebSocket messages between a client and an upstream, for message mode.

mod close;
mod message_direction;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{Either, join, select};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use self::close::{CloseOutcome, close};
use self::message_direction::{MessageDirection, PingState, StopReason};
use crate::config::{MessageConfig, Timeouts};
use crate::message::WsEndpoint;
use crate::metered_socket::{MeteredSocket, SocketActivity};
use crate::summary::TunnelSummary;
use crate::tunnels::TunnelGuard;

/// The data of the handshake that opened a tunnel.
pub(crate) struct HandshakeInfo {
    pub(crate) path: Box<str>,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) opened: Instant,
}

/// A relay of WebSocket messages between a client and an upstream.
///
/// It is the server for the client, and the client for the upstream.
pub(crate) struct MessageRelay<'a, C, U> {
    client: WebSocketStream<MeteredSocket<C>>,
    upstream: WebSocketStream<MeteredSocket<U>>,
    client_activity: Arc<SocketActivity>,
    upstream_activity: Arc<SocketActivity>,
    config: &'a MessageConfig,
    timeouts: Timeouts,
}

impl<'a, C, U> MessageRelay<'a, C, U>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    pub(crate) async fn new(client: C, upstream: U, config: &'a MessageConfig, timeouts: Timeouts) -> Self {
        let socket_config = WebSocketConfig::default()
            .max_message_size(Some(config.max_message))
            .max_frame_size(Some(config.max_frame.min(config.max_message)))
            // The default is 128 KiB per socket.
            .read_buffer_size(BUFFER)
            .write_buffer_size(0);
        let (client_activity, upstream_activity) = (SocketActivity::new(), SocketActivity::new());
        let client = MeteredSocket::new(client, &client_activity);
        let upstream = MeteredSocket::new(upstream, &upstream_activity);
        Self {
            client: WebSocketStream::from_raw_socket(client, Role::Server, Some(socket_config)).await,
            upstream: WebSocketStream::from_raw_socket(upstream, Role::Client, Some(socket_config)).await,
            client_activity,
            upstream_activity,
            config,
            timeouts,
        }
    }

    /// Relays messages until an endpoint closes its connection or the proxy closes the tunnel. Then closes both
    /// connections.
    pub(crate) async fn run(
        self,
        guard: &TunnelGuard,
        max_lifetime: Option<Duration>,
        message_rate: Option<NonZeroU32>,
        info: HandshakeInfo,
    ) -> TunnelSummary {
        let Self { client, upstream, client_activity, upstream_activity, config, timeouts } = self;
        let counters = guard.tunnels().counters();
        let pings = config.pings.map(|pings| (PingState::new(pings), PingState::new(pings)));
        let (client_pings, upstream_pings) = (pings.as_ref().map(|both| &both.0), pings.as_ref().map(|both| &both.1));
        let on_message = config.on_message.as_deref();
        let inbound =
            MessageDirection::new(WsEndpoint::Client, &info, &client_activity, &counters.from_client, on_message)
                .with_rate(message_rate.map(|rate| (guard.client(), rate)))
                .with_pings(upstream_pings);
        let outbound =
            MessageDirection::new(WsEndpoint::Upstream, &info, &upstream_activity, &counters.from_upstream, on_message)
                .with_pings(client_pings);

        let (mut client_sink, mut client_stream) = client.split();
        let (mut upstream_sink, mut upstream_stream) = upstream.split();
        let outcome = {
            let close_command = || guard.close_command(timeouts.close, max_lifetime);
            let inward = pin!(inbound.run(&mut client_stream, &mut upstream_sink, close_command()));
            let outward = pin!(outbound.run(&mut upstream_stream, &mut client_sink, close_command()));
            let relayed = async {
                match select(inward, outward).await {
                    // The message in progress in the other direction may be completed.
                    Either::Left((StopReason::CloseCommand(command), other)) => {
                        let _ = timeout(command.message_timeout, other).await;
                        CloseOutcome::by_proxy(command.by, command.code)
                    }
                    Either::Right((StopReason::CloseCommand(command), other)) => {
                        let _ = timeout(command.message_timeout, other).await;
                        CloseOutcome::by_proxy(command.by, command.code)
                    }
                    Either::Left((reason, _)) => CloseOutcome::by_client(reason),
                    Either::Right((reason, _)) => CloseOutcome::by_upstream(reason),
                }
            };
            tokio::select! {
                biased;
                outcome = relayed => outcome,
                () = idle(timeouts.idle, [&client_activity, &upstream_activity]) => CloseOutcome::by_idle_timeout(),
                () = pong_timeout(client_pings, &client_activity) => CloseOutcome::by_pong_timeout(WsEndpoint::Client),
                () = pong_timeout(upstream_pings, &upstream_activity) => {
                    CloseOutcome::by_pong_timeout(WsEndpoint::Upstream)
                }
            }
        };
        let summary = TunnelSummary {
            bytes_from_client: client_activity.bytes(),
            bytes_from_upstream: upstream_activity.bytes(),
            messages_from_client: inbound.messages(),
            messages_from_upstream: outbound.messages(),
            closed_by: outcome.by,
            close_from_client: outcome.code_from(WsEndpoint::Client),
            close_from_upstream: outcome.code_from(WsEndpoint::Upstream),
            close_from_proxy: outcome.code_from_proxy(),
            ..TunnelSummary::new(info.path.clone(), Duration::ZERO, outcome.by)
        };
        // Always succeeds: the halves belong together.
        if let (Ok(client), Ok(upstream)) = (client_sink.reunite(client_stream), upstream_sink.reunite(upstream_stream))
        {
            // An endpoint that does not reply in time is dropped.
            let both = join(close(client, outcome.to_client), close(upstream, outcome.to_upstream));
            let _ = timeout(timeouts.close, both).await;
        }
        TunnelSummary { duration: info.opened.elapsed(), ..summary }
    }
}

/// Completes when neither socket was read or written for the duration `limit`.
async fn idle(limit: Duration, activities: [&SocketActivity; 2]) {
    loop {
        let last = activities.map(SocketActivity::last_active);
        let deadline = last[0].max(last[1]) + limit;
        if deadline <= Instant::now() {
            return;
        }
        sleep_until(deadline).await;
    }
}

/// Completes when an endpoint did not reply to a ping within the ping timeout.
async fn pong_timeout(pings: Option<&PingState>, activity: &SocketActivity) {
    match pings {
        Some(pings) => pings.timed_out(activity).await,
        None => std::future::pending().await,
    }
}

/// Returns a future that never completes, with any output type, for use in `match` arms.
fn never<T>() -> impl Future<Output = T> {
    std::future::pending()
}

const BUFFER: usize = 8 * 1024;
