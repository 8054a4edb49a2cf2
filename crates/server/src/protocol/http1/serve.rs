//! Serves an HTTP/1.1 connection: reads heads, calls the service, keeps the connection open while it is idle.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body::Body;
use rproxy_client_ip::PeerAddr;
use rproxy_core::RejectedHead;
use rproxy_http1::{RequestBodyFraming, RequestHead, RequestParser, ResponseContext};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tower_service::Service;

use super::client_io::{ClientIo, LINGER};
use super::exchange::{AfterResponse, exchange};
use super::interim::InterimResponses;
use super::preface::{self, DetectedProtocol, PriorKnowledge};
use super::request_content::content;
use super::response::Client;
use super::upgrade::PendingUpgrade;
use crate::box_error::BoxError;
use crate::connection_config::ConnectionConfig;
use crate::protocol::connection_service::ConnectionService;
use crate::protocol::request_body::RequestBody;
use crate::transport::client_socket::ClientSocket;

/// Serves an HTTP/1.1 connection until it closes, or returns it if the client sends the HTTP/2 preface.
///
/// An error includes the peer, so that the caller need not store it. An idle connection is only a socket.
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
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    async move {
        let mut io = ClientIo::new(socket, config.half_close);
        let end = serve_requests(&mut io, &mut service, config, &mut draining).await;
        match end.map_err(|error| (service.peer, error))? {
            ConnectionEnd::Http2 => {
                let (socket, first) = io.into_parts();
                Ok(Some(PriorKnowledge { socket, first, service, draining }))
            }
            ConnectionEnd::Upgrade(upgrade) => {
                let (socket, input) = io.into_parts();
                // Boxed to keep idle connections small.
                Box::pin(upgrade.complete(socket, input)).await;
                Ok(None)
            }
            ConnectionEnd::Close { is_idle } => {
                // Boxed to keep idle connections small. Fails if the client has already closed the connection.
                let shutdown = Box::pin(poll_fn(|cx| io.poll_shutdown(cx, is_idle)));
                let _ = Box::pin(timeout(SHUTDOWN_TIMEOUT + LINGER, shutdown)).await;
                Ok(None)
            }
        }
    }
}

/// The reason that a connection serves no more HTTP/1.1 requests.
enum ConnectionEnd<T> {
    /// The connection closes. If it is idle or the client gets no response, no response can be lost.
    Close { is_idle: bool },
    /// The client sent the HTTP/2 preface.
    Http2,
    /// The response to the last request switched protocols.
    Upgrade(PendingUpgrade<T>),
}

/// Serves the requests of a connection, one after the other.
async fn serve_requests<T, S, B>(
    io: &mut ClientIo<T>,
    service: &mut ConnectionService<S>,
    config: &ConnectionConfig,
    draining: &mut watch::Receiver<bool>,
) -> Result<ConnectionEnd<T>, BoxError>
where
    T: ClientSocket + Send + 'static,
    S: Service<Request<RequestBody>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let is_draining = draining.clone();
    let mut drained = pin!(draining.wait_for(|draining| *draining));
    // The idle timeout is divided into ticks, so that a request needs no timer reset.
    let tick = config.limits.idle_timeout / TICKS;
    let mut timer = pin!(sleep(tick));
    let (mut idle_ticks, mut is_lingering, mut is_registered) = (0, false, false);
    let mut interim = None;
    let mut served = 0;
    loop {
        let bytes = match io.take_input() {
            Some(input) => input,
            None => {
                let mut is_first_poll = true;
                let first = poll_fn(|cx| {
                    if let Poll::Ready(first) = io.poll_first(cx) {
                        return Poll::Ready(first);
                    }
                    // Both are registered to wake this task, unless they have already fired.
                    let has_fired = is_draining.has_changed().unwrap_or(true) || timer.is_elapsed();
                    if std::mem::take(&mut is_first_poll) && is_registered && !has_fired {
                        return Poll::Pending;
                    }
                    is_registered = true;
                    if !is_lingering && drained.as_mut().poll(cx).is_ready() {
                        is_lingering = true;
                        timer.as_mut().reset(Instant::now() + IDLE_LINGER);
                    }
                    while timer.as_mut().poll(cx).is_ready() {
                        idle_ticks += 1;
                        // Frees memory while the connection is idle.
                        interim = None;
                        if is_lingering || idle_ticks > TICKS {
                            return Poll::Ready(None);
                        }
                        timer.as_mut().reset(Instant::now() + tick);
                    }
                    Poll::Pending
                });
                match first.await {
                    Some(bytes) => bytes,
                    None => return Ok(ConnectionEnd::Close { is_idle: true }),
                }
            }
        };
        // RFC 9112 §2.2: an empty line before a request is ignored. Some clients send one after the content of a request.
        if bytes == b"\r\n"[..] {
            continue;
        }
        idle_ticks = 0;
        let bytes = match served == 0 && config.h2c && service.tls.is_none() && preface::may_be_preface(&bytes) {
            true => match Box::pin(preface::detect(io, bytes, config.limits.head_timeout)).await {
                DetectedProtocol::Http1(bytes) => bytes,
                DetectedProtocol::Http2 => return Ok(ConnectionEnd::Http2),
                DetectedProtocol::Unknown => return Ok(ConnectionEnd::Close { is_idle: true }),
            },
            false => bytes,
        };
        served += 1;
        let is_last = config.limits.is_request_limit_reached(served);
        let interim = interim.get_or_insert_with(InterimResponses::new);
        // Boxed, so that an idle connection is smaller than a busy one.
        let request = Box::pin(serve_request(io, service, bytes, config, interim, &is_draining, is_last));
        if let Some(end) = request.await? {
            return Ok(end);
        }
    }
}

