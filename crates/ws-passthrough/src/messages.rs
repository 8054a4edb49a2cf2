//! Messages between a client and an upstream, where they are to be looked at.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::summary::{ClosedBy, TunnelSummary};
use crate::tunnel::Limits;

/// Both ends, spoken to in messages: to the client we are the server, to the upstream the client.
pub(crate) struct Messages<C, U> {
    client: WebSocketStream<C>,
    upstream: WebSocketStream<U>,
    limits: Limits,
}

/// What went by, and how it ended.
#[derive(Debug)]
pub(crate) struct Relayed {
    inbound: Traffic,
    outbound: Traffic,
    closed_by: ClosedBy,
}

#[derive(Debug, Default)]
struct Traffic {
    bytes: AtomicU64,
    messages: AtomicU64,
    /// Milliseconds from the opening to the last message.
    last: AtomicU64,
}

/// Why messages go no further, and what the two ends are told.
struct End {
    by: ClosedBy,
    to_client: Option<CloseFrame>,
    to_upstream: Option<CloseFrame>,
}

/// Why one end sends no more.
enum Stop {
    /// It said Close.
    Close(Option<CloseFrame>),
    /// It broke the rules, and is told which.
    Fault(CloseCode),
    Gone,
    /// The other end takes no more.
    OtherGone,
}

impl<C, U> Messages<C, U>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    pub(crate) async fn new(client: C, upstream: U, max: usize, limits: Limits) -> Self {
        let config = WebSocketConfig::default()
            .max_message_size(Some(max))
            .max_frame_size(Some(max))
            // Of its own accord it takes 128 KiB for each socket.
            .read_buffer_size(BUFFER)
            .write_buffer_size(0);
        Self {
            client: WebSocketStream::from_raw_socket(client, Role::Server, Some(config)).await,
            upstream: WebSocketStream::from_raw_socket(upstream, Role::Client, Some(config)).await,
            limits,
        }
    }

    /// Passes messages on until an end closes, or until `drained`; then closes both.
    pub(crate) async fn relay(self, drained: impl Future<Output = ()>) -> Relayed {
        let Self { client, upstream, limits } = self;
        let (inbound, outbound) = (Traffic::default(), Traffic::default());
        let opened = Instant::now();
        let (mut to_client, mut from_client) = client.split();
        let (mut to_upstream, mut from_upstream) = upstream.split();
        let end = tokio::select! {
            biased;
            stop = pass_on(&mut from_client, &mut to_upstream, &inbound, opened) => End::by_client(stop),
            stop = pass_on(&mut from_upstream, &mut to_client, &outbound, opened) => End::by_upstream(stop),
            () = drained => End::by_us(ClosedBy::Drain),
            () = silence(limits.idle, opened, [&inbound, &outbound]) => End::by_us(ClosedBy::IdleTimeout),
        };
        // They come of the same streams, and so fit.
        if let (Ok(client), Ok(upstream)) = (to_client.reunite(from_client), to_upstream.reunite(from_upstream)) {
            let both = futures_util::future::join(close(client, end.to_client), close(upstream, end.to_upstream));
            // Whoever does not answer in time is left.
            let _ = timeout(limits.close, both).await;
        }
        Relayed { inbound, outbound, closed_by: end.by }
    }
}

impl Relayed {
    pub(crate) fn summary(&self, path: Box<str>, opened: Instant) -> TunnelSummary {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        TunnelSummary {
            path,
            bytes_from_client: count(&self.inbound.bytes),
            bytes_from_upstream: count(&self.outbound.bytes),
            messages_from_client: count(&self.inbound.messages),
            messages_from_upstream: count(&self.outbound.messages),
            duration: opened.elapsed(),
            closed_by: self.closed_by,
        }
    }
}

impl End {
    fn by_us(by: ClosedBy) -> Self {
        Self { by, to_client: frame(CloseCode::Away), to_upstream: frame(CloseCode::Away) }
    }

    fn by_client(stop: Stop) -> Self {
        let (to_client, to_upstream) = match stop {
            Stop::Close(said) => (None, said),
            Stop::Fault(code) => (frame(code), frame(CloseCode::Away)),
            Stop::Gone => (None, frame(CloseCode::Away)),
            Stop::OtherGone => return Self::by_upstream(Stop::Gone),
        };
        Self { by: ClosedBy::Client, to_client, to_upstream }
    }

    fn by_upstream(stop: Stop) -> Self {
        let (to_client, to_upstream) = match stop {
            Stop::Close(said) => (said, None),
            // RFC 6455 §7.4.1: 1011, a server that can't go on.
            Stop::Fault(code) => (frame(CloseCode::Error), frame(code)),
            Stop::Gone => (frame(CloseCode::Error), None),
            Stop::OtherGone => return Self::by_client(Stop::Gone),
        };
        Self { by: ClosedBy::Upstream, to_client, to_upstream }
    }
}

impl Traffic {
    fn moved(&self, bytes: usize, messages: u64, opened: Instant) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.messages.fetch_add(messages, Ordering::Relaxed);
        let now = u64::try_from(opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }
}

