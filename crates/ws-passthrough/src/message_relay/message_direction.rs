//! One direction of a message relay: from a source to a destination.

use std::future::Future;
use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{HandshakeInfo, never};
use crate::client_limits::Client;
use crate::config::PingConfig;
use crate::message::{MessageAction, MessageContext, OnMessage, WsEndpoint, WsMessage};
use crate::metered_socket::SocketActivity;
use crate::stats::Traffic;
use crate::tunnels::CloseCommand;

/// The reason that one direction of a message relay stopped.
#[derive(Debug)]
pub(super) enum StopReason {
    /// The source sent a Close frame, with or without a close code.
    Close(Option<CloseFrame>),
    /// The source violated the WebSocket protocol or a limit. It gets a Close with this code.
    Violation(CloseCode),
    /// The `on_message` function closed the tunnel with this close code.
    Hook(u16),
    /// The source disconnected without a Close frame.
    SourceGone,
    /// The destination of the messages disconnected.
    DestinationGone,
    /// The tunnel must be closed because of a close command or its maximum lifetime.
    CloseCommand(CloseCommand),
}

/// A relay of WebSocket messages from one endpoint to the other endpoint.
pub(super) struct MessageDirection<'a> {
    from: WsEndpoint,
    info: &'a HandshakeInfo,
    activity: &'a SocketActivity,
    traffic: &'a Traffic,
    on_message: Option<&'a OnMessage>,
    rate: Option<(&'a Client, NonZeroU32)>,
    /// The state of the pings to the destination.
    pings: Option<&'a PingState>,
    /// The number of received bytes that `traffic` already includes.
    counted_bytes: AtomicU64,
    messages: AtomicU64,
}

impl<'a> MessageDirection<'a> {
    pub(super) fn new(
        from: WsEndpoint,
        info: &'a HandshakeInfo,
        activity: &'a SocketActivity,
        traffic: &'a Traffic,
        on_message: Option<&'a OnMessage>,
    ) -> Self {
        let (counted_bytes, messages) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { from, info, activity, traffic, on_message, rate: None, pings: None, counted_bytes, messages }
    }

    /// Limits the rate of messages from the client.
    pub(super) fn with_rate(self, rate: Option<(&'a Client, NonZeroU32)>) -> Self {
        Self { rate, ..self }
    }

    /// Enables pings to the destination.
    pub(super) fn with_pings(self, pings: Option<&'a PingState>) -> Self {
        Self { pings, ..self }
    }

    /// Returns the number of complete messages received so far.
    pub(super) fn messages(&self) -> u64 {
        self.messages.load(Relaxed)
    }

    /// Relays messages until an endpoint closes its connection or `close_command` completes.
    ///
    /// It reads a message only after the previous one is sent.
    pub(super) async fn run<S, D>(
        &self,
        source: &mut SplitStream<WebSocketStream<S>>,
        destination: &mut SplitSink<WebSocketStream<D>, Message>,
        close_command: impl Future<Output = CloseCommand>,
    ) -> StopReason
    where
        S: AsyncRead + AsyncWrite + Unpin,
        D: AsyncRead + AsyncWrite + Unpin,
    {
        let mut close_command = pin!(close_command);
        let reason = loop {
            let ping_due = async {
                match self.pings {
                    Some(pings) => pings.due().await,
                    None => never().await,
                }
            };
            // Between two messages, the only point at which the direction stops or pings.
            let next = tokio::select! {
                biased;
                command = &mut close_command => break StopReason::CloseCommand(command),
                () = ping_due => {
                    if destination.send(Message::Ping(Default::default())).await.is_err() {
                        break StopReason::DestinationGone;
                    }
                    continue;
                }
                next = source.next() => next,
            };
            let message = match self.process(next) {
                Ok(Some(message)) => message,
                Ok(None) => continue,
                Err(reason) => break reason,
            };
            if destination.send(message).await.is_err() {
                break StopReason::DestinationGone;
            }
        };
        self.count(0);
        reason
    }

    /// Checks the result of a read from the source, and returns the message to forward, if any.
    fn process(&self, next: Option<Result<Message, Error>>) -> Result<Option<Message>, StopReason> {
        let message = match next {
            Some(Ok(message)) => message,
            Some(Err(Error::Capacity(_))) => return Err(StopReason::Violation(CloseCode::Size)),
            Some(Err(Error::Utf8(_))) => return Err(StopReason::Violation(CloseCode::Invalid)),
            Some(Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake))) => {
                return Err(StopReason::SourceGone);
            }
            Some(Err(Error::Protocol(_))) => return Err(StopReason::Violation(CloseCode::Protocol)),
            Some(Err(_)) | None => return Err(StopReason::SourceGone),
        };
        match message {
            Message::Close(frame) => Err(StopReason::Close(frame)),
            Message::Text(_) | Message::Binary(_) => {
                self.count(1);
                if self.rate.is_some_and(|(client, rate)| !client.try_send(rate)) {
                    return Err(StopReason::Violation(CloseCode::Policy));
                }
                self.apply_hook(message)
            }
            // The stream itself replies to pings.
            _ => {
                self.count(0);
                Ok(None)
            }
        }
    }

    fn apply_hook(&self, message: Message) -> Result<Option<Message>, StopReason> {
        let Some(on_message) = self.on_message else { return Ok(Some(message)) };
        let mut message = match WsMessage::from_data(message) {
            Ok(message) => message,
            Err(other) => return Ok(Some(other)),
        };
        let context = MessageContext { from: self.from, path: &self.info.path, client: self.info.ip };
        match on_message(&context, &mut message) {
            MessageAction::Forward => Ok(Some(message.into())),
            MessageAction::Drop => Ok(None),
            MessageAction::Close(code) => Err(StopReason::Hook(code)),
        }
    }

    fn count(&self, messages: u64) {
        let bytes = self.activity.bytes();
        self.traffic.add(bytes - self.counted_bytes.swap(bytes, Relaxed), messages);
        self.messages.fetch_add(messages, Relaxed);
    }
}

/// The state of the pings to an endpoint.
#[derive(Debug)]
pub(super) struct PingState {
    config: PingConfig,
    since: Instant,
    /// The time of the last ping, in milliseconds after `since`, or 0 before the first ping.
    last_ping: AtomicU64,
}

impl PingState {
    pub(super) fn new(config: PingConfig) -> Self {
        Self { config, since: Instant::now(), last_ping: AtomicU64::new(0) }
    }

    /// Waits until the next ping is due, and records the ping as sent.
    async fn due(&self) {
        sleep_until(self.last_ping() + self.config.interval).await;
        let now = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ping.store(now, Relaxed);
    }

    fn last_ping(&self) -> Instant {
        self.since + Duration::from_millis(self.last_ping.load(Relaxed))
    }

    /// Completes when no bytes were read within the ping timeout after a ping.
    ///
    /// Any bytes count as a reply, because an endpoint cannot send a pong within a large message.
    pub(super) async fn timed_out(&self, activity: &SocketActivity) {
        loop {
            let last_ping = self.last_ping();
            let is_waiting = self.last_ping.load(Relaxed) > 0 && activity.last_read() < last_ping;
            let deadline = match is_waiting {
                true => last_ping + self.config.timeout,
                false => last_ping + self.config.interval + self.config.timeout,
            };
            if is_waiting && deadline <= Instant::now() {
                return;
            }
            // No other ping can time out before.
            sleep_until(deadline.max(Instant::now() + MIN_SLEEP)).await;
        }
    }
}

const MIN_SLEEP: Duration = Duration::from_millis(10);
