//! Drives one HTTP/2 connection: hyper's connection, its idle time, its draining.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use http::{Request, Response};
use http_body::Body;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tower_service::Service;

use crate::RequestBody;
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
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let watch = Arc::clone(&service.watch);
    let mut connection = pin!(settings.http2.serve_connection(TokioIo::new(socket), service));

    let tick = settings.limits.idle_timeout / 2;
    let mut timer = pin!(sleep(tick));
    let mut calls_at_last_tick = None;
    let mut drained = pin!(draining.wait_for(|draining| *draining));
    let mut closes = false;
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                return Poll::Ready(ended);
            }
            if closes {
                return Poll::Pending;
            }
            if drained.as_mut().poll(cx).is_ready() {
                // GOAWAY names the last stream that is served, so nothing sent meanwhile is lost
                // in doubt (RFC 9113 §6.8).
                closes = true;
            } else if timer.as_mut().poll(cx).is_ready() {
                timer.as_mut().reset(Instant::now() + tick);
                closes = !watch.is_in_flight() && calls_at_last_tick == Some(watch.calls());
                calls_at_last_tick = Some(watch.calls());
            } else {
                return Poll::Pending;
            }
            if closes {
                connection.as_mut().graceful_shutdown();
            }
        }
    })
    .await
}
