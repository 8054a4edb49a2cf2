//! Drives one HTTP/1.1 connection: hyper's connection, its time limits, its draining.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tower_service::Service;

use super::io::FramedIo;
use crate::connection::{BoxError, Settings};
use crate::service::ConnectionService;

/// Serves until the connection ends.
pub(crate) async fn serve<T, S, B>(
    socket: T,
    service: ConnectionService<S>,
    settings: &Settings,
    mut draining: watch::Receiver<bool>,
) -> Result<(), hyper::Error>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let watch = Arc::clone(&service.watch);
    let io = TokioIo::new(FramedIo::new(socket, settings.head_limits, Arc::clone(&watch)));
    let mut connection = pin!(settings.http1.serve_connection(io, service).with_upgrades());

    let mut clock = Clock::new(&settings.limits);
    let mut tick = pin!(sleep(clock.tick));
    let mut drained = pin!(draining.wait_for(|draining| *draining));
    let mut drain = Drain::No;
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                return Poll::Ready(ended);
            }
            if matches!(drain, Drain::No) && drained.as_mut().poll(cx).is_ready() {
                drain = Drain::Lingers;
                clock.tick = IDLE_LINGER;
                clock.still_since = None;
                tick.as_mut().reset(Instant::now() + IDLE_LINGER);
            }
            if matches!(drain, Drain::Lingers) && watch.is_in_flight() {
                // hyper finishes this request, says `Connection: close`, and closes.
                drain = Drain::Closes;
                connection.as_mut().graceful_shutdown();
                continue;
            }
            if tick.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            tick.as_mut().reset(Instant::now() + clock.tick);
            if watch.is_in_flight() {
                clock.still_since = None;
                clock.head_since = None;
            } else if watch.has_head_begun() {
                let began = *clock.head_since.get_or_insert_with(Instant::now);
                if began.elapsed() + clock.tick > clock.head_timeout {
                    watch.end_slow_head();
                    continue;
                }
            } else if clock.is_idle_too_long(watch.calls()) || matches!(drain, Drain::Lingers) {
                // An idle connection closes at once; there is nothing to finish.
                drain = Drain::Closes;
                connection.as_mut().graceful_shutdown();
                continue;
            }
        }
    })
    .await
}

/// Where draining stands.
enum Drain {
    No,
    /// Idle, and a request may be on its way: closing now would lose it.
    Lingers,
    Closes,
}

/// Time, looked at now and then: a request costs no timer.
struct Clock {
    head_timeout: Duration,
    idle_timeout: Duration,
    tick: Duration,
    head_since: Option<Instant>,
    still_since: Option<(u64, Instant)>,
}

impl Clock {
    fn new(limits: &crate::Limits) -> Self {
        let shortest = limits.head_timeout.min(limits.idle_timeout);
        Self {
            head_timeout: limits.head_timeout,
            idle_timeout: limits.idle_timeout,
            tick: (shortest / 4).clamp(Duration::from_millis(10), Duration::from_secs(5)),
            head_since: None,
            still_since: None,
        }
    }

    /// Whether no call was made for as long as a connection may wait.
    fn is_idle_too_long(&mut self, calls: u64) -> bool {
        self.head_since = None;
        match self.still_since {
            Some((then, since)) if then == calls => since.elapsed() + self.tick > self.idle_timeout,
            _ => {
                self.still_since = Some((calls, Instant::now()));
                false
            }
        }
    }
}

/// How long an idle connection waits for a request that may be on its way when draining begins.
const IDLE_LINGER: Duration = Duration::from_millis(100);
