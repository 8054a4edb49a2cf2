//! One HTTP/1.1 connection: the requests that we answer ourselves, and those that hyper has, with its time limits and
//! its draining.

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

use super::direct::{self, Next};
use super::io::{FramedIo, LINGER};
use super::last::LastService;
use super::lease::lease;
use super::preface::{self, Beginning, PriorKnowledge};
use crate::RequestBody;
use crate::connection::{BoxError, Settings};
use crate::service::ConnectionService;
use crate::socket::ClientSocket;

/// Serves until the connection ends, or gives it back if its client speaks HTTP/2. An error says whose connection it was,
/// so that nobody else has to remember.
///
/// Between requests that have no content, a connection is no more than a socket that is waited for. One that hyper has
/// is taken back when it was still for a while: hyper's connection and its buffers are given up.
#[expect(clippy::manual_async_fn, reason = "an `async fn` has room for its arguments twice, in each idle connection")]
pub(crate) fn serve<T, S, B>(
    socket: T,
    mut service: ConnectionService<S>,
    settings: &Settings,
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
        let mut io = FramedIo::new(socket, settings.head_limits, settings.half_close, Arc::clone(&service.watch));
        let mut answered = 0;
        loop {
            let next = direct::serve(&mut io, &mut service, settings, &mut draining, &mut answered).await;
            let mut next = next.map_err(|error| (service.peer, error))?;
            if next == Next::Preface {
                match Box::pin(preface::read(&mut io, settings.limits.head_timeout)).await {
                    Beginning::Http1 => {
                        if let Some(held) = io.take_held() {
                            io.hold(&held);
                        }
                        next = Next::Hyper;
                    }
                    Beginning::Http2 => {
                        let (socket, first) = io.into_parts();
                        return Ok(Some(PriorKnowledge { socket, first, service, draining }));
                    }
                    Beginning::Nothing => next = Next::Idle,
                }
            }
            if next != Next::Hyper {
                if next == Next::Idle {
                    service.watch.end_idle();
                }
                // Boxed, so that an idle connection has no room for it. The peer may be gone already; then there is nobody
                // to say goodbye to.
                let shutdown = Box::pin(poll_fn(|cx| Pin::new(&mut io).poll_shutdown(cx)));
                let _ = Box::pin(timeout(GOODBYE + LINGER, shutdown)).await;
                return Ok(None);
            }
            // Boxed, so that an idle connection has not the size of a busy one.
            let busy = Box::pin(busy(io, service.clone(), settings, &mut draining, answered)).await;
            match busy.map_err(|error| (service.peer, error.into()))? {
                Some(still) => io = still,
                None => return Ok(None),
            }
        }
    }
}

/// Serves until the connection ends, or has been still for a while: then it is given back. `answered` requests were
/// not hyper's.
async fn busy<T, S, B>(
    io: FramedIo<T>,
    service: ConnectionService<S>,
    settings: &Settings,
    draining: &mut watch::Receiver<bool>,
    answered: u64,
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
    let watch = Arc::clone(&service.watch);
    let (lease, lessor) = lease(io);
    let is_last = || settings.limits.are_served(answered + watch.calls() + 1);
    let service = LastService { inner: service, is_last, watch: Arc::clone(&watch) };
    let ended = {
        let mut connection = pin!(settings.http1.serve_connection(TokioIo::new(lease), service).with_upgrades());
        let mut clock = Clock::new(&settings.limits);
        let mut tick = pin!(sleep(clock.tick));
        let mut drained = pin!(draining.wait_for(|draining| *draining));
        let mut drain = Drain::No;
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                    return Poll::Ready(ended);
                }
                if watch.take_end() {
                    // What was held behind the request is its turn now.
                    continue;
                }
                if matches!(drain, Drain::No) && drained.as_mut().poll(cx).is_ready() {
                    drain = Drain::Lingers;
                    clock.tick = IDLE_LINGER;
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
                    clock.moved();
                } else if let Some(head) = watch.head_began() {
                    if clock.is_head_too_slow(head) {
                        watch.end_slow_head();
                        continue;
                    }
                } else if matches!(drain, Drain::Lingers) {
                    // An idle connection closes at once; there is nothing to finish.
                    drain = Drain::Closes;
                    watch.end_idle();
                    connection.as_mut().graceful_shutdown();
                    continue;
                } else if matches!(drain, Drain::No) && clock.is_still(watch.calls()) {
                    // hyper has been polled and waits for a head, of which no byte has come: closed now, it lets go of
                    // a socket that it has taken nothing from.
                    lessor.recall();
                    connection.as_mut().graceful_shutdown();
                    continue;
                }
            }
        })
        .await
    };
    ended?;
    // A head that was taken and not answered is no idle connection; there is no way back to it.
    Ok(lessor.returned().filter(|io| io.is_between_requests(watch.calls())))
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
    tick: Duration,
    /// The head that has come in part, by its number, and when it was seen first.
    head_since: Option<(NonZeroU64, Instant)>,
    /// How many calls there had been when the clock ticked last, if nothing was going on.
    still_at: Option<u64>,
}

impl Clock {
    fn new(limits: &crate::Limits) -> Self {
        let shortest = limits.head_timeout.min(limits.idle_timeout);
        Self {
            head_timeout: limits.head_timeout,
            tick: (shortest / 4).clamp(Duration::from_millis(10), Duration::from_secs(1)),
            head_since: None,
            still_at: None,
        }
    }

    /// Whether `head`, which has come in part, has had its time.
    fn is_head_too_slow(&mut self, head: NonZeroU64) -> bool {
        let now = Instant::now();
        let (_, since) = self.head_since.filter(|(seen, _)| *seen == head).unwrap_or((head, now));
        self.head_since = Some((head, since));
        now - since >= self.head_timeout
    }

    fn moved(&mut self) {
        (self.head_since, self.still_at) = (None, None);
    }

    /// Whether nothing was called since the last tick.
    fn is_still(&mut self, calls: u64) -> bool {
        self.head_since = None;
        self.still_at.replace(calls) == Some(calls)
    }
}

/// How long an idle connection waits for a request that may be on its way when draining begins.
pub(super) const IDLE_LINGER: Duration = Duration::from_millis(100);

/// How long the end of an idle connection may take to be said.
const GOODBYE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
