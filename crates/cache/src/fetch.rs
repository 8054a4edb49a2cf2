//! A GET or HEAD that the store did not answer: what becomes of the origin's answer.

use std::sync::Arc;

use bytes::Bytes;
use http::header;
use http::{HeaderMap, Response, StatusCode, response};
use http_body::Body;
use tokio::runtime::Handle;

use crate::answer::{Asked, from_store, not_modified};
use crate::body::ResponseBody;
use crate::cache_control::RequestDirectives;
use crate::cache_status::{CacheStatus, Forwarded, Member};
use crate::clock::Timestamp;
use crate::completion::Completion;
use crate::date;
use crate::exchange::{expected_length, forwarded, note};
use crate::flights::Lead;
use crate::generations::Ticket;
use crate::hooks::IsForOneRequest;
use crate::key::Key;
use crate::layer::Settings;
use crate::leading::read_to_end;
use crate::reader::BodySource;
use crate::reuse::{Failure, stands_in};
use crate::stored::StoredResponse;
use crate::storing::{Request, Terms, Unstorable};
use crate::tee::Tee;
use crate::validation::{Validators, is_conditional, is_not_modified};
use crate::variants;
use crate::vary::Codings;

/// A GET or HEAD on its way to the origin.
pub(crate) struct Fetch {
    pub(crate) settings: Arc<Settings>,
    pub(crate) key: Key,
    /// The key that the request has by itself, where responses have said that it means the same as others.
    pub(crate) literal: Option<Key>,
    pub(crate) ticket: Ticket,
    pub(crate) head: bool,
    /// As the client sent it, before it was made conditional.
    pub(crate) request: HeaderMap,
    /// Whether a response is for this request alone.
    pub(crate) is_for_one: Option<IsForOneRequest>,
    pub(crate) directives: RequestDirectives,
    pub(crate) reason: Forwarded,
    /// The selected stored response, which can't be used as it is.
    pub(crate) stored: Option<Arc<StoredResponse>>,
    /// Whether the request asks if `stored` still holds.
    pub(crate) validating: bool,
    /// Where none is selected: other variants, one of which the origin may confirm for this request.
    pub(crate) variants: Vec<Arc<StoredResponse>>,
    /// Where a part is selected: the request for the rest of it.
    pub(crate) completion: Option<Arc<Completion>>,
    pub(crate) request_time: Timestamp,
    /// For whom else this asks.
    pub(crate) lead: Option<Lead>,
}

impl Fetch {
    /// Makes the request ask what is to be known.
    pub(crate) fn prepare(&self, request: &mut HeaderMap) {
        self.prepare_plainly(request);
        if self.validating
            && let Some(stored) = &self.stored
        {
            stored.validators.make_conditional(request);
        } else if let Some(condition) = variants::condition(&self.variants) {
            request.insert(header::IF_NONE_MATCH, condition);
        } else if let Some(completion) = &self.completion {
            completion.prepare(request);
        }
    }

    /// Makes the request one for the response itself, whatever is stored.
    pub(crate) fn prepare_plainly(&self, request: &mut HeaderMap) {
        Codings::reduce(request);
        if self.is_for_others() {
            Validators::default().make_conditional(request);
        }
    }

    /// Whether the response may show that the request has to be sent again.
    pub(crate) fn may_repeat(&self) -> bool {
        self.completion.is_some() || !self.variants.is_empty()
    }

    /// Leaves out what depends on requests that can be sent again.
    pub(crate) fn without_repeats(&mut self) {
        // A 304 that names no variant is about the only one that was named.
        self.variants.truncate(1);
        self.completion = None;
    }

    /// Whether the client's own condition is for us to answer, so that what comes is worth something to those who wait, and to
    /// the store: browsers that come back to a cache that has just started would never fill it.
    fn is_for_others(&self) -> bool {
        self.lead.is_some() && !self.validating && is_conditional(&self.request)
    }

