//! One HTTP/2 connection: hyper's connection, its time limits, its draining, and what its client may make it do.

mod activity;
mod frames;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod io;
mod ration;
mod stream;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tower_service::Service;

use self::activity::{Activity, Unserved};
pub(crate) use self::frames::PREFACE;
use self::io::FrameIo;
use self::stream::{StreamExecutor, StreamService};
use crate::RefusedHead;
use crate::connection::{BoxError, Settings};
use crate::http1::lease;
use crate::limits::FIELD;
use crate::service::ConnectionService;
use crate::{Limits, RequestBody};

/// Serves until the connection ends. `first` are bytes that were read from it already.
pub(crate) async fn serve<T, S, B>(
    socket: T,
    first: Bytes,
    mut service: ConnectionService<S>,
    settings: &Settings,
    mut draining: watch::Receiver<bool>,
) -> Result<(), hyper::Error>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let limits = &settings.limits;
    let activity = Arc::new(Activity::new(settings.is_proxy(service.peer)));
    let (lease, lessor) = lease(FrameIo::new(socket, first, Arc::clone(&activity)));
    let builder = builder(limits, StreamExecutor::new(Arc::clone(&activity), limits.send_timeout));
    let streams = StreamService::new(service.clone(), Arc::clone(&activity), settings.head_limits);
    let ended = {
        let mut connection = pin!(builder.serve_connection(TokioIo::new(lease), streams));
        let tick = limits.idle_timeout / 2;
        // hyper waits for the client's preface for ever.
        let mut timer = pin!(sleep(limits.head_timeout.min(tick)));
        let mut drained = pin!(draining.wait_for(|draining| *draining));
        let mut state = State::Serving { requests_at_last_tick: None };
        poll_fn(|cx| {
            loop {
                let polled = connection.as_mut().poll(cx);
                reject(activity.settle(), &mut service);
                if activity.is_exhausted() {
                    lessor.recall();
                    return Poll::Ready(Ok(()));
                }
                if let Poll::Ready(ended) = polled {
                    return Poll::Ready(ended);
                }
                let is_serving = matches!(state, State::Serving { .. });
                // GOAWAY names the last stream that is served, so nothing sent meanwhile is lost in
                // doubt (RFC 9113 §6.8).
                if is_serving && (drained.as_mut().poll(cx).is_ready() || limits.are_served(activity.requests())) {
                    state = State::Closing { written_at_last_tick: activity.written() };
                    timer.as_mut().reset(Instant::now() + GOODBYE);
                    connection.as_mut().graceful_shutdown();
                    continue;
                }
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                if !activity.has_begun() {
                    tracing::debug!("no HTTP/2 preface in time");
                    return Poll::Ready(Ok(()));
                }
                activity.forgive();
                match &mut state {
                    State::Serving { requests_at_last_tick } => {
                        timer.as_mut().reset(Instant::now() + tick);
                        let requests = activity.requests();
                        if !activity.has_open_streams() && requests_at_last_tick.replace(requests) == Some(requests) {
                            state = State::Closing { written_at_last_tick: activity.written() };
                            timer.as_mut().reset(Instant::now() + GOODBYE);
                            connection.as_mut().graceful_shutdown();
                        }
                    }
                    State::Closing { written_at_last_tick } => {
                        // A client that neither takes what is left for it nor answers GOAWAY's ping would keep the
                        // connection for ever: h2 waits for both.
                        let written = activity.written();
                        if !activity.has_open_streams() && std::mem::replace(written_at_last_tick, written) == written {
                            return Poll::Ready(Ok(()));
                        }
                        timer.as_mut().reset(Instant::now() + GOODBYE);
                    }
                }
            }
        })
        .await
    };
    if let Some(io) = lessor.returned() {
        tracing::debug!(peer = %service.peer.0, "HTTP/2 connection closed: too many errors or frames that carry no request");
        io.go_away().await;
    }
    ended
}

/// Has the service reject the heads that h2 answered itself, so that they are logged, counted and charged as others are.
fn reject<S, B>(unserved: Unserved, service: &mut ConnectionService<S>)
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let malformed = (0..unserved.malformed).map(|_| RefusedHead::Malformed);
    let too_large = (0..unserved.too_large).map(|_| RefusedHead::TooLarge);
    for refused in malformed.chain(too_large) {
        tokio::spawn(service.reject(refused));
    }
}

enum State {
    Serving {
        requests_at_last_tick: Option<u64>,
    },
    /// GOAWAY was sent: what is open may end.
    Closing {
        written_at_last_tick: u64,
    },
}

fn builder(limits: &Limits, executor: StreamExecutor) -> http2::Builder<StreamExecutor> {
    let mut builder = http2::Builder::new(executor);
    builder
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .max_concurrent_streams(limits.concurrent_streams)
        .max_header_list_size(u32::try_from(head_list(limits)).unwrap_or(u32::MAX))
        .initial_connection_window_size(connection_window(limits))
        .initial_stream_window_size(stream_window(limits))
        .max_send_buf_size(SEND_BUFFER)
        // Streams that the client opens and resets before they are served (CVE-2023-44487).
        .max_pending_accept_reset_streams(RESET_BEFORE_SERVED)
        // h2 counts errors over the whole life of a connection; `Activity` has a rate.
        .max_local_error_reset_streams(None)
        .keep_alive_interval(limits.idle_timeout)
        .keep_alive_timeout(limits.head_timeout);
    builder
}

/// How much of a client's content may be on its way or with us, for each stream. The window of the connection is as large
/// as those of all streams together, so that streams that nobody reads do not stop the others.
fn stream_window(limits: &Limits) -> u32 {
    STREAM_WINDOW.min(MAX_WINDOW / limits.concurrent_streams.max(1))
}

fn connection_window(limits: &Limits) -> u32 {
    stream_window(limits) * limits.concurrent_streams.max(1)
}

/// Bytes of a head as RFC 9113 §6.5.2 counts them, each field as 32 more than its text: `StreamService` is exact, and has
/// h2 let everything pass that may be within its limits once cookies are joined.
fn head_list(limits: &Limits) -> usize {
    limits.head_size + FIELD_OVERHEAD * (limits.fields + COOKIES)
}

/// The most that h2 holds of a head: its text, and its fields in a map.
pub(crate) fn head(limits: &Limits) -> usize {
    let list = head_list(limits);
    list + list / (FIELD_OVERHEAD + 1) * FIELD
}

/// The most that h2 holds of a stream's content: its window, and half as much for the frames that it came in, which may be
/// small.
pub(crate) fn content(limits: &Limits) -> usize {
    let window = stream_window(limits) as usize;
    window + window / 2
}

const STREAM_WINDOW: u32 = 256 * 1024;

/// RFC 9113 §6.9.1.
const MAX_WINDOW: u32 = (1 << 31) - 1;

const FIELD_OVERHEAD: usize = 32;

/// Cookies of a site, each a field of its own: browsers keep up to 180.
const COOKIES: usize = 200;

/// How much of a response h2 takes before the socket does. As much as 100 streams have of it, a client that opens a wide
/// window and then reads nothing can make us hold; h2's own 400 KiB would be 50 MB for a connection.
pub(crate) const SEND_BUFFER: usize = 64 * 1024;

/// h2's buffers for frames, of 16 KiB each way, and for the headers of heads.
pub(crate) const CODEC: usize = 128 * 1024;

/// h2's default.
const RESET_BEFORE_SERVED: usize = 20;

/// How long a client that was told GOAWAY may do nothing.
const GOODBYE: Duration = Duration::from_secs(5);
