//! Serves an HTTP/1.1 connection: reads heads, calls the service, keeps the connection open while it is idle.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body::Body;
use rproxy_client_ip::PeerAddr;
use rproxy_core::RejectedHead;
use rproxy_http1::{ReceivedHead, RequestBodyFraming, RequestHead, RequestParser, ResponseContext};
use rproxy_upgrade::PendingUpgrade;
use tokio::sync::watch;
use tokio::time::timeout;
use tower_service::Service;

use super::client_io::{ClientIo, LINGER};
use super::exchange::{AfterResponse, exchange};
use super::idle::Idle;
use super::interim::InterimResponses;
use super::preface::{self, DetectedProtocol, PriorKnowledge};
use super::request_content::content;
use super::response::Client;
use crate::box_error::BoxError;
use crate::connection_config::ConnectionConfig;
use crate::protocol::connection_service::ConnectionService;
use crate::protocol::request_body::RequestBody;
use crate::transport::client_socket::ClientSocket;

/// Serves an HTTP/1.1 connection until it closes, or until the client sends the HTTP/2 preface. Then it calls `end`.
///
/// An idle connection consists of this future and its socket, so each value is stored in it once: `io` is created outside
/// of the `async` block, and what follows is a parameter instead of an `await` of the caller.
pub(crate) fn serve<T, S, B>(
    socket: T,
    mut service: ConnectionService<S>,
    config: Arc<ConnectionConfig>,
    mut draining: watch::Receiver<bool>,
    end: impl FnOnce(Http1End<T, S>) + Send,
) -> impl Future<Output = ()> + Send
where
    T: ClientSocket + Send + 'static,
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let mut io = ClientIo::new(socket, config.half_close);
    async move {
        let close = match serve_requests(&mut io, &mut service, &config, &mut draining).await {
            Ok(ConnectionEnd::Http2) => {
                let (socket, first) = io.into_parts();
                return end(Http1End::Http2(PriorKnowledge { socket, first, service, config, draining }));
            }
            Ok(ConnectionEnd::Upgrade(upgrade)) => Box::pin(close(io, Some(upgrade), false)),
            Ok(ConnectionEnd::Close { is_idle }) => Box::pin(close(io, None, is_idle)),
            Err(error) => return end(Http1End::Failed(service.peer, error)),
        };
        // Boxed to keep idle connections small.
        close.await;
        end(Http1End::Closed);
    }
}

/// Completes the upgrade of a connection, or shuts the connection down.
async fn close<T>(mut io: ClientIo<T>, upgrade: Option<PendingUpgrade<T>>, is_idle: bool)
where
    T: ClientSocket + Send + 'static,
{
    if let Some(upgrade) = upgrade {
        let (socket, input) = io.into_parts();
        return upgrade.complete(socket, input).await;
    }
    // Fails if the client has already closed the connection.
    let _ = timeout(SHUTDOWN_TIMEOUT + LINGER, poll_fn(|cx| io.poll_shutdown(cx, is_idle))).await;
}

/// The end of an HTTP/1.1 connection.
pub(crate) enum Http1End<T, S> {
    Closed,
    /// The client sent the HTTP/2 preface.
    Http2(PriorKnowledge<T, S>),
    Failed(PeerAddr, BoxError),
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
#[expect(clippy::manual_async_fn, reason = "an `async fn` would store its arguments twice in its future")]
fn serve_requests<T, S, B>(
    io: &mut ClientIo<T>,
    service: &mut ConnectionService<S>,
    config: &ConnectionConfig,
    draining: &mut watch::Receiver<bool>,
) -> impl Future<Output = Result<ConnectionEnd<T>, BoxError>>
where
    T: ClientSocket + Send + 'static,
    S: Service<Request<RequestBody>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    async move {
        let is_draining = draining.clone();
        let mut idle = pin!(Idle::new(is_draining, draining.wait_for(|draining| *draining), &config.limits));
        let mut interim = None;
        let mut served = 0;
        loop {
            // Not a single `match`, whose operand would be part of the future of an idle connection.
            let bytes = match io.has_input() {
                true => io.take_input(),
                false => idle.as_mut().first_bytes(io, &config.limits, &mut interim).await,
            };
            let Some(bytes) = bytes else { return Ok(ConnectionEnd::Close { is_idle: true }) };
            // RFC 9112 §2.2: an empty line before a request is ignored. Some clients send one after the content of a request.
            if bytes == b"\r\n"[..] {
                continue;
            }
            idle.as_mut().reset();
            // Boxed, so that an idle connection is smaller than a busy one.
            let draining = idle.as_ref().draining();
            let request = Box::pin(serve_request(io, service, bytes, config, &mut interim, draining, &mut served));
            if let Some(end) = request.await? {
                return Ok(end);
            }
        }
    }
}

