//! An attempt to send a request to one backend, on an idle or a new connection.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body;
use rproxy_upgrade::PendingUpgrade;

use crate::backend::Protocol;
use crate::body::{InFlightGuard, ReturnTarget, UpstreamBody};
use crate::connection_auth;
use crate::connector::{AllowedProtocols, Connected};
use crate::error::{BoxError, ProxyError, ProxyErrorKind};
use crate::extensions::ClientConnection;
use crate::http1::{Http1Connection, SendError};
use crate::http2::{self, SendFailure, SendOutcome, StreamPermit};
use crate::pools::BackendPools;
use crate::request_body::RequestBody;
use crate::rewrite::{to_http1, to_http2};
use crate::settings::Settings;
use crate::timeouts::Timeouts;

/// The failure of an attempt to send a request.
pub(crate) struct Failure {
    /// Whether the request may be sent to another backend.
    ///
    /// That is the case if no byte of it was sent, or if its method is idempotent and it has no content (RFC 9110
    /// §9.2.2).
    pub(crate) is_retryable: bool,
    /// Whether at least a part of the request was sent.
    pub(crate) was_sent: bool,
    pub(crate) error: ProxyError,
}

/// The result of an attempt to send a request to one backend.
type AttemptResult<B> = Result<Response<UpstreamBody<B>>, Failure>;

/// Sends a request to one backend and returns the response.
///
/// After a retryable failure, `request` is complete again.
pub(crate) async fn attempt<B>(
    settings: &Arc<Settings>,
    pools: &Arc<BackendPools<B>>,
    request: &mut Request<RequestBody<B>>,
    timeouts: Timeouts,
    guard: &mut Option<Box<InFlightGuard>>,
) -> AttemptResult<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    let is_upgrade = request.extensions().get::<hyper::ext::Protocol>().is_some();
    // Rare or large futures are boxed, because each request allocates the size of this future.
    let result = match (pools.backend.config.protocol, is_upgrade) {
        (Protocol::Http1, false) => http1(settings, pools, request, timeouts, guard, Http1Options::default()).await,
        (Protocol::Https, false) if pools.http2(settings).is_http1() || is_authenticated(request, pools) => {
            http1(settings, pools, request, timeouts, guard, Http1Options::default()).await
        }
        (Protocol::Http1, true) => Box::pin(upgrade(settings, pools, request, timeouts)).await,
        (Protocol::Https, true) => match Box::pin(upgrade(settings, pools, request, timeouts)).await {
            // The backend may support HTTP/2 only.
            Err(failure) if failure.error.kind() == ProxyErrorKind::TlsProtocolError => {
                Box::pin(extended_connect(settings, pools, request, timeouts)).await
            }
            result => result,
        },
        (Protocol::H2c, true) => Box::pin(extended_connect(settings, pools, request, timeouts)).await,
        (Protocol::H2c | Protocol::Https, false) => {
            Box::pin(http2(settings, pools, request, timeouts, guard, None)).await
        }
    };
    match &result {
        Ok(_) => pools.backend.health.record_success(),
        Err(failure) => failure.record_health(pools),
    }
    result
}

/// Returns whether the client has an authenticated (NTLM or Negotiate) connection to the backend.
fn is_authenticated<B>(request: &Request<RequestBody<B>>, pools: &BackendPools<B>) -> bool
where
    B: Body<Data: Send> + Send + 'static,
{
    let client = request.extensions().get::<ClientConnection>();
    client.is_some_and(|client| connection_auth::has_connection::<B>(client, &pools.backend))
}

/// The options for sending a request over HTTP/1.1.
struct Http1Options {
    /// The connection to use, if one was already opened for the request.
    connected: Option<Box<Connected>>,
    /// The protocols to offer (ALPN) on a new connection.
    protocols: AllowedProtocols,
}

impl Default for Http1Options {
    fn default() -> Self {
        Self { connected: None, protocols: AllowedProtocols::Any }
    }
}

