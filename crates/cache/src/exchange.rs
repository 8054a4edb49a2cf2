//! What becomes of the inner service's answer: passed on, stored, merged, or replaced by a stored one.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Response, StatusCode, response};
use http_body::Body;

use crate::body::ResponseBody;
use crate::cache_status::{CACHE_STATUS, CacheStatus, Forwarded, Member};
use crate::clock::Timestamp;
use crate::fetch::Fetch;
use crate::hooks::IsForOneRequest;
use crate::key::Key;
use crate::layer::Settings;
use crate::reader::BodySource;
use crate::stored::StoredResponse;
use crate::storing::{Request, Terms};
use crate::tags;
use crate::tee::Tee;

/// What is to be done when the inner service answers.
pub(crate) enum Exchange {
    /// The cache has no part in it.
    Untouched,
    /// Only said in `Cache-Status`.
    Forwarded(Forwarded),
    /// An unsafe method: what is stored may be out of date. `None`: not a path that the cache serves,
    /// but the response may name one.
    Unsafe { settings: Arc<Settings>, key: Key, reason: Option<Forwarded> },
    /// A POST on a path that the cache serves: unsafe, and its answer may be the resource's next state.
    Post(Box<Post>),
    /// A GET or HEAD that the store did not answer.
    Fetch(Box<Fetch>),
}

impl Exchange {
    pub(crate) fn finish<B, E>(self, outcome: Result<Response<B>, E>) -> Result<Response<ResponseBody<B>>, E>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Send,
    {
        match self {
            Self::Untouched => outcome.map(|response| response.map(ResponseBody::inner)),
            Self::Forwarded(reason) => outcome.map(|response| forwarded(response.map(ResponseBody::inner), reason)),
            Self::Unsafe { settings, key, reason } => {
                let response = outcome?;
                invalidate(&settings, &key, &response);
                let response = response.map(ResponseBody::inner);
                Ok(match reason {
                    Some(reason) => forwarded(response, reason),
                    None => response,
                })
            }
            Self::Post(post) => outcome.map(|response| post.finish(response)),
            Self::Fetch(fetch) => {
                let now = fetch.settings.clock.now();
                fetch.finish(outcome, now)
            }
        }
    }
}

/// RFC 9111 §4.4
fn invalidate<B>(settings: &Settings, key: &Key, response: &Response<B>) {
    for group in tags::invalidated(response.headers(), key.origin(), settings.store.tag_key()) {
        settings.store.invalidate_tag(group);
    }
    if !(response.status().is_success() || response.status().is_redirection()) {
        return;
    }
    settings.store.invalidate(key);
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        let reference = response.headers().get(name).and_then(|value| value.to_str().ok());
        if let Some(other) = reference.and_then(|reference| key.same_origin(reference)) {
            settings.store.invalidate(&settings.hooks.query.of_key(other));
        }
    }
}

pub(crate) fn forwarded<B>(mut response: Response<ResponseBody<B>>, reason: Forwarded) -> Response<ResponseBody<B>> {
    note(&mut response, Member::forwarded(reason), reason);
    response
}

pub(crate) fn note<B>(response: &mut Response<ResponseBody<B>>, member: Member, reason: Forwarded) {
    response.headers_mut().append(CACHE_STATUS, member.after(None));
    response.extensions_mut().insert(CacheStatus::Forwarded(reason));
}

/// A POST on its way to the origin.
pub(crate) struct Post {
    pub(crate) settings: Arc<Settings>,
    pub(crate) key: Key,
    pub(crate) request: HeaderMap,
    pub(crate) is_for_one: Option<IsForOneRequest>,
    pub(crate) request_time: Timestamp,
}

impl Post {
    fn finish<B>(self, response: Response<B>) -> Response<ResponseBody<B>>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Send,
    {
        let Self { settings, key, request, is_for_one, request_time } = self;
        invalidate(&settings, &key, &response);
        let (parts, body) = response.into_parts();
        let length = expected_length(&parts, &body);
        let now = settings.clock.now();
        let ticket = settings.store.ticket(key.as_str());
        let (origin, path, tagged) = (key.origin(), key.path(), ticket.tagged());
        let tag_key = settings.store.tag_key();
        // Only explicit freshness counts for a POST, RFC 9110 §9.3.3.
        let (set_cookie, heuristic) = (settings.set_cookie, false);
        let asked = Request { origin, path, tagged, tag_key, headers: &request, request_time, set_cookie, heuristic };
        let terms = Terms::for_response(asked, parts.status, &parts.headers, now).ok();
        // RFC 9110 §9.3.3: with explicit freshness and a Content-Location that is the target itself, the answer to
        // a POST is what a GET would get.
        let tee = terms
            .filter(|terms| terms.freshness.basis.is_explicit() && is_target_itself(&parts, &key, &settings))
            .filter(|_| !is_for_one.is_some_and(|is_for_one| is_for_one(&parts.headers)))
            .and_then(|terms| {
                let response = StoredResponse::new(parts.status, &parts.headers, terms);
                let key = settings.place(&key, &parts.headers).unwrap_or(key);
                Tee::new(&settings, key, ticket, response, length)
            });
        let member = Member::forwarded(Forwarded::Method).stored_if(tee.is_some());
        let body = ResponseBody::copied(BodySource::new(body, length), tee);
        let mut response = Response::from_parts(parts, body);
        note(&mut response, member, Forwarded::Method);
        response
    }
}

fn is_target_itself(parts: &response::Parts, key: &Key, settings: &Settings) -> bool {
    let mut lines = parts.headers.get_all(header::CONTENT_LOCATION).iter();
    let (Some(location), None) = (lines.next(), lines.next()) else {
        return false;
    };
    let location = location.to_str().ok().and_then(|reference| key.same_origin(reference));
    parts.status == StatusCode::OK && location.is_some_and(|location| settings.hooks.query.of_key(location) == *key)
}

/// How long the body must be to be complete.
pub(crate) fn expected_length<B: Body>(parts: &response::Parts, body: &B) -> Option<u64> {
    if matches!(parts.status, StatusCode::NO_CONTENT) {
        return body.size_hint().exact();
    }
    let announced = parts.headers.get(header::CONTENT_LENGTH).map(HeaderValue::as_bytes);
    match announced.map(|digits| std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok())) {
        Some(Some(length)) => Some(length),
        // Nonsense can't be met: nothing will be stored.
        Some(None) => Some(u64::MAX),
        None => body.size_hint().exact(),
    }
}
