//! Messages between a client and an upstream, where they are to be looked at.

use std::fmt;
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

use crate::message::{OnMessage, WsEnd};
use crate::meter::{Metered, Reading};
use crate::summary::TunnelSummary;
use crate::tunnel::Limits;
use crate::tunnels::OpenTunnel;

mod close;
mod pass_on;
#[cfg(test)]
mod tests;

use self::close::{End, close};
use self::pass_on::{Passage, Pulse, Stop};

/// What is asked of messages.
#[derive(Clone)]
pub(crate) struct MessageSettings {
    pub(crate) max_message: usize,
    pub(crate) max_frame: usize,
    pub(crate) pings: Option<Pings>,
    pub(crate) judge: Option<Arc<OnMessage>>,
}

/// How often an end is asked whether it is there, and how long it has to answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pings {
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
}

impl Default for MessageSettings {
    fn default() -> Self {
        Self { max_message: 16 << 20, max_frame: usize::MAX, pings: None, judge: None }
    }
}

impl fmt::Debug for MessageSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { max_message, max_frame, pings, judge: _ } = self;
        f.debug_struct("MessageSettings")
            .field("max_message", max_message)
            .field("max_frame", max_frame)
            .field("pings", pings)
            .finish_non_exhaustive()
    }
}

/// Whose messages they are.
pub(crate) struct About {
    pub(crate) path: Box<str>,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) opened: Instant,
}

/// Both ends, spoken to in messages: to the client we are the server, to the upstream the client.
pub(crate) struct Messages<'a, C, U> {
    client: WebSocketStream<Metered<C>>,
    upstream: WebSocketStream<Metered<U>>,
    from_client: Arc<Reading>,
    from_upstream: Arc<Reading>,
    settings: &'a MessageSettings,
    limits: Limits,
}

impl<'a, C, U> Messages<'a, C, U>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    pub(crate) async fn new(client: C, upstream: U, settings: &'a MessageSettings, limits: Limits) -> Self {
        let config = WebSocketConfig::default()
            .max_message_size(Some(settings.max_message))
            .max_frame_size(Some(settings.max_frame.min(settings.max_message)))
            // Of its own accord it takes 128 KiB for each socket.
            .read_buffer_size(BUFFER)
            .write_buffer_size(0);
        let (from_client, from_upstream) = (Reading::new(), Reading::new());
        let (client, upstream) = (Metered::new(client, &from_client), Metered::new(upstream, &from_upstream));
        Self {
            client: WebSocketStream::from_raw_socket(client, Role::Server, Some(config)).await,
            upstream: WebSocketStream::from_raw_socket(upstream, Role::Client, Some(config)).await,
            from_client,
            from_upstream,
            settings,
            limits,
        }
    }

    /// Passes messages on until an end closes, or until the tunnel is to end; then closes both.
    pub(crate) async fn relay(
        self,
        open: &OpenTunnel,
        lifetime: Option<Duration>,
        rate: Option<NonZeroU32>,
        about: About,
    ) -> TunnelSummary {
        let Self { client, upstream, from_client, from_upstream, settings, limits } = self;
        let counters = open.tunnels().counters();
        let pulses = settings.pings.map(|pings| (Pulse::new(pings), Pulse::new(pings)));
        let (of_client, of_upstream) = (pulses.as_ref().map(|both| &both.0), pulses.as_ref().map(|both| &both.1));
        let judge = settings.judge.as_deref();
        let inbound = Passage::new(WsEnd::Client, &about, &from_client, &counters.from_client, judge)
            .held_to(open.client().zip(rate))
            .pinging(of_upstream);
        let outbound =
            Passage::new(WsEnd::Upstream, &about, &from_upstream, &counters.from_upstream, judge).pinging(of_client);

        let (mut to_client, mut read_client) = client.split();
        let (mut to_upstream, mut read_upstream) = upstream.split();
        let end = {
            let ended = || open.ended(limits.close, lifetime);
            let inward = pin!(inbound.run(&mut read_client, &mut to_upstream, ended()));
            let outward = pin!(outbound.run(&mut read_upstream, &mut to_client, ended()));
            let passed = async {
                match select(inward, outward).await {
                    // The message that goes the other way is to get to its end.
                    Either::Left((Stop::Ended(ending), other)) => {
                        let _ = timeout(ending.patience, other).await;
                        End::by_us(ending.by, ending.code)
                    }
                    Either::Right((Stop::Ended(ending), other)) => {
                        let _ = timeout(ending.patience, other).await;
                        End::by_us(ending.by, ending.code)
                    }
                    Either::Left((stop, _)) => End::by_client(stop),
                    Either::Right((stop, _)) => End::by_upstream(stop),
                }
            };
            tokio::select! {
                biased;
                end = passed => end,
                () = silence(limits.idle, [&from_client, &from_upstream]) => End::by_silence(),
                () = unanswered(of_client, &from_client) => End::by_missing(WsEnd::Client),
                () = unanswered(of_upstream, &from_upstream) => End::by_missing(WsEnd::Upstream),
            }
        };
        let summary = TunnelSummary {
            bytes_from_client: from_client.bytes(),
            bytes_from_upstream: from_upstream.bytes(),
            messages_from_client: inbound.messages(),
            messages_from_upstream: outbound.messages(),
            closed_by: end.by,
            close_from_client: end.said_by(WsEnd::Client),
            close_from_upstream: end.said_by(WsEnd::Upstream),
            close_from_proxy: end.said_by_us(),
            ..TunnelSummary::new(about.path.clone(), Duration::ZERO, end.by)
        };
        // They come of the same streams, and so fit.
        if let (Ok(client), Ok(upstream)) = (to_client.reunite(read_client), to_upstream.reunite(read_upstream)) {
            // Whoever does not answer in time is left.
            let _ = timeout(limits.close, join(close(client, end.to_client), close(upstream, end.to_upstream))).await;
        }
        TunnelSummary { duration: about.opened.elapsed(), ..summary }
    }
}

/// Returns when no byte has come or gone at either end for `idle`.
async fn silence(idle: Duration, readings: [&Reading; 2]) {
    loop {
        let last = readings.map(Reading::last_moved);
        let deadline = last[0].max(last[1]) + idle;
        if deadline <= Instant::now() {
            return;
        }
        sleep_until(deadline).await;
    }
}

/// Returns when an end was asked whether it is there, and has said nothing in time.
async fn unanswered(pulse: Option<&Pulse>, reading: &Reading) {
    match pulse {
        Some(pulse) => pulse.stopped(reading).await,
        None => std::future::pending().await,
    }
}

/// A future that never is.
fn never<T>() -> impl Future<Output = T> {
    std::future::pending()
}

const BUFFER: usize = 8 * 1024;
