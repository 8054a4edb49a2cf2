//! One HTTP/2 connection: hyper's connection, its time limits, its draining, and what its client may make it do.

mod frames;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod stream;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tower_service::Service;

use self::frames::FrameIo;
use self::stream::{StreamExecutor, StreamService, Streams};
use crate::connection::{BoxError, Settings};
use crate::service::ConnectionService;
use crate::{Limits, RequestBody};

/// Serves until the connection ends.
pub(crate) async fn serve<T, S, B>(
    socket: T,
    service: ConnectionService<S>,
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
    let streams = Arc::new(Streams::default());
    let io = TokioIo::new(FrameIo::new(socket, Arc::clone(&streams)));
    let builder = builder(limits, StreamExecutor::new(Arc::clone(&streams), limits.send_timeout));
    let service = StreamService::new(service, Arc::clone(&streams), settings.head_limits);
    let mut connection = pin!(builder.serve_connection(io, service));

    let tick = limits.idle_timeout / 2;
    // hyper waits for the client's preface for ever.
    let mut timer = pin!(sleep(limits.head_timeout.min(tick)));
    let mut drained = pin!(draining.wait_for(|draining| *draining));
    let mut state = State::Serving { requests_at_last_tick: None };
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                return Poll::Ready(ended);
            }
            let is_serving = matches!(state, State::Serving { .. });
            // GOAWAY names the last stream that is served, so nothing sent meanwhile is lost in
            // doubt (RFC 9113 §6.8).
            if is_serving && (drained.as_mut().poll(cx).is_ready() || limits.are_served(streams.requests())) {
                state = State::Closing { written_at_last_tick: streams.written() };
                timer.as_mut().reset(Instant::now() + GOODBYE);
                connection.as_mut().graceful_shutdown();
                continue;
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if !streams.have_begun() {
                tracing::debug!("no HTTP/2 preface in time");
                return Poll::Ready(Ok(()));
            }
            streams.forgive();
            match &mut state {
                State::Serving { requests_at_last_tick } => {
                    timer.as_mut().reset(Instant::now() + tick);
                    let requests = streams.requests();
                    if !streams.are_open() && requests_at_last_tick.replace(requests) == Some(requests) {
                        state = State::Closing { written_at_last_tick: streams.written() };
                        timer.as_mut().reset(Instant::now() + GOODBYE);
                        connection.as_mut().graceful_shutdown();
                    }
                }
                State::Closing { written_at_last_tick } => {
                    // A client that neither takes what is left for it nor answers GOAWAY's ping would keep the
                    // connection for ever: h2 waits for both.
                    let written = streams.written();
                    if !streams.are_open() && std::mem::replace(written_at_last_tick, written) == written {
                        return Poll::Ready(Ok(()));
                    }
                    timer.as_mut().reset(Instant::now() + GOODBYE);
                }
            }
        }
    })
    .await
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
        .max_header_list_size(u32::try_from(limits.head_size).unwrap_or(u32::MAX))
        .initial_connection_window_size(RECEIVE_WINDOW)
        .initial_stream_window_size(RECEIVE_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        // Streams that the client opens and resets before we have looked at them (CVE-2023-44487).
        .max_pending_accept_reset_streams(RESET_BEFORE_SERVED)
        .keep_alive_interval(limits.idle_timeout)
        .keep_alive_timeout(limits.head_timeout);
    builder
}

/// How much of a client's content may be on its way or with us, over all streams.
pub(crate) const RECEIVE_WINDOW: u32 = 1024 * 1024;

/// How much of a response h2 takes before the socket does. As much as 100 streams have of it, a client that opens a wide
/// window and then reads nothing can make us hold; h2's own 400 KiB would be 50 MB for a connection.
pub(crate) const SEND_BUFFER: usize = 64 * 1024;

/// h2's buffers for frames, of 16 KiB each way, and for the headers of heads.
pub(crate) const CODEC: usize = 128 * 1024;

/// As many as h2 takes to be no attack.
const RESET_BEFORE_SERVED: usize = 20;

/// How long a client that was told GOAWAY may do nothing.
const GOODBYE: Duration = Duration::from_secs(5);