/// Sends a request over HTTP/1.1, on an idle connection if one is available.
async fn http1<B>(
    settings: &Arc<Settings>,
    pools: &Arc<BackendPools<B>>,
    request: &mut Request<RequestBody<B>>,
    timeouts: Timeouts,
    guard: &mut Option<Box<InFlightGuard>>,
    options: Http1Options,
) -> AttemptResult<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    if let Some(limit) = &pools.backend.connection_limit {
        match Box::pin(limit.acquire(settings.queue_timeout)).await {
            Ok(permit) => guard.get_or_insert_default().hold_permit(permit),
            Err(error) => return Err(Failure::unsent(error)),
        }
    }
    to_http1(request, &pools.backend.config.host);
    let client = request.extensions().get::<ClientConnection>();
    let authenticated = client.and_then(|client| connection_auth::take(client, &pools.backend));
    let authenticated = authenticated.and_then(|mut connection| connection.is_reusable().then_some(connection));
    let mut is_authenticated = authenticated.is_some() || connection_auth::authenticates(request);
    let idle = match authenticated {
        Some(connection) => Some(connection),
        // Shared connections carry no credentials that authenticate the connection.
        None if is_authenticated || options.connected.is_some() => None,
        None => pools.http1.take(),
    };
    if let Some(mut connection) = idle {
        match connection.send(request, timeouts).await {
            Ok(response) => return Ok(with_body(response, connection, pools, request, is_authenticated)),
            // The backend closed the idle connection at the same moment. The request is sent again on a new one.
            Err(SendError::Closed { is_retryable: true, .. }) => {
                is_authenticated = connection_auth::authenticates(request)
            }
            Err(SendError::Closed { is_retryable: false, error }) => return Err(Failure::sent(error.into())),
            Err(SendError::Failed(error)) => return Err(Failure::sent(error)),
        }
    }
    let connected = match options.connected {
        Some(connected) => *connected,
        None => {
            if let Some(limit) = &pools.backend.connection_limit {
                limit.close_surplus_idle();
            }
            match connect(settings, pools, options.protocols).await {
                Ok(connected) => connected,
                Err(error) => return Err(Failure::unsent(error)),
            }
        }
    };
    if connected.is_http2 {
        return match Box::pin(pools.http2(settings).add_connection(connected, request.body().content_length())).await {
            Ok(permit) => Box::pin(http2(settings, pools, request, timeouts, guard, Some(permit))).await,
            Err(error) => Err(Failure::unsent(error)),
        };
    }
    let mut connection = Http1Connection::new(connected.socket, connected.expires);
    match connection.send(request, timeouts).await {
        Ok(response) => Ok(with_body(response, connection, pools, request, is_authenticated)),
        Err(SendError::Closed { error, is_retryable }) => {
            Err(Failure { is_retryable, was_sent: true, error: error.into() })
        }
        Err(SendError::Failed(error)) => Err(Failure::sent(error)),
    }
}

/// Opens a connection to the backend. If the request is dropped before that, the connection is added to the pool.
async fn connect<B>(
    settings: &Arc<Settings>,
    pools: &Arc<BackendPools<B>>,
    protocols: AllowedProtocols,
) -> Result<Connected, ProxyError>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    let (settings, backend) = (Arc::clone(settings), Arc::clone(&pools.backend));
    let connecting = async move { settings.connector.connect(&backend.config, protocols, &[]).await };
    Box::pin(pools.http1.connect(connecting)).await
}

/// Combines a response head with the connection from which its body is read.
fn with_body<B>(
    response: Response<()>,
    connection: Box<Http1Connection<B>>,
    pools: &Arc<BackendPools<B>>,
    request: &Request<RequestBody<B>>,
    is_authenticated: bool,
) -> Response<UpstreamBody<B>>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    let return_to = match request.extensions().get::<ClientConnection>() {
        _ if !is_authenticated && !connection_auth::challenges(&response) => ReturnTarget::Pool,
        Some(client) => ReturnTarget::Client(ClientConnection::clone(client)),
        None => ReturnTarget::Discard,
    };
    response.map(|()| UpstreamBody::http1(connection, pools, return_to))
}

/// Sends a request as an HTTP/1.1 upgrade (RFC 9110 §7.8), on a separate connection.
async fn upgrade<B>(
    settings: &Settings,
    pools: &Arc<BackendPools<B>>,
    request: &mut Request<RequestBody<B>>,
    timeouts: Timeouts,
) -> AttemptResult<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    to_http1(request, &pools.backend.config.host);
    let protocol = request.extensions().get::<hyper::ext::Protocol>();
    let Some(protocol) = protocol.and_then(|protocol| HeaderValue::from_str(protocol.as_str()).ok()) else {
        return Err(Failure::sent(ProxyError::new(ProxyErrorKind::HttpRequestError)));
    };
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    request.headers_mut().insert(UPGRADE, protocol);

    let connected = match settings.connector.connect(&pools.backend.config, AllowedProtocols::Http1, &[]).await {
        Ok(connected) => connected,
        Err(error) => return Err(Failure::unsent(error)),
    };
    let mut connection = Http1Connection::new(connected.socket, connected.expires);
    match connection.send_upgrade(request, timeouts).await {
        Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            Ok(switch_protocols(response, *connection))
        }
        Ok(response) => Ok(response.map(|()| UpstreamBody::http1(connection, pools, ReturnTarget::Discard))),
        Err(SendError::Closed { error, .. }) => Err(Failure::sent(error.into())),
        Err(SendError::Failed(error)) => Err(Failure::sent(error)),
    }
}

/// Adds the upgraded connection to the response 101. It outlives the request.
fn switch_protocols<B>(mut response: Response<()>, connection: Http1Connection<B>) -> Response<UpstreamBody<B>>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    if let Some((pending, on_upgrade)) = PendingUpgrade::new() {
        let (socket, input) = connection.into_upgraded();
        tokio::spawn(pending.complete(socket, input));
        response.extensions_mut().insert(on_upgrade);
    }
    response.map(|()| UpstreamBody::full(Bytes::new()))
}