/// Serves the request that starts with `bytes`. Returns the reason that the connection serves no more requests, if any.
async fn serve_request<T, S, B>(
    io: &mut ClientIo<T>,
    service: &mut ConnectionService<S>,
    mut bytes: Bytes,
    config: &ConnectionConfig,
    interim: &mut Option<InterimResponses>,
    draining: &watch::Receiver<bool>,
    served: &mut u64,
) -> Result<Option<ConnectionEnd<T>>, BoxError>
where
    T: ClientSocket + Send + 'static,
    S: Service<Request<RequestBody>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    if *served == 0 && config.h2c && service.tls.is_none() && preface::may_be_preface(&bytes) {
        bytes = match Box::pin(preface::detect(io, bytes, config.limits.head_timeout)).await {
            DetectedProtocol::Http1(bytes) => bytes,
            DetectedProtocol::Http2 => return Ok(Some(ConnectionEnd::Http2)),
            DetectedProtocol::Unknown => return Ok(Some(ConnectionEnd::Close { is_idle: true })),
        };
    }
    *served += 1;
    let is_last = config.limits.is_request_limit_reached(*served);
    let interim = interim.get_or_insert_with(InterimResponses::new);
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
    // Not bound to a variable before it is awaited: that would move the future of the exchange, which is large.
    let Received { request, context, client, upgrade, .. } =
        receive(io, head).prepare(|request| service.extend(request), interim, is_last);
    let after = exchange(client, &mut service.inner, request, context, interim, draining).await?;
    Ok(match (after, upgrade) {
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
    received: Option<ReceivedHead>,
    context: ResponseContext,
    client: Client<'a, T>,
    upgrade: Option<PendingUpgrade<T>>,
}

impl<T: ClientSocket> Received<'_, T> {
    /// Completes the request with the facts about the connection. The last request of a connection closes it.
    fn prepare(
        mut self,
        extend: impl FnOnce(&mut Request<RequestBody>),
        interim: &mut InterimResponses,
        is_last: bool,
    ) -> Self {
        self.context.keep_alive &= !is_last;
        extend(&mut self.request);
        if let Some(received) = self.received.take() {
            self.request.extensions_mut().insert(received);
        }
        if !self.context.is_http10 {
            // RFC 9110 §15.2: HTTP/1.0 has no interim responses.
            self.request.extensions_mut().insert(interim.begin(self.client.expects_continue()));
        }
        self
    }
}

/// Creates the request for the service from a head, or the request that represents a rejected head.
fn receive<T>(io: &mut ClientIo<T>, head: Result<(RequestHead, Bytes), RejectedHead>) -> Received<'_, T>
where
    T: ClientSocket + Send + 'static,
{
    let received = head.and_then(|(head, mut bytes)| {
        let RequestHead { request, framing, context, expects_continue, length, received, .. } = head;
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
        Ok((request, received, context, content_reader, upgrade))
    });
    match received {
        Ok((request, received, context, content, upgrade)) => {
            let awaits_upgrade = upgrade.is_some();
            let client = Client { io, content, awaits_upgrade, is_cancelled_by_close: true };
            Received { request, received: Some(received), context, client, upgrade }
        }
        Err(rejected) => {
            let mut request = Request::new(RequestBody::default());
            request.extensions_mut().insert(rejected);
            let context =
                ResponseContext { is_head: false, keep_alive: false, takes_trailers: false, is_http10: false };
            // The bytes that follow are not the start of a request.
            let client = Client { io, content: None, awaits_upgrade: false, is_cancelled_by_close: false };
            Received { request, received: None, context, client, upgrade: None }
        }
    }
}

/// The timeout for shutting down a connection, in addition to the time for lingering.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
