//! One request to one backend: on a connection that was kept, or a new one.

use http::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use crate::backend::Protocol;
use crate::body::{Lease, RequestBody, UpstreamBody};
use crate::builder::Settings;
use crate::connect::{Connected, Speak};
use crate::deadline::Patience;
use crate::error::{BoxError, ProxyError, ProxyErrorKind};
use crate::http1::{Http1, SendError};
use crate::rewrite::{one_length, to_http1, to_http2};
use crate::service::Link;

/// An attempt that failed.
pub(crate) struct Failure {
    /// Whether the request may be sent to another backend: nothing of it was sent, or it has no content and does no harm
    /// (RFC 9110 §9.2.2).
    pub(crate) is_repeatable: bool,
    pub(crate) was_sent: bool,
    pub(crate) error: ProxyError,
}

type Attempted<B> = Result<Response<UpstreamBody<B>>, Failure>;

/// Sends `request`, which is whole again where it may be sent to another backend.
pub(crate) async fn attempt<B>(
    settings: &Settings,
    link: &Link<B>,
    request: &mut Request<RequestBody<B>>,
    patience: Patience,
    lease: &mut Option<Box<Lease>>,
) -> Attempted<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    let is_upgrade = request.extensions().get::<hyper::ext::Protocol>().is_some();
    // What is taken seldom, or is large, is boxed: every request carries room for all of this future.
    let attempted = match (link.member.backend.protocol, is_upgrade) {
        (Protocol::Http1, false) => http1(settings, link, request, patience, lease).await,
        (Protocol::Https, false) if !link.http2.is_there() => http1(settings, link, request, patience, lease).await,
        (Protocol::Http1, true) => Box::pin(switch(settings, link, request, patience)).await,
        (Protocol::Https, true) => match Box::pin(switch(settings, link, request, patience)).await {
            // It may be that it speaks HTTP/2 and nothing else.
            Err(failure) if failure.error.kind() == ProxyErrorKind::TlsProtocolError => {
                Box::pin(extended_connect(settings, link, request, patience)).await
            }
            attempted => attempted,
        },
        (Protocol::H2c, true) => Box::pin(extended_connect(settings, link, request, patience)).await,
        (Protocol::H2c | Protocol::Https, false) => Box::pin(http2(settings, link, request, patience, None)).await,
    };
    match &attempted {
        Ok(_) => link.member.health.succeeded(),
        Err(failure) => failure.blame(link),
    }
    attempted
}

/// Over HTTP/1.1, on a connection that was kept if there is one.
async fn http1<B>(
    settings: &Settings,
    link: &Link<B>,
    request: &mut Request<RequestBody<B>>,
    patience: Patience,
    lease: &mut Option<Box<Lease>>,
) -> Attempted<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    if let Some(slots) = &link.member.slots {
        match Box::pin(slots.take(settings.queue_timeout)).await {
            Ok(slot) => lease.get_or_insert_default().occupy(slot),
            Err(error) => return Err(Failure::unsent(error)),
        }
    }
    to_http1(request, &link.member.backend.host);
    if let Some(mut connection) = link.http1.take() {
        match connection.send(request, patience).await {
            Ok(response) => return Ok(finish(response, connection, link)),
            // The backend closed the connection just as it was used: once more, on a new one.
            Err(SendError::Ended { is_repeatable: true, .. }) => {}
            Err(SendError::Ended { is_repeatable: false, error }) => return Err(Failure::of(error.into())),
            Err(SendError::Failed(error)) => return Err(Failure::of(error)),
        }
    }
    if let Some(slots) = &link.member.slots {
        slots.make_room();
    }
    let connected = match Box::pin(settings.connector.connect(&link.member.backend, Speak::Any)).await {
        Ok(connected) => connected,
        Err(error) => return Err(Failure::unsent(error)),
    };
    if connected.is_http2 {
        return Box::pin(http2(settings, link, request, patience, Some(connected))).await;
    }
    let mut connection = Http1::new(connected.socket, connected.until);
    match connection.send(request, patience).await {
        Ok(response) => Ok(finish(response, connection, link)),
        Err(SendError::Ended { error, is_repeatable }) => {
            Err(Failure { is_repeatable, was_sent: true, error: error.into() })
        }
        Err(SendError::Failed(error)) => Err(Failure::of(error)),
    }
}

/// Joins the response and the connection that its body comes from.
fn finish<B>(response: Response<()>, connection: Box<Http1<B>>, link: &Link<B>) -> Response<UpstreamBody<B>>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    response.map(|()| UpstreamBody::http1(connection, link.http1.clone()))
}

