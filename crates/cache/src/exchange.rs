//! What becomes of the inner service's answer: passed on, stored, merged, or replaced by a stored one.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Response, StatusCode, response};
use http_body::Body;

use crate::answer::{Asked, from_store};
use crate::body::ResponseBody;
use crate::cache_control::RequestDirectives;
use crate::cache_status::{CACHE_STATUS, CacheStatus, Forwarded, Member};
use crate::clock::Timestamp;
use crate::flights::Lead;
use crate::generations::Ticket;
use crate::key::Key;
use crate::layer::Settings;
use crate::reuse::{Failure, stands_in};
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
    for group in tags::invalidated(response.headers(), key.origin()) {
        settings.store.invalidate_tag(group);
    }
    if !(response.status().is_success() || response.status().is_redirection()) {
        return;
    }
    settings.store.invalidate(key.as_str());
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        let reference = response.headers().get(name).and_then(|value| value.to_str().ok());
        if let Some(other) = reference.and_then(|reference| key.same_origin(reference)) {
            settings.store.invalidate(settings.hooks.query.of_key(other).as_str());
        }
    }
}

fn forwarded<B>(mut response: Response<ResponseBody<B>>, reason: Forwarded) -> Response<ResponseBody<B>> {
    note(&mut response, Member::forwarded(reason), reason);
    response
}

fn note<B>(response: &mut Response<ResponseBody<B>>, member: Member, reason: Forwarded) {
    response.headers_mut().append(CACHE_STATUS, member.after(None));
    response.extensions_mut().insert(CacheStatus::Forwarded(reason));
}

/// A POST on its way to the origin.
pub(crate) struct Post {
    pub(crate) settings: Arc<Settings>,
    pub(crate) key: Key,
    pub(crate) request: HeaderMap,
    pub(crate) request_time: Timestamp,
}

impl Post {
    fn finish<B>(self, response: Response<B>) -> Response<ResponseBody<B>>
    where
        B: Body<Data = Bytes>,
    {
        let Self { settings, key, request, request_time } = self;
        invalidate(&settings, &key, &response);
        let (parts, body) = response.into_parts();
        let now = settings.clock.now();
        let ticket = settings.store.ticket(key.as_str());
        let (origin, path, tagged) = (key.origin(), key.path(), ticket.tagged());
        let asked = Request { origin, path, tagged, headers: &request, request_time };
        let terms = Terms::for_response(asked, parts.status, &parts.headers, now).ok();
        // RFC 9110 §9.3.3: with explicit freshness and a Content-Location that is the target itself, the answer to
        // a POST is what a GET would get.
        let tee = terms
            .filter(|terms| terms.freshness.basis.is_explicit() && is_target_itself(&parts, &key, &settings))
            .and_then(|terms| {
                let response = StoredResponse::new(parts.status, &parts.headers, terms);
                let expected = expected_length(&parts, &body);
                Tee::new(&settings.store, key.into_text(), ticket, response, expected, settings.max_object)
            });
        let member = Member::forwarded(Forwarded::Method).stored_if(tee.is_some());
        let body = match tee {
            Some(tee) => ResponseBody::copied(body, tee),
            None => ResponseBody::inner(body),
        };
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

/// A GET or HEAD on its way to the origin.
pub(crate) struct Fetch {
    pub(crate) settings: Arc<Settings>,
    pub(crate) key: Key,
    pub(crate) ticket: Ticket,
    pub(crate) head: bool,
    /// As the client sent it, before it was made conditional.
    pub(crate) request: HeaderMap,
    pub(crate) directives: RequestDirectives,
    pub(crate) reason: Forwarded,
    /// The selected stored response, which can't be used as it is.
    pub(crate) stored: Option<Arc<StoredResponse>>,
    /// Whether the request asks if `stored` still holds.
    pub(crate) validating: bool,
    pub(crate) request_time: Timestamp,
    /// For whom else this asks.
    pub(crate) lead: Option<Lead>,
}

impl Fetch {
    /// Makes the request ask what is to be known.
    pub(crate) fn prepare(&self, request: &mut HeaderMap) {
        if self.validating
            && let Some(stored) = &self.stored
        {
            stored.validators.make_conditional(request);
        }
    }

    fn finish<B, E>(mut self, outcome: Result<Response<B>, E>, now: Timestamp) -> Result<Response<ResponseBody<B>>, E>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Send,
    {
        let response = match outcome {
            Ok(response) => response,
            Err(error) => return self.stand_in(Failure::Unreachable, None, now).ok_or(error),
        };
        let (parts, body) = response.into_parts();
        let failure = if self.settings.says_unreachable(&parts) {
            Some(Failure::Unreachable)
        } else if matches!(parts.status.as_u16(), 500 | 502..=504) {
            Some(Failure::ServerError)
        } else {
            None
        };
        if let Some(failure) = failure
            && let Some(response) = self.stand_in(failure, Some(parts.status), now)
        {
            return Ok(response);
        }
        Ok(match &self.stored {
            // The origin itself did not speak: nothing to learn from.
            _ if failure == Some(Failure::Unreachable) => self.pass_on(parts, body),
            Some(stored) if self.validating && parts.status == StatusCode::NOT_MODIFIED => {
                let response = self.validated(stored, parts, now);
                if let Some(lead) = self.lead.take() {
                    lead.stored();
                }
                response
            }
            Some(stored) if self.head => {
                self.learn_from_head(stored, &parts, now);
                self.pass_on(parts, body)
            }
            _ if self.head => self.pass_on(parts, body),
            _ => self.store(parts, body, now),
        })
    }

    pub(crate) fn asked(&self) -> Asked<'_> {
        Asked { head: self.head, headers: &self.request }
    }

    fn terms_request(&self) -> Request<'_> {
        Request {
            origin: self.key.origin(),
            path: self.key.path(),
            tagged: self.ticket.tagged(),
            headers: &self.request,
            request_time: self.request_time,
        }
    }

