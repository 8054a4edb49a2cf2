//! One request to one backend: on a connection that was kept, or a new one.

use std::sync::Arc;

use http::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use crate::ClientConnection;
use crate::backend::Protocol;
use crate::body::{Home, Lease, RequestBody, Switched, UpstreamBody};
use crate::bound;
use crate::builder::Settings;
use crate::connect::{Connected, Speak};
use crate::deadline::Patience;
use crate::error::{BoxError, ProxyError, ProxyErrorKind};
use crate::http1::{Http1, SendError};
use crate::http2::{self, Failed, Sent, Slot};
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
    settings: &Arc<Settings>,
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
        (Protocol::Http1, false) => http1(settings, link, request, patience, lease, Via::default()).await,
        (Protocol::Https, false) if link.http2.speaks_http1() || is_bound(request, link) => {
            http1(settings, link, request, patience, lease, Via::default()).await
        }
        (Protocol::Http1, true) => Box::pin(switch(settings, link, request, patience)).await,
        (Protocol::Https, true) => match Box::pin(switch(settings, link, request, patience)).await {
            // It may be that it speaks HTTP/2 and nothing else.
            Err(failure) if failure.error.kind() == ProxyErrorKind::TlsProtocolError => {
                Box::pin(extended_connect(settings, link, request, patience)).await
            }
            attempted => attempted,
        },
        (Protocol::H2c, true) => Box::pin(extended_connect(settings, link, request, patience)).await,
        (Protocol::H2c | Protocol::Https, false) => {
            Box::pin(http2(settings, link, request, patience, lease, None)).await
        }
    };
    match &attempted {
        Ok(_) => link.member.health.succeeded(),
        Err(failure) => failure.blame(link),
    }
    attempted
}

/// Whether the backend has authenticated a connection for this client, which then serves all its requests.
fn is_bound<B>(request: &Request<RequestBody<B>>, link: &Link<B>) -> bool
where
    B: Body<Data: Send> + Send + 'static,
{
    let client = request.extensions().get::<ClientConnection>();
    client.is_some_and(|client| bound::is_bound::<B>(client, &link.member))
}

/// How a request goes over HTTP/1.1.
struct Via {
    /// A connection that was made for it.
    made: Option<Box<Connected>>,
    speak: Speak,
}

impl Default for Via {
    fn default() -> Self {
        Self { made: None, speak: Speak::Any }
    }
}

/// Over HTTP/1.1, on a connection that was kept if there is one.
async fn http1<B>(
    settings: &Arc<Settings>,
    link: &Link<B>,
    request: &mut Request<RequestBody<B>>,
    patience: Patience,
    lease: &mut Option<Box<Lease>>,
    via: Via,
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
    let client = request.extensions().get::<ClientConnection>();
    let bound = client.and_then(|client| bound::take(client, &link.member));
    let bound = bound.and_then(|mut bound| bound.is_reusable().then_some(bound));
    let mut is_bound = bound.is_some() || bound::authenticates(request);
    let kept = match bound {
        Some(bound) => Some(bound),
        // What authenticates a connection is for none that others use.
        None if is_bound || via.made.is_some() => None,
        None => link.http1.take(),
    };
    if let Some(mut connection) = kept {
        match connection.send(request, patience).await {
            Ok(response) => return Ok(finish(response, connection, link, request, is_bound)),
            // The backend closed the connection just as it was used: once more, on a new one.
            Err(SendError::Ended { is_repeatable: true, .. }) => is_bound = bound::authenticates(request),
            Err(SendError::Ended { is_repeatable: false, error }) => return Err(Failure::of(error.into())),
            Err(SendError::Failed(error)) => return Err(Failure::of(error)),
        }
    }
    let connected = match via.made {
        Some(connected) => *connected,
        None => {
            if let Some(slots) = &link.member.slots {
                slots.make_room();
            }
            match connect(settings, link, via.speak).await {
                Ok(connected) => connected,
                Err(error) => return Err(Failure::unsent(error)),
            }
        }
    };
    if connected.is_http2 {
        return match Box::pin(link.http2.adopt(connected, request.body().content())).await {
            Ok(slot) => Box::pin(http2(settings, link, request, patience, lease, Some(slot))).await,
            Err(error) => Err(Failure::unsent(error)),
        };
    }
    let mut connection = Http1::new(connected.socket, connected.until);
    match connection.send(request, patience).await {
        Ok(response) => Ok(finish(response, connection, link, request, is_bound)),
        Err(SendError::Ended { error, is_repeatable }) => {
            Err(Failure { is_repeatable, was_sent: true, error: error.into() })
        }
        Err(SendError::Failed(error)) => Err(Failure::of(error)),
    }
}

/// A new connection, which goes to the pool if the request is gone before it is there.
async fn connect<B>(settings: &Arc<Settings>, link: &Link<B>, speak: Speak) -> Result<Connected, ProxyError>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    let (settings, member) = (Arc::clone(settings), Arc::clone(&link.member));
    let connecting = async move { settings.connector.connect(&member.backend, speak, &[]).await };
    Box::pin(link.http1.connect(connecting)).await
}