    pub(crate) fn finish<B, E>(
        mut self,
        outcome: Result<Response<B>, E>,
        now: Timestamp,
    ) -> Result<Response<ResponseBody<B>>, E>
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
        if failure.is_none()
            && parts.status == StatusCode::NOT_MODIFIED
            && let Some(stored) = self.confirmed_by(&parts.headers)
        {
            let response = self.validated(&stored, parts, now);
            if let Some(lead) = self.lead.take() {
                lead.stored();
            }
            return Ok(response);
        }
        Ok(match &self.stored {
            // The origin itself did not speak: nothing to learn from.
            _ if failure == Some(Failure::Unreachable) => self.pass_on(parts, body),
            Some(stored) if self.head => {
                self.learn_from_head(stored, &parts, now);
                self.pass_on(parts, body)
            }
            _ if self.head => self.pass_on(parts, body),
            _ => match self.completion.clone() {
                Some(completion) if completion.is_answered_by(parts.status, &parts.headers) => {
                    self.complete(&completion, parts, body, now)
                }
                _ => {
                    let length = expected_length(&parts, &body);
                    let source = BodySource::new(body, length);
                    let member = Member::forwarded(self.reason);
                    self.store(parts, source, member, now)
                }
            },
        })
    }

    pub(crate) fn asked(&self) -> Asked<'_> {
        Asked { head: self.head, headers: &self.request }
    }

    fn terms_request(&self) -> Request<'_> {
        self.terms_request_with(&self.request)
    }

    fn terms_request_with<'a>(&'a self, headers: &'a HeaderMap) -> Request<'a> {
        Request {
            origin: self.key.origin(),
            path: self.key.path(),
            tagged: self.ticket.tagged(),
            tag_key: self.settings.store.tag_key(),
            headers,
            request_time: self.request_time,
            set_cookie: self.settings.set_cookie,
            heuristic: self.settings.heuristic,
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

    /// The stored response that a 304 to our own condition is about.
    fn confirmed_by(&self, not_modified: &HeaderMap) -> Option<Arc<StoredResponse>> {
        match (&self.stored, &*self.variants) {
            (Some(stored), _) => self.validating.then(|| Arc::clone(stored)),
            // No other was named, whatever the origin calls it now.
            (None, [only]) => Some(Arc::clone(only)),
            (None, variants) => variants::selected_by(not_modified, variants).cloned(),
        }
    }

    /// RFC 9111 §4.3.3: a 304 to our own condition.
    fn validated<B>(
        &self,
        stored: &Arc<StoredResponse>,
        update: response::Parts,
        now: Timestamp,
    ) -> Response<ResponseBody<B>> {
        let member = Member::forwarded(self.reason).forward_status(StatusCode::NOT_MODIFIED);
        let is_selected = self.stored.is_some();
        let mut response = if !is_selected || stored.validators.are_confirmed_by(&update.headers) {
            let (fresh, kept) = stored.freshened(self.terms_request(), &update.headers, now);
            let fresh = Arc::new(fresh);
            let is_stored = match kept {
                Ok(()) => self.keep_freshened(stored, &fresh, &update.headers, now),
                Err(_) => {
                    // Another variant stays what it is for the requests that select it.
                    if is_selected {
                        self.settings.store.forget(self.key.as_str(), stored);
                    }
                    false
                }
            };
            let age = fresh.freshness.current_age(now);
            from_store(self.asked(), &fresh, age, member.stored_if(is_stored), CacheStatus::Revalidated)
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
            Ok(()) => {
                self.keep_freshened(stored, &Arc::new(fresh), &update.headers, now);
            }
            Err(_) => self.settings.store.forget(self.key.as_str(), stored),
        }
    }

    /// Stores `fresh`, which is `stored` with `update` merged in. Returns whether it is stored.
    fn keep_freshened(
        &self,
        stored: &Arc<StoredResponse>,
        fresh: &Arc<StoredResponse>,
        update: &HeaderMap,
        now: Timestamp,
    ) -> bool {
        let store = &self.settings.store;
        let key = self.place(fresh.headers());
        let is_selected = self.stored.is_some();
        if key != self.key {
            if is_selected {
                store.forget(self.key.as_str(), stored);
            }
            return store.put(key.into_text(), self.ticket, Arc::clone(fresh));
        }
        // RFC 9111 §4.3.4: what has the strong validator of a 304 is updated, whatever it was selected by.
        let resource = store.lookup(self.key.as_str());
        let variants = resource.as_ref().map(|resource| resource.variants()).unwrap_or_default();
        let others = variants.iter().filter(|other| match Arc::ptr_eq(other, stored) {
            true => !is_selected,
            false => other.validators.is_strong_of(update),
        });
        for other in others {
            if let Some(fresh) = other.freshened_beside(self.terms_request(), update, now) {
                store.put(self.key.clone().into_text(), self.ticket, Arc::new(fresh));
            }
        }
        store.put(key.into_text(), self.ticket, Arc::clone(fresh))
    }

    /// The key under which a response with these fields is to be found again.
    fn place(&self, headers: &HeaderMap) -> Key {
        let asked = self.literal.as_ref().unwrap_or(&self.key);
        self.settings.place(asked, headers).unwrap_or_else(|| asked.clone())
    }

    fn pass_on<B>(&self, parts: response::Parts, body: B) -> Response<ResponseBody<B>> {
        forwarded(Response::from_parts(parts, ResponseBody::inner(body)), self.reason)
    }

    /// A response that has the missing part of a stored one: RFC 9111 §3.4.
    fn complete<B>(
        self,
        completion: &Completion,
        parts: response::Parts,
        body: B,
        now: Timestamp,
    ) -> Response<ResponseBody<B>>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Send,
    {
        let source = BodySource::between(completion.stored_bytes(), body, completion.gap_length());
        if completion.is_of_whole() {
            let member = Member::forwarded(self.reason).forward_status(parts.status);
            return self.store(completion.head(parts), source, member, now);
        }
        // Of a range, only what is new is stored: beside the other parts, or together with them when all are there.
        let (request, headers) = (completion.request_headers(&self.request), completion.part_headers(&parts.headers));
        let tee = match self.terms(&request, parts.status, &headers, now) {
            Ok(terms) => {
                let response = StoredResponse::new(parts.status, &headers, terms);
                Tee::new(&self.settings, self.place(&headers), self.ticket, response, Some(completion.gap_length()))
            }
            Err(_) => {
                // The origin lets this representation be stored no longer.
                for part in completion.parts() {
                    self.settings.store.forget(self.key.as_str(), part);
                }
                None
            }
        };
        let member = Member::forwarded(self.reason).stored_if(tee.is_some());
        let body = ResponseBody::copied_without_stored(source, tee);
        let mut response = Response::from_parts(completion.head(parts), body);
        note(&mut response, member, self.reason);
        response
    }

    /// The terms on which a response to a GET with the fields `request` is stored.
    fn terms(
        &self,
        request: &HeaderMap,
        status: StatusCode,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Result<Terms, Unstorable> {
        match self.is_for_one {
            Some(is_for_one) if is_for_one(headers) => Err(Unstorable::OneRequest),
            _ => Terms::for_response(self.terms_request_with(request), status, headers, now),
        }
    }

    /// A response to a GET: stored while the client reads it, if it may be.
    fn store<B>(
        mut self,
        parts: response::Parts,
        source: BodySource<B>,
        member: Member,
        now: Timestamp,
    ) -> Response<ResponseBody<B>>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Send,
    {
        let has_it = self.is_for_others().then(|| self.has_already(&parts, now)).flatten();
        let (lead, reason) = (self.lead.take(), self.reason);
        let tee = match self.terms(&self.request, parts.status, &parts.headers, now) {
            Ok(terms) => {
                let response = StoredResponse::new(parts.status, &parts.headers, terms);
                let shareable = response.is_shareable(now);
                let (key, expected) = (self.place(&parts.headers), source.length());
                match (Tee::new(&self.settings, key, self.ticket, response, expected), lead) {
                    (Some(tee), Some(lead)) if shareable => Some(tee.lead(lead)),
                    (tee, lead) => {
                        give_up(lead, parts.status, now);
                        tee
                    }
                }
            }
            Err(_) => {
                give_up(lead, parts.status, now);
                self.forget_outdated(&parts);
                None
            }
        };
        let member = member.stored_if(tee.is_some());
        let body = ResponseBody::copied(source, tee);
        let mut response = match has_it {
            None => Response::from_parts(parts, body),
            Some(runtime) => {
                runtime.spawn(read_to_end(body));
                not_modified(parts.headers)
            }
        };
        note(&mut response, member, reason);
        response
    }

    /// Drops what is stored where the origin has moved on from it, and lets nothing take its place.
    fn forget_outdated(&self, parts: &response::Parts) {
        let incomplete = self.completion.iter().flat_map(|completion| completion.parts());
        for stored in self.stored.iter().chain(incomplete).filter(|stored| replaces(parts, stored)) {
            self.settings.store.forget(self.key.as_str(), stored);
        }
    }

    /// Who is to see to the body that the client has already, if that is so.
    fn has_already(&self, parts: &response::Parts, now: Timestamp) -> Option<Handle> {
        let date = date::of(&parts.headers, header::DATE).unwrap_or(now.seconds());
        let has_it = is_not_modified(&self.request, parts.status, &Validators::of(&parts.headers), date);
        self.lead.as_ref().filter(|_| has_it).map(|lead| lead.runtime().clone())
    }
}

/// Sets those who wait free. An error, or the answer to a condition or a range of one client's own, says nothing of what
/// the next answer will be.
fn give_up(lead: Option<Lead>, status: StatusCode, now: Timestamp) {
    if let Some(lead) = lead
        && !status.is_server_error()
        && !matches!(status.as_u16(), 206 | 304 | 412 | 416)
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