    /// A stale response in place of a failure.
    fn stand_in<B>(
        &self,
        failure: Failure,
        status: Option<StatusCode>,
        now: Timestamp,
    ) -> Option<Response<ResponseBody<B>>> {
        let stored = self.stored.as_ref()?;
        let moment = stored.moment(now);
        let most = self.settings.stale_when_unreachable;
        if !stands_in(&stored.freshness, moment, &self.directives, failure, most) {
            return None;
        }
        let mut member = Member::forwarded(self.reason);
        if let Some(status) = status {
            member = member.forward_status(status);
        }
        let member = member.ttl(moment.ttl).detail("stale-if-error");
        Some(from_store(self.asked(), stored, moment.age, member, CacheStatus::Stale))
    }

    /// RFC 9111 §4.3.3: a 304 to our own condition.
    fn validated<B>(
        &self,
        stored: &Arc<StoredResponse>,
        update: response::Parts,
        now: Timestamp,
    ) -> Response<ResponseBody<B>> {
        let member = Member::forwarded(self.reason).forward_status(StatusCode::NOT_MODIFIED);
        let mut response = if stored.validators.are_confirmed_by(&update.headers) {
            let (fresh, kept) = stored.freshened(self.terms_request(), &update.headers, now);
            let age = fresh.freshness.current_age(now);
            let response =
                from_store(self.asked(), &fresh, age, member.stored_if(kept.is_ok()), CacheStatus::Revalidated);
            match kept {
                Ok(()) => self.settings.store.put(self.key.clone().into_text(), self.ticket, Arc::new(fresh)),
                Err(_) => self.settings.store.forget(self.key.as_str(), stored),
            }
            response
        } else {
            // The origin confirms what it then names otherwise. This client gets what was confirmed,
            // and the next one asks anew.
            self.settings.store.forget(self.key.as_str(), stored);
            let age = stored.freshness.current_age(now);
            from_store(self.asked(), stored, age, member, CacheStatus::Revalidated)
        };
        for cookie in update.headers.get_all(header::SET_COOKIE) {
            response.headers_mut().append(header::SET_COOKIE, cookie.clone());
        }
        response
    }

    /// RFC 9111 §4.3.5
    fn learn_from_head(&self, stored: &Arc<StoredResponse>, update: &response::Parts, now: Timestamp) {
        if update.status != StatusCode::OK || stored.status != StatusCode::OK {
            return;
        }
        let length = update.headers.get(header::CONTENT_LENGTH);
        let other_length = length.is_some() && stored.content_length() != length;
        if other_length || stored.validators.differ_from(&update.headers) {
            self.settings.store.forget(self.key.as_str(), stored);
            return;
        }
        let (fresh, kept) = stored.freshened(self.terms_request(), &update.headers, now);
        match kept {
            Ok(()) => self.settings.store.put(self.key.clone().into_text(), self.ticket, Arc::new(fresh)),
            Err(_) => self.settings.store.forget(self.key.as_str(), stored),
        }
    }

    fn pass_on<B>(&self, parts: response::Parts, body: B) -> Response<ResponseBody<B>> {
        forwarded(Response::from_parts(parts, ResponseBody::inner(body)), self.reason)
    }

    /// A response to a GET: stored while the client reads it, if it may be.
    fn store<B>(self, parts: response::Parts, body: B, now: Timestamp) -> Response<ResponseBody<B>>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Send,
    {
        let terms = Terms::for_response(self.terms_request(), parts.status, &parts.headers, now);
        let Self { settings, key, ticket, reason, stored, lead, .. } = self;
        let copied = match terms {
            Ok(terms) => {
                let response = StoredResponse::new(parts.status, &parts.headers, terms);
                let expected = expected_length(&parts, &body);
                let shareable = response.is_shareable(now);
                let tee = Tee::new(&settings.store, key.into_text(), ticket, response, expected, settings.max_object);
                match (tee, lead) {
                    (Some(tee), Some(lead)) if shareable => Some(tee.lead(lead)),
                    (tee, lead) => {
                        give_up(lead, parts.status, now);
                        tee
                    }
                }
            }
            Err(_) => {
                give_up(lead, parts.status, now);
                // The origin has moved on from what is stored, and lets nothing take its place.
                if let Some(stored) = stored
                    && replaces(&parts, &stored)
                {
                    settings.store.forget(key.as_str(), &stored);
                }
                None
            }
        };
        let member = Member::forwarded(reason).stored_if(copied.is_some());
        let body = match copied {
            Some(tee) => ResponseBody::led(body, tee),
            None => ResponseBody::inner(body),
        };
        let mut response = Response::from_parts(parts, body);
        note(&mut response, member, reason);
        response
    }
}

/// Sets those who wait free. An error says nothing of what the next answer will be.
fn give_up(lead: Option<Lead>, status: StatusCode, now: Timestamp) {
    if let Some(lead) = lead
        && !status.is_server_error()
    {
        lead.unshareable(now);
    }
}

/// Whether an answer that is not stored shows the stored one to be out of date.
fn replaces(parts: &response::Parts, stored: &StoredResponse) -> bool {
    match parts.status.as_u16() {
        206 => stored.validators.differ_from(&parts.headers),
        304 | 412 | 416 | 500.. => false,
        _ => true,
    }
}

/// How long the body must be to be complete.
fn expected_length<B: Body>(parts: &response::Parts, body: &B) -> Option<u64> {
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
