//! Responses made of a stored one: whole, a part, or the word that nothing has changed.

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Response, StatusCode};

use crate::body::ResponseBody;
use crate::cache_status::{CACHE_STATUS, CacheStatus, Member, number};
use crate::flight::Follower;
use crate::multipart::Multipart;
use crate::range::Part;
use crate::stored::StoredResponse;
use crate::validation::is_not_modified;

/// What the client asked, as far as it shapes the answer.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) head: bool,
    pub(crate) headers: &'a HeaderMap,
}

/// Answers from the store, in the order of RFC 9110 §13.2.2.
pub(crate) fn from_store<B>(
    asked: Asked<'_>,
    stored: &StoredResponse,
    age: u64,
    member: Member,
    status: CacheStatus,
) -> Response<ResponseBody<B>> {
    let headers = stored.head(age, member);
    let mut response = if is_not_modified(asked.headers, stored.status, &stored.validators, stored.freshness.date) {
        not_modified(headers)
    } else if asked.head {
        whole(stored.status, headers, Bytes::new())
    } else if let Some(stored_part) = &stored.part {
        let (first, last) =
            stored.answers_in_part(asked.headers).unwrap_or((0, stored.body().len().saturating_sub(1) as u64));
        let content_range = stored_part.content_range(first, last);
        partial(headers, stored.body(), first, last, &content_range)
    } else {
        match part(asked.headers, stored) {
            Part::Whole => complete(stored, headers),
            Part::Single { first, last } => {
                let content_range = format!("bytes {first}-{last}/{}", stored.body().len());
                partial(headers, stored.body(), first, last, &content_range)
            }
            Part::Several(ranges) => several(headers, stored.body(), &ranges),
            Part::Unsatisfiable => unsatisfiable(headers, stored.body().len()),
        }
    };
    response.extensions_mut().insert(status);
    response
}

/// Answers with a head that is here and a body that is still to come.
pub(crate) fn from_flight<B>(
    asked: Asked<'_>,
    arriving: &StoredResponse,
    age: u64,
    member: Member,
    follower: Follower,
) -> Response<ResponseBody<B>> {
    let headers = arriving.head(age, member);
    let mut response = if is_not_modified(asked.headers, arriving.status, &arriving.validators, arriving.freshness.date)
    {
        not_modified(headers)
    } else {
        let length = arriving.announced_length();
        respond(arriving.status, headers, ResponseBody::followed(follower, length))
    };
    response.extensions_mut().insert(CacheStatus::Collapsed);
    response
}

/// RFC 9111 §5.2.1.7
pub(crate) fn gateway_timeout<B>(member: Member) -> Response<ResponseBody<B>> {
    let mut response = Response::new(ResponseBody::stored(Bytes::from_static(b"Gateway Timeout\n")));
    *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(CACHE_STATUS, member.after(None));
    response.extensions_mut().insert(CacheStatus::OnlyIfCached);
    response
}

fn part(request: &HeaderMap, stored: &StoredResponse) -> Part {
    let applies = stored.status == StatusCode::OK
        && request.contains_key(header::RANGE)
        && stored.validators.allow_range(request, stored.freshness.date);
    if applies { Part::of(request, stored.body().len() as u64) } else { Part::Whole }
}

/// The whole of a stored response, with its trailer section.
fn complete<B>(stored: &StoredResponse, mut headers: HeaderMap) -> Response<ResponseBody<B>> {
    if stored.trailers().is_some() {
        // RFC 9112 §7.1.2: over HTTP/1.1, only a body in chunks can have one.
        headers.remove(header::CONTENT_LENGTH);
    }
    respond(stored.status, headers, ResponseBody::trailed(stored.body().clone(), stored.trailers()))
}

fn whole<B>(status: StatusCode, headers: HeaderMap, body: Bytes) -> Response<ResponseBody<B>> {
    respond(status, headers, ResponseBody::stored(body))
}

fn respond<B>(status: StatusCode, headers: HeaderMap, body: ResponseBody<B>) -> Response<ResponseBody<B>> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// RFC 9110 §15.4.5
pub(crate) fn not_modified<B>(mut headers: HeaderMap) -> Response<ResponseBody<B>> {
    for about_content in [
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::CONTENT_LANGUAGE,
        header::CONTENT_RANGE,
    ] {
        headers.remove(about_content);
    }
    whole(StatusCode::NOT_MODIFIED, headers, Bytes::new())
}

/// RFC 9110 §15.3.7
fn partial<B>(
    mut headers: HeaderMap,
    body: &Bytes,
    first: u64,
    last: u64,
    content_range: &str,
) -> Response<ResponseBody<B>> {
    if let Ok(content_range) = HeaderValue::from_str(content_range) {
        headers.insert(header::CONTENT_RANGE, content_range);
    }
    headers.insert(header::CONTENT_LENGTH, number(last - first + 1));
    // Both lie inside the body: they were made for its length.
    whole(StatusCode::PARTIAL_CONTENT, headers, body.slice(first as usize..=last as usize))
}

/// RFC 9110 §15.3.7.2
fn several<B>(mut headers: HeaderMap, body: &Bytes, ranges: &[(u64, u64)]) -> Response<ResponseBody<B>> {
    let multipart = Multipart::new(body, ranges, headers.get(header::CONTENT_TYPE));
    headers.insert(header::CONTENT_LENGTH, number(multipart.length()));
    headers.insert(header::CONTENT_TYPE, multipart.content_type);
    respond(StatusCode::PARTIAL_CONTENT, headers, ResponseBody::segments(multipart.segments))
}

/// RFC 9110 §15.5.17
fn unsatisfiable<B>(stored: HeaderMap, length: usize) -> Response<ResponseBody<B>> {
    const TEXT: &[u8] = b"Range Not Satisfiable\n";
    // What describes the representation does not describe the error.
    let mut headers: HeaderMap = [header::DATE, CACHE_STATUS]
        .into_iter()
        .filter_map(|name| stored.get(&name).cloned().map(|value| (name, value)))
        .collect();
    if let Ok(content_range) = HeaderValue::try_from(format!("bytes */{length}")) {
        headers.insert(header::CONTENT_RANGE, content_range);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    whole(StatusCode::RANGE_NOT_SATISFIABLE, headers, Bytes::from_static(TEXT))
}