/// As an HTTP/1.1 upgrade (RFC 9110 §7.8), on a connection that serves nothing else.
async fn switch<B>(
    settings: &Settings,
    link: &Link<B>,
    request: &mut Request<RequestBody<B>>,
    patience: Patience,
) -> Attempted<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    to_http1(request, &link.member.backend.host);
    let protocol = request.extensions().get::<hyper::ext::Protocol>();
    let Some(protocol) = protocol.and_then(|protocol| HeaderValue::from_str(protocol.as_str()).ok()) else {
        return Err(Failure::of(ProxyError::new(ProxyErrorKind::HttpRequestError)));
    };
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    request.headers_mut().insert(UPGRADE, protocol);

    let Connected { socket, .. } = match settings.connector.connect(&link.member.backend, Speak::Http1).await {
        Ok(connected) => connected,
        Err(error) => return Err(Failure::unsent(error)),
    };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.map_err(Failure::terminated)?;
    // After a 101 the connection belongs to the tunnel, which outlives this request.
    tokio::spawn(connection.with_upgrades());
    match timeout(patience.head, sender.send_request(taken(request))).await {
        Ok(Ok(mut response)) => {
            one_length(response.headers_mut());
            Ok(response.map(|incoming| UpstreamBody::driven(incoming, patience)))
        }
        Ok(Err(error)) => Err(Failure::terminated(error)),
        Err(_) => Err(Failure::of(ProxyError::new(ProxyErrorKind::HttpResponseTimeout))),
    }
}

/// As an extended CONNECT (RFC 8441 §4), on the HTTP/2 connection that all requests of the worker share. What that says
/// with a 2xx, a 101 says here, with the protocol among its extensions in place of an answer to the key.
async fn extended_connect<B>(
    settings: &Settings,
    link: &Link<B>,
    request: &mut Request<RequestBody<B>>,
    patience: Patience,
) -> Attempted<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    if *request.method() != Method::GET {
        // The method would be lost, and whatever it means.
        return Err(Failure::of(ProxyError::new(ProxyErrorKind::HttpUpgradeFailed)));
    }
    match link.http2.extended_connect(&settings.connector, &link.member.backend).await {
        Ok(true) => {}
        Ok(false) => return Err(Failure::of(ProxyError::new(ProxyErrorKind::HttpUpgradeFailed))),
        Err(error) => return Err(Failure::unsent(error)),
    }
    let protocol = request.extensions().get::<hyper::ext::Protocol>().cloned();
    // RFC 8441 §5: these are of HTTP/1.1, as is the method.
    let headers = request.headers_mut();
    let key = headers.remove(SEC_WEBSOCKET_KEY);
    headers.remove(CONNECTION);
    headers.remove(UPGRADE);
    *request.method_mut() = Method::CONNECT;
    match http2(settings, link, request, patience, None).await {
        Ok(mut response) => {
            if response.status().is_success() {
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                if let Some(protocol) = protocol {
                    response.extensions_mut().insert(protocol);
                }
            }
            Ok(response)
        }
        Err(failure) => {
            if failure.is_repeatable {
                // It is to be whole for another backend, which may speak HTTP/1.1.
                *request.method_mut() = Method::GET;
                if let Some(key) = key {
                    request.headers_mut().insert(SEC_WEBSOCKET_KEY, key);
                }
            }
            Err(failure)
        }
    }
}

/// Over the HTTP/2 connection that all requests of the worker share: the one that is `new`, or the one there is.
async fn http2<B>(
    settings: &Settings,
    link: &Link<B>,
    request: &mut Request<RequestBody<B>>,
    patience: Patience,
    new: Option<Connected>,
) -> Attempted<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    let backend = &link.member.backend;
    to_http2(request, backend).map_err(|error| Failure::of(error.into()))?;
    if let Some(connected) = new
        && let Err(error) = link.http2.adopt(connected).await
    {
        return Err(Failure::unsent(error));
    }
    match link.http2.send(&settings.connector, backend, taken(request), patience).await {
        Ok(response) => Ok(response.map(|incoming| UpstreamBody::driven(incoming, patience))),
        Err((Some(unsent), error)) => {
            *request = unsent;
            Err(Failure::unsent(error))
        }
        Err((None, error)) => Err(Failure::of(error)),
    }
}

/// The request itself, for those who keep it.
fn taken<B: Body>(request: &mut Request<RequestBody<B>>) -> Request<RequestBody<B>> {
    std::mem::replace(request, Request::new(RequestBody::empty()))
}

impl Failure {
    /// The backend was not reached.
    fn unsent(error: ProxyError) -> Self {
        Self { is_repeatable: true, was_sent: false, error }
    }

    /// Something was sent, and is not to be sent again.
    fn of(error: ProxyError) -> Self {
        Self { is_repeatable: false, was_sent: true, error }
    }

    fn terminated(error: impl Into<BoxError>) -> Self {
        Self::of(ProxyError::caused(ProxyErrorKind::ConnectionTerminated, error))
    }

    fn blame<B: Body + 'static>(&self, link: &Link<B>) {
        match self.error.kind() {
            // Neither says anything of the backend.
            ProxyErrorKind::HttpRequestError | ProxyErrorKind::ConnectionLimitReached => {}
            ProxyErrorKind::HttpUpgradeFailed => {}
            _ if self.was_sent => link.member.health.failed(),
            _ => link.member.health.unreachable(),
        }
    }
}
