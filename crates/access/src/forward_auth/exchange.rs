//! The exchange with the authentication service, and its result.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HeaderMap, HeaderName, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::Empty;
use rproxy_core::{Authenticated, Rejection, RejectionDetail, ResponseBody};
use tokio::time::timeout;
use tower_service::Service;

use super::config::Config;
use crate::decision::{Admission, Decision};

/// The reason why there is no valid response of the authentication service.
#[derive(Clone, Debug, PartialEq, Eq)]
enum AuthFailure {
    Timeout,
    /// The service cannot be reached, or closed the connection. The client may have named the server.
    Unavailable(Option<RejectionDetail>),
    /// The response is an interim one or a protocol switch.
    UnexpectedStatus,
    /// The copied fields of the response are too large.
    FieldsTooLarge,
}

/// Sends the request to the authentication service, and decides by the response.
///
/// A failure never admits the request.
pub(crate) async fn decide<C, B>(
    client: C,
    request: Request<Empty<Bytes>>,
    config: &Config,
) -> Decision<ResponseBody<B>>
where
    C: Service<Request<Empty<Bytes>>, Response = Response<B>>,
    B: Body<Data = Bytes>,
{
    let (decision, body) = match timeout(config.timeout, exchange(client, request, config)).await {
        Ok(Ok((decision, body))) => (decision, body),
        Ok(Err(failure)) => (rejection(failure), None),
        Err(_) => (rejection(AuthFailure::Timeout), None),
    };
    if let Some(body) = body {
        // The connection can be reused only if the body has been read.
        let _ = timeout(MAX_DRAIN_TIME, drain(body)).await;
    }
    decision
}

/// Returns the decision, and the body of a 2xx response, which is not used.
async fn exchange<C, B>(
    mut client: C,
    request: Request<Empty<Bytes>>,
    config: &Config,
) -> Result<(Decision<ResponseBody<B>>, Option<B>), AuthFailure>
where
    C: Service<Request<Empty<Bytes>>, Response = Response<B>>,
    B: Body<Data = Bytes>,
{
    poll_fn(|cx| client.poll_ready(cx)).await.map_err(|_| AuthFailure::Unavailable(None))?;
    let response = client.call(request).await.map_err(|_| AuthFailure::Unavailable(None))?;
    // A response that the client made itself, because the service failed.
    if let Some(rejection) = response.extensions().get::<Rejection>() {
        return Err(AuthFailure::Unavailable(rejection.detail().cloned()));
    }
    if response.status().is_informational() {
        return Err(AuthFailure::UnexpectedStatus);
    }
    if !response.status().is_success() {
        return Ok((Decision::Respond(end_to_end(response).map(ResponseBody::inner)), None));
    }
    let (head, body) = response.into_parts();
    Ok((Decision::Admit(admission(&head.headers, config)?), Some(body)))
}

/// Returns the fields to copy from a 2xx response.
fn admission(headers: &HeaderMap, config: &Config) -> Result<Admission, AuthFailure> {
    let mut request_fields = HeaderMap::new();
    let mut size = 0;
    for name in config.copied_fields.names() {
        for value in headers.get_all(name) {
            size += name.as_str().len() + value.len();
            request_fields.append(name.clone(), value.clone());
        }
    }
    let cookies: Vec<_> = headers.get_all(SET_COOKIE).iter().cloned().collect();
    size += cookies.iter().map(|cookie| cookie.len()).sum::<usize>();
    match size > MAX_FIELDS_SIZE {
        true => Err(AuthFailure::FieldsTooLarge),
        false => Ok(Admission { authenticated: Authenticated::new(), request_fields, cookies }),
    }
}

/// The maximum size of the copied fields together. Many servers accept no more in a whole head.
const MAX_FIELDS_SIZE: usize = 16 << 10;

/// Reads a small body to its end, and drops a larger one.
async fn drain<B>(body: B)
where
    B: Body<Data = Bytes>,
{
    let mut body = pin!(body);
    let mut left = MAX_DRAINED;
    while !body.is_end_stream() {
        match poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            Some(Ok(frame)) => match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                Some(rest) => left = rest,
                None => return,
            },
            Some(Err(_)) | None => return,
        }
    }
}

/// The maximum size of the body of a 2xx response that is read.
const MAX_DRAINED: usize = 16 << 10;

/// The maximum time for which the body of a 2xx response delays the request.
const MAX_DRAIN_TIME: Duration = Duration::from_millis(100);

/// Removes the fields that belong to the connection with the authentication service (RFC 9110 §7.6.1).
fn end_to_end<B>(mut response: Response<B>) -> Response<B> {
    let headers = response.headers_mut();
    let options = headers.get_all(CONNECTION).iter().flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    let nominated = options.filter_map(|option| HeaderName::from_bytes(option.trim_ascii()).ok());
    // Not the fields that make the response what it is.
    let nominated: Vec<_> = nominated.filter(|name| !matches!(name.as_str(), "location" | "set-cookie")).collect();
    for name in nominated.into_iter().take(MAX_NOMINATED) {
        headers.remove(name);
    }
    for name in [CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
    // The last two are for this proxy, and name files of the server.
    for name in [
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "proxy-authorization",
        "x-accel-redirect",
        "x-sendfile",
    ] {
        headers.remove(name);
    }
    response
}

/// The maximum number of fields that `Connection` can remove.
const MAX_NOMINATED: usize = 16;

fn rejection<B>(failure: AuthFailure) -> Decision<ResponseBody<B>> {
    let (cause, detail) = match failure {
        AuthFailure::Timeout => ("timeout", None),
        AuthFailure::Unavailable(detail) => ("unavailable", detail),
        AuthFailure::UnexpectedStatus => ("unexpected_status", None),
        AuthFailure::FieldsTooLarge => ("fields_too_large", None),
    };
    let rejection = Rejection::new("access", "auth_service", StatusCode::SERVICE_UNAVAILABLE)
        .with_cause(cause)
        .with_retry_after(Duration::from_secs(5));
    let rejection = detail.into_iter().fold(rejection, Rejection::with_detail);
    Decision::Respond(rejection.into_response(ResponseBody::full("Service Unavailable\n")))
}
