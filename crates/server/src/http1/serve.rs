//! Serves an HTTP/1.1 connection with the fast path and hyper, with timeouts and draining.

use std::future::{Future, poll_fn};
use std::num::NonZeroU64;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper_util::rt::TokioIo;
use rproxy_client_ip::PeerAddr;
use tokio::io::AsyncWrite;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tower_service::Service;

use super::fast_path::{self, FastPathEnd};
use super::framed_io::{FramedIo, LINGER};
use super::last_response::LastResponseService;
use super::preface::{self, DetectedProtocol, PriorKnowledge};
use super::reclaimable_io::reclaimable;
use crate::RequestBody;
use crate::client_socket::ClientSocket;
use crate::connection::{BoxError, ConnectionConfig};
use crate::service::ConnectionService;

/// Serves an HTTP/1.1 connection until it closes, or returns it if the client sends the HTTP/2 preface.
///
/// An error includes the peer, so that the caller need not store it. On the fast path, an idle connection is only a socket.
/// A connection that hyper serves is reclaimed when it has been idle for a while, which frees hyper's buffers.
#[expect(
    clippy::manual_async_fn,
    reason = "an `async fn` would store its arguments twice in the future of each connection"
)]
pub(crate) fn serve<T, S, B>(
    socket: T,
    mut service: ConnectionService<S>,
    config: &ConnectionConfig,
    mut draining: watch::Receiver<bool>,
) -> impl Future<Output = Result<Option<PriorKnowledge<T, S>>, (PeerAddr, BoxError)>> + Send
where
    T: ClientSocket + Send + 'static,
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    async move {
        let mut io = FramedIo::new(socket, config.head_limits, config.half_close, Arc::clone(&service.state));
        let mut served = 0;
        loop {
            let end = fast_path::serve(&mut io, &mut service, config, &mut draining, &mut served).await;
            let mut end = end.map_err(|error| (service.peer, error))?;
            if end == FastPathEnd::Preface {
                match Box::pin(preface::detect(&mut io, config.limits.head_timeout)).await {
                    DetectedProtocol::Http1 => {
                        if let Some(held) = io.take_held() {
                            io.hold(&held);
                        }
                        end = FastPathEnd::Hyper;
                    }
                    DetectedProtocol::Http2 => {
                        let (socket, first) = io.into_parts();
                        return Ok(Some(PriorKnowledge { socket, first, service, draining }));
                    }
                    DetectedProtocol::Unknown => end = FastPathEnd::Idle,
                }
            }
            if end != FastPathEnd::Hyper {
                if end == FastPathEnd::Idle {
                    service.state.set_closes_idle();
                }
                // Boxed to keep idle connections small. Fails if the client has already closed the connection.
                let shutdown = Box::pin(poll_fn(|cx| Pin::new(&mut io).poll_shutdown(cx)));
                let _ = Box::pin(timeout(SHUTDOWN_TIMEOUT + LINGER, shutdown)).await;
                return Ok(None);
            }
            // Boxed to keep idle connections small.
            let reclaimed = Box::pin(serve_with_hyper(io, service.clone(), config, &mut draining, served)).await;
            match reclaimed.map_err(|error| (service.peer, error.into()))? {
                Some(idle) => io = idle,
                None => return Ok(None),
            }
        }
    }
}