/// Sends an upgrade request as an extended CONNECT (RFC 8441 §4), on a separate HTTP/2 connection.
///
/// A 2xx response becomes a 101 response. It has the protocol as an extension, in place of `Sec-WebSocket-Accept`.
async fn extended_connect<B>(
    settings: &Arc<Settings>,
    pools: &Arc<BackendPools<B>>,
    request: &mut Request<RequestBody<B>>,
    timeouts: Timeouts,
) -> AttemptResult<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    if *request.method() != Method::GET {
        // CONNECT replaces the method, so only GET can be sent.
        return Err(Failure::sent(ProxyError::new(ProxyErrorKind::HttpUpgradeFailed)));
    }
    let backend = &pools.backend.config;
    let connected = match settings.connector.connect(backend, AllowedProtocols::Any, &[]).await {
        Ok(connected) if connected.is_http2 => connected,
        // An earlier attempt over HTTP/1.1 failed.
        Ok(_) => return Err(Failure::unsent(ProxyError::new(ProxyErrorKind::TlsProtocolError))),
        Err(error) => return Err(Failure::unsent(error)),
    };
    to_http2(request, backend).map_err(|error| Failure::sent(error.into()))?;
    let protocol = request.extensions().get::<hyper::ext::Protocol>().cloned();
    // RFC 8441 §5: extended CONNECT has none of these fields.
    let headers = request.headers_mut();
    headers.remove(SEC_WEBSOCKET_KEY);
    headers.remove(CONNECTION);
    headers.remove(UPGRADE);
    *request.method_mut() = Method::CONNECT;
    match http2::open_tunnel(connected.socket, take_request(request), timeouts).await {
        Ok(mut response) => {
            *response.version_mut() = Version::HTTP_11;
            if response.status().is_success() {
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                if let Some(protocol) = protocol {
                    response.extensions_mut().insert(protocol);
                }
            }
            Ok(response.map(|body| UpstreamBody::upgrade(body, timeouts)))
        }
        Err(error) => Err(Failure::sent(error)),
    }
}

/// Sends a request over HTTP/2, on `stream` if given, or else on a stream from the pool.
async fn http2<B>(
    settings: &Arc<Settings>,
    pools: &Arc<BackendPools<B>>,
    request: &mut Request<RequestBody<B>>,
    timeouts: Timeouts,
    guard: &mut Option<Box<InFlightGuard>>,
    stream: Option<StreamPermit>,
) -> AttemptResult<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    let backend = &pools.backend.config;
    let with_http1 = |connected| Http1Options { connected, protocols: AllowedProtocols::Http1 };
    if connection_auth::authenticates(request) {
        // RFC 9113 §9.1.1: a shared connection carries no credentials that authenticate the connection.
        drop(stream);
        if backend.protocol == Protocol::Https {
            return Box::pin(http1(settings, pools, request, timeouts, guard, with_http1(None))).await;
        }
        let connected =
            settings.connector.connect(backend, AllowedProtocols::Any, &[]).await.map_err(Failure::unsent)?;
        to_http2(request, backend).map_err(|error| Failure::sent(error.into()))?;
        let sent = http2::send_unpooled(connected.socket, request, timeouts).await;
        return Ok(sent?.map(|download| UpstreamBody::http2(download, pools)));
    }
    to_http2(request, backend).map_err(|error| Failure::sent(error.into()))?;
    match http2::send(pools.http2(settings), request, timeouts, stream).await? {
        SendOutcome::Response(response) => Ok(response.map(|download| UpstreamBody::http2(download, pools))),
        SendOutcome::Http1(connected) => {
            Box::pin(http1(settings, pools, request, timeouts, guard, with_http1(connected))).await
        }
        SendOutcome::NeedsHttp1 if backend.protocol == Protocol::Https => {
            Box::pin(http1(settings, pools, request, timeouts, guard, with_http1(None))).await
        }
        SendOutcome::NeedsHttp1 => Err(Failure::sent(ProxyError::new(ProxyErrorKind::HttpProtocolError))),
    }
}

/// Takes the request and leaves an empty request in its place.
fn take_request<B: Body>(request: &mut Request<RequestBody<B>>) -> Request<RequestBody<B>> {
    std::mem::replace(request, Request::new(RequestBody::empty()))
}

impl From<SendFailure> for Failure {
    fn from(SendFailure { is_retryable, was_sent, error }: SendFailure) -> Self {
        Self { is_retryable, was_sent, error }
    }
}

impl Failure {
    /// Returns the failure of a request that failed before any part of it was sent.
    fn unsent(error: ProxyError) -> Self {
        Self { is_retryable: true, was_sent: false, error }
    }

    /// Returns the failure of a request that was sent and cannot be retried.
    fn sent(error: ProxyError) -> Self {
        Self { is_retryable: false, was_sent: true, error }
    }

    /// Records the failure in the health of the backend, unless the backend did not cause it.
    fn record_health<B: Body + 'static>(&self, pools: &BackendPools<B>) {
        match self.error.kind() {
            // These failures are not caused by the backend.
            ProxyErrorKind::HttpRequestError | ProxyErrorKind::ConnectionLimitReached => {}
            ProxyErrorKind::HttpUpgradeFailed => {}
            _ if self.was_sent => pools.backend.health.record_failure(),
            _ => pools.backend.health.record_unreachable(),
        }
    }
}
