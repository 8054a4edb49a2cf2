//! An HTTP/2 connection, served by hyper with timeouts, draining and flood protection.

mod activity;
mod frame_io;
mod frames;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod reclaimable_io;
mod stream;
mod token_bucket;

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
use rproxy_core::RejectedHead;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tower_service::Service;

use self::activity::{Activity, RejectedHeads};
use self::frame_io::FrameIo;
pub(crate) use self::frames::PREFACE;
use self::reclaimable_io::reclaimable;
use self::stream::{StreamExecutor, StreamService};
use crate::box_error::BoxError;
use crate::connection_config::ConnectionConfig;
use crate::limits::{FIELD, Limits};
use crate::protocol::connection_service::ConnectionService;
use crate::protocol::request_body::RequestBody;

/// Serves an HTTP/2 connection until it closes. `first` holds the bytes that were already read.
pub(crate) async fn serve<T, S, B>(
    socket: T,
    first: Bytes,
    mut service: ConnectionService<S>,
    config: &ConnectionConfig,
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
    let limits = &config.limits;
    let activity = Arc::new(Activity::new(config.is_proxy(service.peer)));
    let (reclaimable, reclaim) = reclaimable(FrameIo::new(socket, first, Arc::clone(&activity)));
    let builder = builder(limits, StreamExecutor::new(Arc::clone(&activity), limits.send_timeout));
    let streams = StreamService::new(service.clone(), Arc::clone(&activity), config.head_limits);
    let ended = {
        let mut connection = pin!(builder.serve_connection(TokioIo::new(reclaimable), streams));
        let tick = limits.idle_timeout / 2;
        // hyper has no timeout for the preface.
        let mut timer = pin!(sleep(limits.head_timeout.min(tick)));
        let mut drained = pin!(draining.wait_for(|draining| *draining));
        let mut state = State::Serving { requests_at_last_tick: None };
        poll_fn(|cx| {
            loop {
                let polled = connection.as_mut().poll(cx);
                reject(activity.take_rejected_heads(), &mut service);
                if activity.is_exhausted() {
                    reclaim.reclaim();
                    return Poll::Ready(Ok(()));
                }
                if let Poll::Ready(ended) = polled {
                    return Poll::Ready(ended);
                }
                let is_serving = matches!(state, State::Serving { .. });
                // RFC 9113 §6.8: GOAWAY contains the last stream that is served, so the client knows which to retry.
                if is_serving
                    && (drained.as_mut().poll(cx).is_ready() || limits.is_request_limit_reached(activity.requests()))
                {
                    state = State::Closing { written_at_last_tick: activity.written() };
                    timer.as_mut().reset(Instant::now() + CLOSE_TICK);
                    connection.as_mut().graceful_shutdown();
                    continue;
                }
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                if !activity.has_begun() {
                    tracing::debug!("timed out waiting for the HTTP/2 preface, closing the connection");
                    return Poll::Ready(Ok(()));
                }
                activity.reset_frame_counts();
                match &mut state {
                    State::Serving { requests_at_last_tick } => {
                        timer.as_mut().reset(Instant::now() + tick);
                        let requests = activity.requests();
                        if !activity.has_open_streams() && requests_at_last_tick.replace(requests) == Some(requests) {
                            state = State::Closing { written_at_last_tick: activity.written() };
                            timer.as_mut().reset(Instant::now() + CLOSE_TICK);
                            connection.as_mut().graceful_shutdown();
                        }
                    }
                    State::Closing { written_at_last_tick } => {
                        // h2 waits without a timeout until the client has read all data and has replied to the PING
                        // that accompanies GOAWAY.
                        let written = activity.written();
                        if !activity.has_open_streams() && std::mem::replace(written_at_last_tick, written) == written {
                            return Poll::Ready(Ok(()));
                        }
                        timer.as_mut().reset(Instant::now() + CLOSE_TICK);
                    }
                }
            }
        })
        .await
    };
    if let Some(io) = reclaim.take() {
        tracing::debug!(peer = %service.peer.0, "too many HTTP/2 errors or frames without content, closing the connection");
        io.close_with_goaway().await;
    }
    ended
}

/// Passes request heads that h2 rejected to the service, so that logs, metrics and rate limits include them.
fn reject<S, B>(rejected: RejectedHeads, service: &mut ConnectionService<S>)
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let malformed = (0..rejected.malformed).map(|_| RejectedHead::Malformed);
    let too_large = (0..rejected.too_large).map(|_| RejectedHead::TooLarge);
    for rejected in malformed.chain(too_large) {
        tokio::spawn(service.reject(rejected));
    }
}

enum State {
    Serving {
        requests_at_last_tick: Option<u64>,
    },
    /// The server has sent GOAWAY, and waits for the open streams to finish.
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
        // Limits streams that the client resets before they are served (CVE-2023-44487).
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        // h2 limits the number of errors per connection. `Activity` limits their rate instead.
        .max_local_error_reset_streams(None)
        .keep_alive_interval(limits.idle_timeout)
        .keep_alive_timeout(limits.head_timeout);
    builder
}

/// Returns the initial flow-control window of a stream.
///
/// The window of the connection is the sum of those of all streams, so that unread streams do not block the others.
fn stream_window(limits: &Limits) -> u32 {
    STREAM_WINDOW.min(MAX_WINDOW / limits.concurrent_streams.max(1))
}

fn connection_window(limits: &Limits) -> u32 {
    stream_window(limits) * limits.concurrent_streams.max(1)
}

/// Returns h2's limit for the size of a header list, which counts 32 extra bytes per field (RFC 9113 §6.5.2).
///
/// It admits every head that could be within the limits after its cookie fields are joined. `StreamService` then checks
/// the exact limits.
fn head_list(limits: &Limits) -> usize {
    limits.head_size + FIELD_OVERHEAD * (limits.fields + COOKIES)
}

/// Returns the maximum memory that h2 uses for a request head: its text, and a map of its fields.
pub(crate) fn head(limits: &Limits) -> usize {
    let list = head_list(limits);
    list + list / (FIELD_OVERHEAD + 1) * FIELD
}

/// Returns the maximum memory that h2 uses for the unread content of a stream: 1.5 times its window.
pub(crate) fn content(limits: &Limits) -> usize {
    let window = stream_window(limits) as usize;
    window + window / 2
}

const STREAM_WINDOW: u32 = 256 * 1024;

/// The maximum flow-control window (RFC 9113 §6.9.1).
const MAX_WINDOW: u32 = (1 << 31) - 1;

const FIELD_OVERHEAD: usize = 32;

/// The maximum number of `Cookie` fields in a request head. Browsers store up to 180 cookies per site and may send each
/// as a field.
const COOKIES: usize = 200;

/// The maximum number of response bytes that h2 buffers per stream.
///
/// A client with a large window that reads nothing makes all of its streams buffer this much. With the default of h2,
/// 400 KiB, that would be 50 MB per connection.
pub(crate) const SEND_BUFFER: usize = 64 * 1024;

/// The memory that h2 uses per connection for frame buffers of 16 KiB per direction and for HPACK tables.
pub(crate) const CODEC: usize = 128 * 1024;

/// The maximum number of streams that were reset by the client but not yet passed to hyper (the default of h2).
const MAX_PENDING_RESETS: usize = 20;

/// The maximum time without sent bytes after GOAWAY, after which the connection is closed.
const CLOSE_TICK: Duration = Duration::from_secs(5);
