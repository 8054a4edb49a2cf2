//! Responses to clients, built from stored responses.

mod multipart;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use rproxy_core::{ProxyErrorType, Rejection};

use self::multipart::Multipart;
use crate::body::ResponseBody;
use crate::cache_status::{CACHE_STATUS, CacheStatus, ForwardReason, Member, number_value};
use crate::coalesce::shared_fetch::Follower;
use crate::policy::range::RequestedRange;
use crate::policy::validators::is_not_modified;
use crate::store::stored_response::StoredResponse;

/// The parts of a client's request that determine how a stored response is served.
#[derive(Clone, Copy)]
pub(crate) struct ClientRequest<'a> {
    pub(crate) is_head: bool,
    pub(crate) headers: &'a HeaderMap,
}

/// Builds a 200, 206, 304 or 416 response from a stored response.
// The order of the conditions is that of RFC 9110 §13.2.2.
pub(crate) fn serve_stored<B>(
    request: ClientRequest<'_>,
    stored: &StoredResponse,
    age: u64,
    member: Member,
    status: CacheStatus,
) -> Response<ResponseBody<B>> {
    let headers = stored.response_headers(age, member);
    let mut response = if is_not_modified(request.headers, stored.status, &stored.validators, stored.freshness.date) {
        not_modified(headers)
    } else if request.is_head {
        respond(stored.status, headers, ResponseBody::stored(Bytes::new()))
    } else if let Some(part) = &stored.part {
        let all = (0, stored.body().len().saturating_sub(1) as u64);
        let (first, last) = stored.slice_for(request.headers).unwrap_or(all);
        partial(headers, stored.body(), (first, last), &part.content_range(first, last))
    } else {
        match requested_range(request.headers, stored) {
            RequestedRange::Whole => complete(stored, headers),
            RequestedRange::Single { first, last } => {
                let content_range = format!("bytes {first}-{last}/{}", stored.body().len());
                partial(headers, stored.body(), (first, last), &content_range)
            }
            RequestedRange::Multiple(ranges) => multipart(headers, stored.body(), &ranges),
            RequestedRange::Unsatisfiable => unsatisfiable(headers, stored.body().len()),
        }
    };
    response.extensions_mut().insert(status);
    response
}

/// Builds a follower's response with the leader's head and a body that is still arriving.
pub(crate) fn serve_shared<B>(
    request: ClientRequest<'_>,
    arriving: &StoredResponse,
    age: u64,
    member: Member,
    follower: Follower,
) -> Response<ResponseBody<B>> {
    let headers = arriving.response_headers(age, member);
    let is_unchanged = is_not_modified(request.headers, arriving.status, &arriving.validators, arriving.freshness.date);
    let mut response = if is_unchanged {
        not_modified(headers)
    } else {
        let length = arriving.content_length_value();
        respond(arriving.status, headers, ResponseBody::followed(follower, length))
    };
    response.extensions_mut().insert(CacheStatus::Coalesced);
    response
}

/// Adds `Cache-Status` to a forwarded response.
pub(crate) fn forwarded<B>(
    mut response: Response<ResponseBody<B>>,
    reason: ForwardReason,
) -> Response<ResponseBody<B>> {
    add_status(&mut response, Member::forwarded(reason), reason);
    response
}

/// Adds `member` to the field `Cache-Status`, and inserts the extension [`CacheStatus`].
pub(crate) fn add_status<B>(response: &mut Response<ResponseBody<B>>, member: Member, reason: ForwardReason) {
    response.headers_mut().append(CACHE_STATUS, member.into_value());
    response.extensions_mut().insert(CacheStatus::Forwarded(reason));
}

/// Builds the 504 response to a request with `only-if-cached`.
// RFC 9111 §5.2.1.7
pub(crate) fn gateway_timeout<B>(member: Member) -> Response<ResponseBody<B>> {
    let mut response = Rejection::new("cache", "only_if_cached", StatusCode::GATEWAY_TIMEOUT)
        .with_error_type(ProxyErrorType::ProxyInternalResponse)
        .into_response(ResponseBody::stored(Bytes::from_static(b"Gateway Timeout\n")));
    response.headers_mut().insert(CACHE_STATUS, member.into_value());
    response.extensions_mut().insert(CacheStatus::OnlyIfCached);
    response
}