/// Serves the request that starts with `bytes`. Returns the reason that the connection serves no more requests, if any.
async fn serve_request<T, S, B>(
    io: &mut ClientIo<T>,
    service: &mut ConnectionService<S>,
    bytes: Bytes,
    config: &ConnectionConfig,
    interim: &mut InterimResponses,
    draining: &watch::Receiver<bool>,
    is_last: bool,
) -> Result<Option<ConnectionEnd<T>>, BoxError>
where
    T: ClientSocket + Send + 'static,
    S: Service<Request<RequestBody>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let mut parser = RequestParser::new(config.head_limits);
    let head = match parser.parse(&bytes) {
        Ok(Some(head)) => Ok((head, bytes)),
        // Boxed, because most heads arrive in one read.
        Ok(None) => match Box::pin(read_head(io, bytes, parser, config.limits.head_timeout)).await {
            Ok(Some(read)) => Ok(read),
            Ok(None) => return Ok(Some(ConnectionEnd::Close { is_idle: true })),
            Err(rejected) => Err(rejected),
        },
        Err(rejected) => Err(rejected),
    };
    let (exchange, upgrade) = {
        let Received { mut request, mut context, client, upgrade } = receive(io, head);
        context.keep_alive &= !is_last;
        service.extend(&mut request);
        if !context.is_http10 {
            // RFC 9110 §15.2: HTTP/1.0 has no interim responses.
            request.extensions_mut().insert(interim.begin());
        }
        (exchange(client, &mut service.inner, request, context, interim, draining), upgrade)
    };
    Ok(match (exchange.await?, upgrade) {
        (AfterResponse::KeepAlive, _) => None,
        (AfterResponse::Upgraded, Some(upgrade)) => Some(ConnectionEnd::Upgrade(upgrade)),
        (AfterResponse::Close | AfterResponse::Upgraded, _) => Some(ConnectionEnd::Close { is_idle: false }),
        (AfterResponse::Cancelled, _) => Some(ConnectionEnd::Close { is_idle: true }),
    })
}

/// Reads the rest of a request head. Returns `None` if the client closes the connection within it.
async fn read_head<T: ClientSocket>(
    io: &mut ClientIo<T>,
    first: Bytes,
    mut parser: RequestParser,
    head_timeout: Duration,
) -> Result<Option<(RequestHead, Bytes)>, RejectedHead> {
    io.input.extend_from_slice(&first);
    let complete = async {
        loop {
            if !poll_fn(|cx| io.poll_more(cx)).await {
                return Ok(false);
            }
            if parser.check(&io.input)?.is_some() {
                return Ok(true);
            }
        }
    };
    match timeout(head_timeout, complete).await {
        Err(_) => return Err(RejectedHead::TooSlow),
        Ok(is_complete) if !is_complete? => return Ok(None),
        Ok(_) => {}
    }
    let bytes = std::mem::take(&mut io.input).freeze();
    Ok(parser.parse(&bytes)?.map(|head| (head, bytes)))
}

/// A request that was received, at least its head.
struct Received<'a, T> {
    request: Request<RequestBody>,
    context: ResponseContext,
    client: Client<'a, T>,
    upgrade: Option<PendingUpgrade<T>>,
}

/// Creates the request for the service from a head, or the request that represents a rejected head.
fn receive<T>(io: &mut ClientIo<T>, head: Result<(RequestHead, Bytes), RejectedHead>) -> Received<'_, T>
where
    T: ClientSocket + Send + 'static,
{
    let received = head.and_then(|(head, mut bytes)| {
        let RequestHead { request, framing, context, expects_continue, length, .. } = head;
        let mut rest = bytes.split_off(length);
        let (mut upgrade, mut on_upgrade, mut content_reader) = (None, None, None);
        let body = match framing {
            RequestBodyFraming::None => RequestBody::default(),
            RequestBodyFraming::Length(length) if length <= rest.len() as u64 => {
                RequestBody::received(rest.split_to(length as usize))
            }
            RequestBodyFraming::Length(_) | RequestBodyFraming::Chunked => {
                let mut input = BytesMut::from(std::mem::take(&mut rest));
                let (body, reader) =
                    content(framing, expects_continue, &mut input).map_err(|_| RejectedHead::Framing)?;
                io.input = input;
                content_reader = Some(reader);
                body.into()
            }
            RequestBodyFraming::Upgrade => {
                (upgrade, on_upgrade) = PendingUpgrade::new().unzip();
                RequestBody::default()
            }
        };
        if !rest.is_empty() {
            io.input = rest.into();
        }
        let mut request = request.map(|()| body);
        if let Some(on_upgrade) = on_upgrade {
            request.extensions_mut().insert(on_upgrade);
        }
        Ok((request, context, content_reader, upgrade))
    });
    match received {
        Ok((request, context, content, upgrade)) => {
            let awaits_upgrade = upgrade.is_some();
            let client = Client { io, content, awaits_upgrade, is_cancelled_by_close: true };
            Received { request, context, client, upgrade }
        }
        Err(rejected) => {
            let mut request = Request::new(RequestBody::default());
            request.extensions_mut().insert(rejected);
            let context =
                ResponseContext { is_head: false, keep_alive: false, takes_trailers: false, is_http10: false };
            // The bytes that follow are not the start of a request.
            let client = Client { io, content: None, awaits_upgrade: false, is_cancelled_by_close: false };
            Received { request, context, client, upgrade: None }
        }
    }
}

/// The number of clock ticks in the idle timeout.
const TICKS: u32 = 4;

/// The time that a draining idle connection stays open for a request that may already have been sent.
const IDLE_LINGER: Duration = Duration::from_millis(100);

/// The timeout for shutting down a connection, in addition to the time for lingering.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
