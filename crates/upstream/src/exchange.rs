//! One request, one response: which backend, which connection, and once more where that is safe.

use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri, Version};
use http_body::Body;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use crate::backend::Protocol;
use crate::body::{RequestBody, UpstreamBody};
use crate::builder::Settings;
use crate::error::{BoxError, ProxyError, ProxyErrorKind};
use crate::http1::{Http1, SendError};
use crate::service::{Link, Worker};

/// Makes the exchange, with the first backend in turn that can be reached.
pub(crate) async fn exchange<B>(worker: &Worker<B>, request: Request<B>) -> Response<UpstreamBody<B>>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    let upgrade = request.extensions().get::<hyper::ext::Protocol>().is_some();
    let mut request = request.map(RequestBody::new);
    let alone = worker.links.len() == 1;
    let (mut error, mut soonest) = (None, Duration::MAX);
    for link in worker.turn() {
        // With nobody else to ask, a backend that failed is asked all the same.
        if !alone && let Some(down) = link.member.health.down_for() {
            soonest = soonest.min(down);
            continue;
        }
        // What is taken seldom, or is large, is boxed: every request carries room for all of this future.
        let attempt = match (link.member.backend.protocol, upgrade) {
            (Protocol::H2c, _) => Box::pin(http2(&worker.settings, link, request)).await,
            (_, true) => Box::pin(switch(&worker.settings, link, request)).await,
            (_, false) => http1(&worker.settings, link, request).await,
        };
        match attempt {
            Ok(response) => return response,
            Err(Attempt { unsent, error: why }) => {
                error = Some(why.at(&link.member.name));
                match unsent {
                    Some(unsent) => request = unsent,
                    None => break,
                }
            }
        }
    }
    error.unwrap_or_else(|| ProxyError::unavailable(soonest)).into_response()
}

/// An attempt with one backend that failed.
struct Attempt<B: Body> {
    /// The request, where nothing of it was sent.
    unsent: Option<Request<RequestBody<B>>>,
    error: ProxyError,
}

impl<B: Body> From<ProxyError> for Attempt<B> {
    fn from(error: ProxyError) -> Self {
        Self { unsent: None, error }
    }
}

/// Over HTTP/1.1, on a connection that was kept if there is one.
async fn http1<B>(
    settings: &Settings,
    link: &Link<B>,
    mut request: Request<RequestBody<B>>,
) -> Result<Response<UpstreamBody<B>>, Attempt<B>>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    to_http1(&mut request, &link.member.backend.host);
    if let Some(mut connection) = link.http1.take() {
        request = match connection.send(request, settings.timeout).await {
            Ok(response) => return Ok(finish(response, connection, link)),
            // The backend closed the connection just as it was used: once more, on a new one.
            Err(SendError::Ended { request: Some(request), .. }) => request,
            Err(SendError::Ended { request: None, error }) => return Err(terminated(error).into()),
            Err(SendError::Failed(error)) => return Err(error.into()),
        };
    }
    let socket = match Box::pin(settings.connector.connect(&link.member.backend)).await {
        Ok(socket) => socket,
        Err(error) => return Err(unreachable(link, request, error)),
    };
    link.member.health.succeeded();
    let mut connection = Http1::new(socket);
    match connection.send(request, settings.timeout).await {
        Ok(response) => Ok(finish(response, connection, link)),
        Err(SendError::Ended { error, .. }) => Err(terminated(error).into()),
        Err(SendError::Failed(error)) => Err(error.into()),
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
    mut request: Request<RequestBody<B>>,
) -> Result<Response<UpstreamBody<B>>, Attempt<B>>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    to_http1(&mut request, &link.member.backend.host);
    let protocol = request.extensions().get::<hyper::ext::Protocol>();
    let protocol = protocol.and_then(|protocol| HeaderValue::from_str(protocol.as_str()).ok());
    let protocol = protocol.ok_or_else(|| ProxyError::new(ProxyErrorKind::HttpRequestError))?;
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    request.headers_mut().insert(UPGRADE, protocol);

    let socket = match settings.connector.connect(&link.member.backend).await {
        Ok(socket) => socket,
        Err(error) => return Err(unreachable(link, request, error)),
    };
    link.member.health.succeeded();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.map_err(terminated)?;
    // After a 101 the connection belongs to the tunnel, which outlives this request.
    tokio::spawn(connection.with_upgrades());
    match timeout(settings.timeout, sender.send_request(request)).await {
        Ok(Ok(mut response)) => {
            one_length(response.headers_mut());
            Ok(response.map(UpstreamBody::driven))
        }
        Ok(Err(error)) => Err(terminated(error).into()),
        Err(_) => Err(ProxyError::new(ProxyErrorKind::HttpResponseTimeout).into()),
    }
}

/// Over the HTTP/2 connection that all requests of the worker share.
async fn http2<B>(
    settings: &Settings,
    link: &Link<B>,
    mut request: Request<RequestBody<B>>,
) -> Result<Response<UpstreamBody<B>>, Attempt<B>>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    to_http2(&mut request, &link.member.backend.host).map_err(ProxyError::from)?;
    let sent = link.http2.send(&settings.connector, &link.member.backend, request, settings.timeout).await;
    match sent {
        Ok(response) => {
            link.member.health.succeeded();
            Ok(response.map(UpstreamBody::driven))
        }
        Err((unsent, error)) => Err(match unsent {
            Some(request) => unreachable(link, request, error),
            None => error.into(),
        }),
    }
}

/// No connection: another backend may be tried.
fn unreachable<B>(link: &Link<B>, request: Request<RequestBody<B>>, error: ProxyError) -> Attempt<B>
where
    B: Body + 'static,
{
    link.member.health.failed();
    Attempt { unsent: Some(request), error }
}

fn terminated(error: impl Into<BoxError>) -> ProxyError {
    ProxyError::caused(ProxyErrorKind::ConnectionTerminated, error)
}

/// RFC 9112 §3.2: origin-form, and one `Host`.
fn to_http1<B>(request: &mut Request<B>, default_host: &HeaderValue) {
    *request.version_mut() = Version::HTTP_11;
    let authority = request.uri().authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    if !request.headers().contains_key(HOST) {
        request.headers_mut().insert(HOST, authority.unwrap_or_else(|| default_host.clone()));
    }
    if request.uri().scheme().is_some() {
        *request.uri_mut() = Uri::from(path_and_query(request.uri()));
    }
}

/// RFC 9113 §8.3.1: the authority is a pseudo-header.
fn to_http2<B>(request: &mut Request<B>, default_host: &HeaderValue) -> Result<(), http::Error> {
    *request.version_mut() = Version::HTTP_2;
    let host = request.headers_mut().remove(HOST);
    let authority = match request.uri().authority() {
        Some(authority) => authority.clone(),
        None => Authority::try_from(host.as_ref().unwrap_or(default_host).as_bytes())?,
    };
    *request.uri_mut() = Uri::builder()
        .scheme(Scheme::HTTP)
        .authority(authority)
        .path_and_query(path_and_query(request.uri()))
        .build()?;
    Ok(())
}

fn path_and_query(uri: &Uri) -> PathAndQuery {
    uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"))
}

/// RFC 9112 §6.3: `Transfer-Encoding` overrides `Content-Length`, which then must not be passed on.
fn one_length(headers: &mut HeaderMap) {
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
}