/// Serves a connection with hyper until it closes, or returns its socket when the connection is idle.
///
/// `served` is the number of requests on the fast path.
async fn serve_with_hyper<T, S, B>(
    io: FramedIo<T>,
    service: ConnectionService<S>,
    config: &ConnectionConfig,
    draining: &mut watch::Receiver<bool>,
    served: u64,
) -> Result<Option<FramedIo<T>>, hyper::Error>
where
    T: ClientSocket + Send + 'static,
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let state = Arc::clone(&service.state);
    let (reclaimable, reclaim) = reclaimable(io);
    let is_last = || config.limits.is_request_limit_reached(served + state.calls() + 1);
    let service = LastResponseService { inner: service, is_last, state: Arc::clone(&state) };
    let ended = {
        let mut connection = pin!(config.http1.serve_connection(TokioIo::new(reclaimable), service).with_upgrades());
        let mut clock = ConnectionClock::new(&config.limits);
        let mut tick = pin!(sleep(clock.tick));
        let mut drained = pin!(draining.wait_for(|draining| *draining));
        let mut drain = Drain::No;
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                    return Poll::Ready(ended);
                }
                if state.take_end() {
                    // Continues with the bytes held after the request.
                    continue;
                }
                if matches!(drain, Drain::No) && drained.as_mut().poll(cx).is_ready() {
                    drain = Drain::Lingers;
                    clock.tick = IDLE_LINGER;
                    tick.as_mut().reset(Instant::now() + IDLE_LINGER);
                }
                if matches!(drain, Drain::Lingers) && state.is_in_flight() {
                    // hyper finishes this request with `Connection: close`, and closes the connection.
                    drain = Drain::Closes;
                    connection.as_mut().graceful_shutdown();
                    continue;
                }
                if tick.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                tick.as_mut().reset(Instant::now() + clock.tick);
                if state.is_in_flight() {
                    clock.reset();
                } else if let Some(head) = state.incomplete_head() {
                    if clock.is_head_too_slow(head) {
                        state.time_out_head();
                        continue;
                    }
                } else if matches!(drain, Drain::Lingers) {
                    // An idle connection has no request to finish.
                    drain = Drain::Closes;
                    state.set_closes_idle();
                    connection.as_mut().graceful_shutdown();
                    continue;
                } else if matches!(drain, Drain::No) && clock.is_idle(state.calls()) {
                    // hyper was polled and waits for a head, of which it has read no byte. So it drops the socket without
                    // losing data.
                    reclaim.reclaim();
                    connection.as_mut().graceful_shutdown();
                    continue;
                }
            }
        })
        .await
    };
    ended?;
    // If hyper has read a head without calling the service, its bytes are lost, and the connection can't continue.
    Ok(reclaim.take().filter(|io| io.is_between_requests(state.calls())))
}

/// The stages of draining a connection.
enum Drain {
    No,
    /// The idle connection stays open briefly for a request that the client may already have sent.
    Lingers,
    Closes,
}

/// The timeouts of a connection, checked at each tick, so that no request has to reset a timer.
struct ConnectionClock {
    head_timeout: Duration,
    tick: Duration,
    /// The ordinal number of the incomplete head, and the first tick at which the head was incomplete.
    head_since: Option<(NonZeroU64, Instant)>,
    /// The number of service calls at the last tick, if the connection was idle then.
    calls_when_idle: Option<u64>,
}

impl ConnectionClock {
    fn new(limits: &crate::Limits) -> Self {
        let shortest = limits.head_timeout.min(limits.idle_timeout);
        Self {
            head_timeout: limits.head_timeout,
            tick: (shortest / 4).clamp(Duration::from_millis(10), Duration::from_secs(1)),
            head_since: None,
            calls_when_idle: None,
        }
    }

    /// Returns whether the incomplete request head has exceeded the head timeout.
    fn is_head_too_slow(&mut self, head: NonZeroU64) -> bool {
        let now = Instant::now();
        let (_, since) = self.head_since.filter(|(seen, _)| *seen == head).unwrap_or((head, now));
        self.head_since = Some((head, since));
        now - since >= self.head_timeout
    }

    /// Restarts all timeouts while a request is in flight.
    fn reset(&mut self) {
        (self.head_since, self.calls_when_idle) = (None, None);
    }

    /// Returns whether the connection received no request since the last tick.
    fn is_idle(&mut self, calls: u64) -> bool {
        self.head_since = None;
        self.calls_when_idle.replace(calls) == Some(calls)
    }
}

/// The time that a draining idle connection stays open for a request that may already have been sent.
pub(super) const IDLE_LINGER: Duration = Duration::from_millis(100);

/// The timeout for shutting down a connection, in addition to the time for lingering.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