/// Passes on what comes from one end, each message when the one before is out.
async fn pass_on<S, D>(
    from: &mut SplitStream<WebSocketStream<S>>,
    to: &mut SplitSink<WebSocketStream<D>, Message>,
    traffic: &Traffic,
    opened: Instant,
) -> Stop
where
    S: AsyncRead + AsyncWrite + Unpin,
    D: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let message = match from.next().await {
            Some(Ok(message)) => message,
            Some(Err(Error::Capacity(_))) => return Stop::Fault(CloseCode::Size),
            Some(Err(Error::Utf8(_))) => return Stop::Fault(CloseCode::Invalid),
            Some(Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake))) => return Stop::Gone,
            Some(Err(Error::Protocol(_))) => return Stop::Fault(CloseCode::Protocol),
            Some(Err(_)) | None => return Stop::Gone,
        };
        match message {
            Message::Close(said) => return Stop::Close(said),
            // Answered by the stream itself.
            Message::Ping(said) | Message::Pong(said) => traffic.moved(said.len(), 0, opened),
            message => {
                traffic.moved(message.len(), 1, opened);
                if to.send(message).await.is_err() {
                    return Stop::OtherGone;
                }
            }
        }
    }
}

/// Returns when nothing has come either way for `idle`.
async fn silence(idle: Duration, opened: Instant, traffic: [&Traffic; 2]) {
    loop {
        let last = traffic.map(|traffic| traffic.last.load(Ordering::Relaxed));
        let deadline = opened + Duration::from_millis(last[0].max(last[1])) + idle;
        if deadline <= Instant::now() {
            return;
        }
        sleep_until(deadline).await;
    }
}

/// Says Close, or answers it, and ends the connection.
async fn close<T>(mut socket: WebSocketStream<T>, frame: Option<CloseFrame>)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    // Fails if Close was said already, by either end; what is due is sent nonetheless.
    let _ = socket.send(Message::Close(frame)).await;
    let _ = socket.flush().await;
    let mut socket = socket.into_inner();
    let _ = socket.shutdown().await;
    // A socket that is closed with bytes unread resets the connection, and what was said last may
    // not arrive.
    let mut rest = [0; 1024];
    while let Ok(1..) = socket.read(&mut rest).await {}
}

fn frame(code: CloseCode) -> Option<CloseFrame> {
    Some(CloseFrame { code, reason: "".into() })
}

const BUFFER: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_ends_it_and_a_ping_is_none() {
        let ((client, near), (far, upstream)) = (duplex(1024), duplex(1024));
        let limits = Limits { idle: Duration::from_secs(60), close: Duration::from_secs(5) };
        let messages = Messages::new(near, far, 1000, limits).await;
        let opened = Instant::now();
        let relayed = tokio::spawn(messages.relay(std::future::pending()));
        let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        let mut upstream = WebSocketStream::from_raw_socket(upstream, Role::Server, None).await;
        tokio::time::sleep(Duration::from_secs(50)).await;
        upstream.send(Message::Ping("there?".into())).await.unwrap();
        assert_eq!(upstream.next().await.unwrap().unwrap(), Message::Pong("there?".into()));
        let Some(Ok(Message::Close(Some(close)))) = client.next().await else { panic!("no Close") };
        assert_eq!((close.code, opened.elapsed()), (CloseCode::Away, Duration::from_secs(110)));
        let Some(Ok(Message::Close(_))) = upstream.next().await else { panic!("no Close") };
        drop((client, upstream));
        assert_eq!(relayed.await.unwrap().closed_by, ClosedBy::IdleTimeout);
    }

    #[tokio::test(start_paused = true)]
    async fn two_ends_that_both_send_before_they_read_do_not_wait_for_each_other() {
        let ((client, near), (far, upstream)) = (duplex(1024), duplex(1024));
        let limits = Limits { idle: Duration::from_secs(60), close: Duration::from_secs(5) };
        let messages = Messages::new(near, far, 100_000, limits).await;
        let relayed = tokio::spawn(messages.relay(std::future::pending()));
        let client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        let upstream = WebSocketStream::from_raw_socket(upstream, Role::Server, None).await;
        let ((mut to_client, mut from_client), (mut to_upstream, mut from_upstream)) =
            (client.split(), upstream.split());
        let large = Message::binary(vec![7; 50_000]);
        let (sent, other_sent, received, other_received) = tokio::join!(
            to_client.send(large.clone()),
            to_upstream.send(large.clone()),
            from_client.next(),
            from_upstream.next(),
        );
        sent.and(other_sent).unwrap();
        assert!(received.unwrap().unwrap() == large && other_received.unwrap().unwrap() == large);
        drop((to_client, from_client));
        let gone = from_upstream.next().await.unwrap().unwrap();
        assert!(gone.is_close());
        drop((to_upstream, from_upstream));
        assert_eq!(relayed.await.unwrap().closed_by, ClosedBy::Client);
    }
}