/// Returns the requested range of a complete stored response.
fn requested_range(request: &HeaderMap, stored: &StoredResponse) -> RequestedRange {
    let applies = stored.status == StatusCode::OK
        && request.contains_key(header::RANGE)
        && !stored.validators.name_coding(stored.headers())
        && stored.validators.allow_range(request, stored.freshness.date);
    match applies {
        true => RequestedRange::from_headers(request, stored.body().len() as u64),
        false => RequestedRange::Whole,
    }
}

fn respond<B>(status: StatusCode, headers: HeaderMap, body: ResponseBody<B>) -> Response<ResponseBody<B>> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Builds a response with the complete stored body and trailer section.
fn complete<B>(stored: &StoredResponse, mut headers: HeaderMap) -> Response<ResponseBody<B>> {
    if stored.trailers().is_some() {
        // RFC 9112 §7.1.2: in HTTP/1.1, only a chunked body can have trailers.
        headers.remove(header::CONTENT_LENGTH);
    }
    respond(stored.status, headers, ResponseBody::stored_with_trailers(stored.body().clone(), stored.trailers()))
}

/// Builds a 304 response from the header section of a stored response.
// RFC 9110 §15.4.5
pub(crate) fn not_modified<B>(mut headers: HeaderMap) -> Response<ResponseBody<B>> {
    for content_field in [
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::CONTENT_LANGUAGE,
        header::CONTENT_RANGE,
    ] {
        headers.remove(content_field);
    }
    respond(StatusCode::NOT_MODIFIED, headers, ResponseBody::stored(Bytes::new()))
}

/// Builds a 206 response with the body bytes from `first` to `last`.
// RFC 9110 §15.3.7
fn partial<B>(
    mut headers: HeaderMap,
    body: &Bytes,
    (first, last): (u64, u64),
    content_range: &str,
) -> Response<ResponseBody<B>> {
    if let Ok(content_range) = HeaderValue::from_str(content_range) {
        headers.insert(header::CONTENT_RANGE, content_range);
    }
    headers.insert(header::CONTENT_LENGTH, number_value(last - first + 1));
    // Both positions lie within the body, as they were calculated from its length.
    let slice = body.slice(first as usize..=last as usize);
    respond(StatusCode::PARTIAL_CONTENT, headers, ResponseBody::stored(slice))
}

/// Builds a 206 response with several byte ranges.
// RFC 9110 §15.3.7.2
fn multipart<B>(mut headers: HeaderMap, body: &Bytes, ranges: &[(u64, u64)]) -> Response<ResponseBody<B>> {
    let multipart = Multipart::new(body, ranges, headers.get(header::CONTENT_TYPE));
    headers.insert(header::CONTENT_LENGTH, number_value(multipart.length()));
    headers.insert(header::CONTENT_TYPE, multipart.content_type);
    respond(StatusCode::PARTIAL_CONTENT, headers, ResponseBody::segments(multipart.segments))
}

/// Builds a 416 response from a stored response.
// RFC 9110 §15.5.17
fn unsatisfiable<B>(stored: HeaderMap, length: usize) -> Response<ResponseBody<B>> {
    const TEXT: &[u8] = b"Range Not Satisfiable\n";
    // Fields about the stored representation do not apply to the error.
    let mut headers: HeaderMap = [header::DATE, CACHE_STATUS]
        .into_iter()
        .filter_map(|name| stored.get(&name).cloned().map(|value| (name, value)))
        .collect();
    if let Ok(content_range) = HeaderValue::try_from(format!("bytes */{length}")) {
        headers.insert(header::CONTENT_RANGE, content_range);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    respond(StatusCode::RANGE_NOT_SATISFIABLE, headers, ResponseBody::stored(Bytes::from_static(TEXT)))
}
