//! One direction of messages.

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

use super::{About, Pings, never};
use crate::clients::Client;
use crate::message::{MessageContext, OnMessage, Verdict, WsEnd, WsMessage};
use crate::meter::Reading;
use crate::stats::Traffic;
use crate::tunnels::Ending;

/// Why one end sends no more.
#[derive(Debug)]
pub(super) enum Stop {
    /// It said Close.
    Close(Option<CloseFrame>),
    /// It broke the rules, and is told which.
    Fault(CloseCode),
    /// Code of somebody's own has had enough.
    Judged(u16),
    Gone,
    /// The other end takes no more.
    OtherGone,
    /// The tunnel is to end.
    Ended(Ending),
}

/// What is known of one direction, and asked of it.
pub(super) struct Passage<'a> {
    from: WsEnd,
    about: &'a About,
    reading: &'a Reading,
    traffic: &'a Traffic,
    judge: Option<&'a OnMessage>,
    rate: Option<(&'a Client, NonZeroU32)>,
    /// Of the destination.
    pulse: Option<&'a Pulse>,
    /// Of the bytes that came, how many are in `traffic`.
    counted: AtomicU64,
    messages: AtomicU64,
}

impl<'a> Passage<'a> {
    pub(super) fn new(
        from: WsEnd,
        about: &'a About,
        reading: &'a Reading,
        traffic: &'a Traffic,
        judge: Option<&'a OnMessage>,
    ) -> Self {
        let (counted, messages) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { from, about, reading, traffic, judge, rate: None, pulse: None, counted, messages }
    }

    /// No more messages than `rate` allows the client.
    pub(super) fn held_to(self, rate: Option<(&'a Client, NonZeroU32)>) -> Self {
        Self { rate, ..self }
    }

    /// Asks the destination now and then whether it is there.
    pub(super) fn pinging(self, pulse: Option<&'a Pulse>) -> Self {
        Self { pulse, ..self }
    }

    /// How many were sent in whole.
    pub(super) fn messages(&self) -> u64 {
        self.messages.load(Relaxed)
    }

    /// Passes on what comes, each message when the one before is out, until there is no more or `ended`.
    pub(super) async fn run<S, D>(
        &self,
        source: &mut SplitStream<WebSocketStream<S>>,
        destination: &mut SplitSink<WebSocketStream<D>, Message>,
        ended: impl Future<Output = Ending>,
    ) -> Stop
    where
        S: AsyncRead + AsyncWrite + Unpin,
        D: AsyncRead + AsyncWrite + Unpin,
    {
        let mut ended = pin!(ended);
        let stop = loop {
            let due = async {
                match self.pulse {
                    Some(pulse) => pulse.due().await,
                    None => never().await,
                }
            };
            // Only here, between two messages, does it end or ask.
            let next = tokio::select! {
                biased;
                ending = &mut ended => break Stop::Ended(ending),
                () = due => {
                    if destination.send(Message::Ping(Default::default())).await.is_err() {
                        break Stop::OtherGone;
                    }
                    continue;
                }
                next = source.next() => next,
            };
            let message = match self.received(next) {
                Ok(Some(message)) => message,
                Ok(None) => continue,
                Err(stop) => break stop,
            };
            if destination.send(message).await.is_err() {
                break Stop::OtherGone;
            }
        };
        self.count(0);
        stop
    }

    /// What is to be passed on of what came.
    fn received(&self, next: Option<Result<Message, Error>>) -> Result<Option<Message>, Stop> {
        let message = match next {
            Some(Ok(message)) => message,
            Some(Err(Error::Capacity(_))) => return Err(Stop::Fault(CloseCode::Size)),
            Some(Err(Error::Utf8(_))) => return Err(Stop::Fault(CloseCode::Invalid)),
            Some(Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake))) => return Err(Stop::Gone),
            Some(Err(Error::Protocol(_))) => return Err(Stop::Fault(CloseCode::Protocol)),
            Some(Err(_)) | None => return Err(Stop::Gone),
        };
        match message {
            Message::Close(said) => Err(Stop::Close(said)),
            Message::Text(_) | Message::Binary(_) => {
                self.count(1);
                if self.rate.is_some_and(|(client, rate)| !client.may_send(rate)) {
                    return Err(Stop::Fault(CloseCode::Policy));
                }
                self.judged(message)
            }
            // Answered by the stream itself.
            _ => {
                self.count(0);
                Ok(None)
            }
        }
    }

    fn judged(&self, message: Message) -> Result<Option<Message>, Stop> {
        let Some(judge) = self.judge else { return Ok(Some(message)) };
        let mut message = match WsMessage::of(message) {
            Ok(message) => message,
            Err(other) => return Ok(Some(other)),
        };
        let context = MessageContext { from: self.from, path: &self.about.path, client: self.about.ip };
        match judge(&context, &mut message) {
            Verdict::Pass => Ok(Some(message.into())),
            Verdict::Drop => Ok(None),
            Verdict::Close(code) => Err(Stop::Judged(code)),
        }
    }

    fn count(&self, messages: u64) {
        let bytes = self.reading.bytes();
        self.traffic.add(bytes - self.counted.swap(bytes, Relaxed), messages);
        self.messages.fetch_add(messages, Relaxed);
    }
}

/// Whether an end is there: when it was asked, when it is to be asked next.
#[derive(Debug)]
pub(super) struct Pulse {
    pings: Pings,
    since: Instant,
    /// Milliseconds from `since` to when it was last asked; 0 is never.
    asked: AtomicU64,
}

impl Pulse {
    pub(super) fn new(pings: Pings) -> Self {
        Self { pings, since: Instant::now(), asked: AtomicU64::new(0) }
    }

    /// Waits until it is to be asked, and takes it that it is.
    async fn due(&self) {
        sleep_until(self.asked() + self.pings.interval).await;
        let now = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.asked.store(now, Relaxed);
    }

    fn asked(&self) -> Instant {
        self.since + Duration::from_millis(self.asked.load(Relaxed))
    }

    /// Returns when it was asked and nothing came of it in time. Whatever comes is an answer: one that is amid a large
    /// message can't say more.
    pub(super) async fn stopped(&self, reading: &Reading) {
        loop {
            let asked = self.asked();
            let waits = self.asked.load(Relaxed) > 0 && reading.last_read() < asked;
            let deadline =
                if waits { asked + self.pings.timeout } else { asked + self.pings.interval + self.pings.timeout };
            if waits && deadline <= Instant::now() {
                return;
            }
            // No sooner than that can there be another question that went unanswered.
            sleep_until(deadline.max(Instant::now() + SHORTEST)).await;
        }
    }
}

const SHORTEST: Duration = Duration::from_millis(10);