/// Joins the response and the connection that its body comes from.
fn finish<B>(
    response: Response<()>,
    connection: Box<Http1<B>>,
    link: &Link<B>,
    request: &Request<RequestBody<B>>,
    is_bound: bool,
) -> Response<UpstreamBody<B>>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    let home = match request.extensions().get::<ClientConnection>() {
        _ if !is_bound && !bound::challenges(&response) => Home::Pool(Arc::clone(&link.http1)),
        Some(client) => Home::Client(ClientConnection::clone(client), Arc::clone(&link.member)),
        None => Home::None,
    };
    response.map(|()| UpstreamBody::http1(connection, home))
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

    let Connected { socket, .. } = match settings.connector.connect(&link.member.backend, Speak::Http1, &[]).await {
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
            Ok(response.map(|incoming| UpstreamBody::driven(Switched::Http1(incoming), patience)))
        }
        Ok(Err(error)) => Err(Failure::terminated(error)),
        Err(_) => Err(Failure::of(ProxyError::new(ProxyErrorKind::HttpResponseTimeout))),
    }
}

/// As an extended CONNECT (RFC 8441 §4), on an HTTP/2 connection that serves nothing else. What that says with a 2xx, a
/// 101 says here, with the protocol among its extensions in place of an answer to the key.
async fn extended_connect<B>(
    settings: &Arc<Settings>,
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
    let backend = &link.member.backend;
    let connected = match settings.connector.connect(backend, Speak::Any, &[]).await {
        Ok(connected) if connected.is_http2 => connected,
        // It has refused to speak HTTP/1.1 before.
        Ok(_) => return Err(Failure::unsent(ProxyError::new(ProxyErrorKind::TlsProtocolError))),
        Err(error) => return Err(Failure::unsent(error)),
    };
    to_http2(request, backend).map_err(|error| Failure::of(error.into()))?;
    let protocol = request.extensions().get::<hyper::ext::Protocol>().cloned();
    // RFC 8441 §5: these are of HTTP/1.1, as is the method.
    let headers = request.headers_mut();
    headers.remove(SEC_WEBSOCKET_KEY);
    headers.remove(CONNECTION);
    headers.remove(UPGRADE);
    *request.method_mut() = Method::CONNECT;
    match http2::open_tunnel(connected.socket, taken(request), patience).await {
        Ok(mut response) => {
            *response.version_mut() = Version::HTTP_11;
            if response.status().is_success() {
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                if let Some(protocol) = protocol {
                    response.extensions_mut().insert(protocol);
                }
            }
            Ok(response.map(|body| UpstreamBody::driven(Switched::Http2(body), patience)))
        }
        Err(error) => Err(Failure::of(error)),
    }
}

/// Over HTTP/2, on a stream of the pool: on the one that there is, or another one.
async fn http2<B>(
    settings: &Arc<Settings>,
    link: &Link<B>,
    request: &mut Request<RequestBody<B>>,
    patience: Patience,
    lease: &mut Option<Box<Lease>>,
    stream: Option<Slot>,
) -> Attempted<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    let backend = &link.member.backend;
    let via_http1 = |made| Via { made, speak: Speak::Http1 };
    if bound::authenticates(request) {
        // What authenticates a connection is not for one that others share (RFC 9113 §9.1.1).
        drop(stream);
        if backend.protocol == Protocol::Https {
            return Box::pin(http1(settings, link, request, patience, lease, via_http1(None))).await;
        }
        let connected = settings.connector.connect(backend, Speak::Any, &[]).await.map_err(Failure::unsent)?;
        to_http2(request, backend).map_err(|error| Failure::of(error.into()))?;
        let sent = http2::send_alone(connected.socket, request, patience).await;
        return Ok(sent?.map(UpstreamBody::http2));
    }
    to_http2(request, backend).map_err(|error| Failure::of(error.into()))?;
    match http2::send(&link.http2, request, patience, stream).await? {
        Sent::Response(response) => Ok(response.map(UpstreamBody::http2)),
        Sent::Http1(made) => Box::pin(http1(settings, link, request, patience, lease, via_http1(made))).await,
        Sent::NeedsHttp1 if backend.protocol == Protocol::Https => {
            Box::pin(http1(settings, link, request, patience, lease, via_http1(None))).await
        }
        Sent::NeedsHttp1 => Err(Failure::of(ProxyError::new(ProxyErrorKind::HttpProtocolError))),
    }
}

/// The request itself, for those who keep it.
fn taken<B: Body>(request: &mut Request<RequestBody<B>>) -> Request<RequestBody<B>> {
    std::mem::replace(request, Request::new(RequestBody::empty()))
}

impl From<Failed> for Failure {
    fn from(Failed { is_repeatable, was_sent, error }: Failed) -> Self {
        Self { is_repeatable, was_sent, error }
    }
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
