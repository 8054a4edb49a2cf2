//! An HTTP/2 connection: its settings, and the task that drives it.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{Ping, PingPong};
use rproxy_http1::{MAX_RESPONSE_FIELDS, MAX_RESPONSE_HEAD_SIZE};
use tokio::time::{Instant, Sleep, sleep};

use super::error::to_proxy_error;
use super::observed_socket::{ObservedSocket, Traffic};
use crate::error::ProxyError;
use crate::socket::Socket;

/// A handle for opening streams on an HTTP/2 connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) sender: SendRequest<Bytes>,
    pub(super) traffic: Arc<Traffic>,
}

/// The future that drives an HTTP/2 connection.
pub(super) struct Driver {
    connection: h2::client::Connection<ObservedSocket<Socket>, Bytes>,
    traffic: Arc<Traffic>,
}

/// A change of a connection that concerns its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionChange {
    /// The backend sent GOAWAY, so that no more streams can be opened.
    Draining,
    /// The maximum number of concurrent streams has changed.
    StreamLimit(usize),
    Closed,
}

/// Starts HTTP/2 on a socket and waits for the SETTINGS of the backend (RFC 9113 §3.4).
///
/// Before the SETTINGS, the stream limit is unknown, and a closed connection could leave requests that cannot be sent
/// again.
pub(super) async fn handshake(socket: Socket) -> Result<(Connection, Driver), ProxyError> {
    let (wire, traffic) = ObservedSocket::new(socket);
    let (sender, mut connection) = Builder::new()
        .initial_window_size(STREAM_WINDOW)
        // Large enough for all streams, so that an unread stream does not block the others.
        .initial_connection_window_size(STREAM_WINDOW * MAX_STREAMS as u32)
        .max_header_list_size(HEADER_LIST_SIZE as u32)
        .max_send_buffer_size(SEND_BUFFER_SIZE)
        .enable_push(false)
        // DATA that arrives after a stream was cancelled is a local error in h2. Clients cause it by cancelling, so
        // it does not close the connection.
        .max_local_error_reset_streams(Some(MAX_LOCAL_RESETS))
        .handshake(wire)
        .await
        .map_err(to_proxy_error)?;
    poll_fn(|cx| {
        let ended = Pin::new(&mut connection).poll(cx);
        match ended {
            _ if traffic.has_settings() => Poll::Ready(Ok(())),
            Poll::Ready(Ok(())) => Poll::Ready(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(to_proxy_error(error))),
            Poll::Pending => Poll::Pending,
        }
    })
    .await?;
    Ok((Connection { sender, traffic: Arc::clone(&traffic) }, Driver { connection, traffic }))
}

impl Driver {
    /// Returns the maximum number of concurrent streams on the connection.
    pub(super) fn limit(&self) -> usize {
        self.connection.max_concurrent_send_streams().min(MAX_STREAMS)
    }

    /// Drives the connection until it is closed, and reports changes that concern its pool.
    pub(super) async fn run(mut self, ping_interval: Option<Duration>, report: impl Fn(ConnectionChange)) {
        let mut pings = ping_interval.and_then(|interval| Pings::new(&mut self.connection, interval));
        let (mut limit, mut is_draining) = (self.limit(), false);
        poll_fn(|cx| {
            if Pin::new(&mut self.connection).poll(cx).is_ready() {
                return Poll::Ready(());
            }
            if self.traffic.has_goaway() && !is_draining {
                is_draining = true;
                report(ConnectionChange::Draining);
            }
            if self.limit() != limit {
                limit = self.limit();
                report(ConnectionChange::StreamLimit(limit));
            }
            match &mut pings {
                Some(pings) => pings.poll(cx, &self.traffic),
                None => Poll::Pending,
            }
        })
        .await;
        report(ConnectionChange::Closed);
    }

    /// Drives the connection until all of its handles are dropped.
    pub(super) async fn run_unpooled(self) {
        let _ = self.connection.await;
    }
}

/// PING frames that check a connection on which no data is received (RFC 9113 §6.7).
struct Pings {
    ping_pong: PingPong,
    interval: Duration,
    timer: Pin<Box<Sleep>>,
    /// The number of received bytes when the timer was set.
    received: u64,
    is_waiting: bool,
}

impl Pings {
    fn new(connection: &mut h2::client::Connection<ObservedSocket<Socket>, Bytes>, interval: Duration) -> Option<Self> {
        let ping_pong = connection.ping_pong()?;
        Some(Self { ping_pong, interval, timer: Box::pin(sleep(interval)), received: 0, is_waiting: false })
    }

    /// Polls the timer of the PING frames. It is ready when the backend has not acknowledged a PING in time.
    fn poll(&mut self, cx: &mut Context<'_>, traffic: &Traffic) -> Poll<()> {
        if self.is_waiting {
            match self.ping_pong.poll_pong(cx) {
                Poll::Ready(Ok(_)) => self.set_timer(self.interval, traffic, false),
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => {}
            }
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if traffic.received() != self.received {
                self.set_timer(self.interval, traffic, false);
            } else if self.is_waiting || self.ping_pong.send_ping(Ping::opaque()).is_err() {
                return Poll::Ready(());
            } else {
                self.set_timer(PONG_TIMEOUT, traffic, true);
                // The connection sends the PING. It was polled before, so it is polled again.
                cx.waker().wake_by_ref();
            }
        }
        Poll::Pending
    }

    fn set_timer(&mut self, time: Duration, traffic: &Traffic, is_waiting: bool) {
        self.is_waiting = is_waiting;
        self.received = traffic.received();
        self.timer.as_mut().reset(Instant::now() + time);
    }
}

/// The maximum number of concurrent streams on a connection, even if the backend allows more.
pub(super) const MAX_STREAMS: usize = 100;
/// The receive window of a stream in bytes.
pub(super) const STREAM_WINDOW: u32 = 128 * 1024;
/// The maximum size of a response head in bytes, counted with 32 additional bytes per field (RFC 9113 §6.5.2).
const HEADER_LIST_SIZE: usize = MAX_RESPONSE_HEAD_SIZE + 32 * MAX_RESPONSE_FIELDS;
/// The maximum number of unsent bytes that h2 buffers for a stream.
pub(super) const SEND_BUFFER_SIZE: usize = 32 * 1024;
/// The maximum number of locally reset streams before h2 closes the connection.
const MAX_LOCAL_RESETS: usize = 16 * 1024;
/// The timeout for the acknowledgement of a PING.
const PONG_TIMEOUT: Duration = Duration::from_secs(20);

/// The maximum memory of one exchange over HTTP/2, in bytes.
///
/// It is the sum of a receive window, a response head, and the larger of the send buffer and the replay buffer.
pub(crate) const MAX_EXCHANGE_SIZE: usize = STREAM_WINDOW as usize
    + HEADER_LIST_SIZE
    + if SEND_BUFFER_SIZE > super::upload::MAX_REPLAY_SIZE { SEND_BUFFER_SIZE } else { super::upload::MAX_REPLAY_SIZE };
