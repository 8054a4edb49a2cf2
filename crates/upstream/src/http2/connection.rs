//! One HTTP/2 connection: its settings, and the task that drives it.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep};

use super::connections::ConnectionId;
use super::pool::Pool;
use super::wire::{Traffic, Wire};
use crate::error::ProxyError;
use crate::http1::LARGEST_HEAD;
use crate::socket::Socket;

/// What opens streams on a connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) sender: SendRequest<Bytes>,
    pub(super) traffic: Arc<Traffic>,
}

/// What drives a connection.
pub(super) struct Driver {
    connection: h2::client::Connection<Wire<Socket>, Bytes>,
    traffic: Arc<Traffic>,
}

/// Begins HTTP/2, and waits for the SETTINGS of the backend (RFC 9113 §3.4). Before that nobody knows how many streams it
/// allows, or whether it is alive, and a request that has been sent can't always be sent again.
pub(super) async fn handshake(socket: Socket) -> Result<(Connection, Driver), ProxyError> {
    let (wire, traffic) = Wire::new(socket);
    let (sender, mut connection) = Builder::new()
        .initial_window_size(STREAM_WINDOW)
        // However slowly some streams are read, there is room for the others.
        .initial_connection_window_size(STREAM_WINDOW * STREAMS as u32)
        .max_header_list_size(HEADER_LIST as u32)
        .max_send_buffer_size(SEND_BUFFER)
        .enable_push(false)
        // DATA that was on its way when a stream was cancelled is answered with RST_STREAM. That is the doing of clients,
        // and no reason to end the connection for all of them.
        .max_local_error_reset_streams(Some(MOST_LOCAL_RESETS))
        .handshake(wire)
        .await
        .map_err(super::failed)?;
    poll_fn(|cx| {
        let ended = Pin::new(&mut connection).poll(cx);
        match ended {
            _ if traffic.has_settings() => Poll::Ready(Ok(())),
            Poll::Ready(Ok(())) => Poll::Ready(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(super::failed(error))),
            Poll::Pending => Poll::Pending,
        }
    })
    .await?;
    Ok((Connection { sender, traffic: Arc::clone(&traffic) }, Driver { connection, traffic }))
}

impl Driver {
    /// How many streams may be in flight.
    pub(super) fn limit(&self) -> usize {
        self.connection.max_concurrent_send_streams().min(STREAMS)
    }

    /// Drives the connection to its end, and reports to the pool what becomes of it.
    pub(super) async fn run(mut self, pool: Weak<Pool>, id: ConnectionId, ping_interval: Option<Duration>) {
        let mut pings = ping_interval.and_then(|interval| Pings::new(&mut self.connection, interval));
        let (mut limit, mut is_draining) = (self.limit(), false);
        poll_fn(|cx| {
            if Pin::new(&mut self.connection).poll(cx).is_ready() {
                return Poll::Ready(());
            }
            if self.traffic.has_goaway() && !is_draining {
                is_draining = true;
                if let Some(pool) = pool.upgrade() {
                    pool.drain(id);
                }
            }
            if self.limit() != limit {
                limit = self.limit();
                if let Some(pool) = pool.upgrade() {
                    pool.set_limit(id, limit);
                }
            }
            match &mut pings {
                Some(pings) => pings.poll(cx, &self.traffic),
                None => Poll::Pending,
            }
        })
        .await;
        if let Some(pool) = pool.upgrade() {
            pool.closed(id);
        }
    }

    /// Drives the connection for as long as anybody uses it.
    pub(super) async fn run_alone(self) {
        let _ = self.connection.await;
    }
}

/// Keep-alive pings (RFC 9113 §6.7), sent while the backend is silent.
struct Pings {
    ping_pong: PingPong,
    interval: Duration,
    timer: Pin<Box<Sleep>>,
    /// How much had been received when the timer was set.
    received: u64,
    is_waiting: bool,
}

impl Pings {
    fn new(connection: &mut h2::client::Connection<Wire<Socket>, Bytes>, interval: Duration) -> Option<Self> {
        let ping_pong = connection.ping_pong()?;
        Some(Self { ping_pong, interval, timer: Box::pin(sleep(interval)), received: 0, is_waiting: false })
    }

    /// Ready when the backend has not answered a ping.
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
                // Sent by the connection, which is polled before.
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

/// How many streams may be in flight on a connection, however many the backend allows.
pub(super) const STREAMS: usize = 100;
/// How much of a response the backend may send before it is asked for more.
pub(super) const STREAM_WINDOW: u32 = 128 * 1024;
/// The fields of a response head, each of which counts for 32 bytes more than it has (RFC 9113 §6.5.2).
const HEADER_LIST: usize = LARGEST_HEAD + 32 * crate::http1::MOST_FIELDS;
/// How much of a request waits in h2 to be sent.
pub(super) const SEND_BUFFER: usize = 32 * 1024;
const MOST_LOCAL_RESETS: usize = 16 * 1024;
const PONG_TIMEOUT: Duration = Duration::from_secs(20);

/// The most that one HTTP/2 exchange can make an upstream hold, in bytes: a window of the response, its head, and what
/// waits to be sent or to be sent again.
pub(crate) const EXCHANGE: usize = STREAM_WINDOW as usize
    + HEADER_LIST
    + if SEND_BUFFER > super::upload::REPLAY { SEND_BUFFER } else { super::upload::REPLAY };
