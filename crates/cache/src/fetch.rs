//! A fetch from the origin, and the processing of the origin's response.

pub(crate) mod completion;
pub(crate) mod other_variants;

use std::sync::Arc;

use bytes::Bytes;
use http::header;
use http::{HeaderMap, Response, StatusCode, response};
use http_body::Body;
use tokio::runtime::Handle;

use self::completion::Completion;
use crate::body::reader::BodySource;
use crate::body::store_writer::StoreWriter;
use crate::body::{ResponseBody, read_to_end};
use crate::cache_status::{CacheStatus, ForwardReason, Member};
use crate::clock::Timestamp;
use crate::coalesce::in_flight::Leader;
use crate::config::Config;
use crate::hooks::RequestSpecificCheck;
use crate::key::CacheKey;
use crate::policy::date;
use crate::policy::request_directives::RequestDirectives;
use crate::policy::reuse::{Failure, may_replace_failure};
use crate::policy::storability::{NotStorable, StorageRequest, StorageTerms};
use crate::policy::validators::{Validators, is_conditional, is_not_modified};
use crate::policy::vary::Codings;
use crate::response::{ClientRequest, add_status, forwarded, not_modified, serve_stored};
use crate::store::generations::FetchTicket;
use crate::store::stored_response::StoredResponse;

/// A forwarded GET or HEAD request that no stored response could serve.
pub(crate) struct Fetch {
    pub(crate) config: Arc<Config>,
    pub(crate) key: CacheKey,
    /// The request's original cache key, if `key` is shared with equivalent queries.
    pub(crate) request_key: Option<CacheKey>,
    pub(crate) ticket: FetchTicket,
    pub(crate) is_head: bool,
    /// The client's request header section, before changes for the origin.
    pub(crate) request_headers: HeaderMap,
    /// Whether a layer authenticated the client.
    pub(crate) is_authenticated: bool,
    pub(crate) request_specific: Option<RequestSpecificCheck>,
    pub(crate) directives: RequestDirectives,
    pub(crate) reason: ForwardReason,
    /// The selected stored response, which must be validated or replaced by the origin.
    pub(crate) selected: Option<Arc<StoredResponse>>,
    /// Whether the forwarded request validates the selected stored response.
    pub(crate) is_validating: bool,
    /// The variants whose entity tags the forwarded request contains, if no variant is selected.
    pub(crate) other_variants: Vec<Arc<StoredResponse>>,
    /// The completion of the stored parts, if no complete response is selected.
    pub(crate) completion: Option<Arc<Completion>>,
    pub(crate) request_time: Timestamp,
    /// The leader of the followers that wait for this fetch.
    pub(crate) leader: Option<Leader>,
}

impl Fetch {
    /// Changes a request so that it validates or completes the stored responses.
    pub(crate) fn prepare(&self, request: &mut HeaderMap) {
        self.prepare_plain(request);
        if self.is_validating
            && let Some(selected) = &self.selected
        {
            selected.validators.make_conditional(request);
        } else if let Some(condition) = other_variants::if_none_match(&self.other_variants) {
            request.insert(header::IF_NONE_MATCH, condition);
        } else if let Some(completion) = &self.completion {
            completion.prepare(request);
        }
    }

    /// Changes a request so that its response is complete and can be stored and shared.
    pub(crate) fn prepare_plain(&self, request: &mut HeaderMap) {
        Codings::reduce(request);
        if self.evaluates_client_condition() {
            Validators::default().make_conditional(request);
        }
    }

    /// Whether the response may turn out to be unusable, so that the request must be repeated.
    pub(crate) fn may_need_repeat(&self) -> bool {
        self.completion.is_some() || !self.other_variants.is_empty()
    }

    /// Removes the completion and all variants but one, because they may require a repeated request.
    pub(crate) fn disable_repeats(&mut self) {
        // With a single tag, a 304 without `ETag` is unambiguous.
        self.other_variants.truncate(1);
        self.completion = None;
    }

    /// Whether the cache evaluates the client's preconditions itself instead of forwarding them.
    ///
    /// The origin then sends a full response, which serves the followers and fills the store. Otherwise, browsers that still have a
    /// copy would never fill the store after a restart.
    fn evaluates_client_condition(&self) -> bool {
        self.leader.is_some() && !self.is_validating && is_conditional(&self.request_headers)
    }

    /// Builds the response to the client, and stores or updates responses.
    pub(crate) fn finish<B, E>(mut self, outcome: Result<Response<B>, E>) -> Result<Response<ResponseBody<B>>, E>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Send,
    {
        let now = self.config.clock.now();
        let response = match outcome {
            Ok(response) => response,
            Err(error) => return self.serve_stale_on(Failure::Unreachable, None, now).ok_or(error),
        };
        let (parts, body) = response.into_parts();
        let failure = if self.config.is_unreachable(&parts) {
            Some(Failure::Unreachable)
        } else if matches!(parts.status.as_u16(), 500 | 502..=504) {
            Some(Failure::ServerError)
        } else {
            None
        };
        if let Some(failure) = failure
            && let Some(response) = self.serve_stale_on(failure, Some(parts.status), now)
        {
            return Ok(response);
        }
        if failure.is_none()
            && parts.status == StatusCode::NOT_MODIFIED
            && let Some(confirmed) = self.confirmed_response(&parts.headers)
        {
            let response = self.serve_validated(&confirmed, parts, now);
            if let Some(leader) = self.leader.take() {
                leader.finish_stored();
            }
            return Ok(response);
        }
        Ok(match &self.selected {
            // The response is not from the origin.
            _ if failure == Some(Failure::Unreachable) => self.forward_response(parts, body),
            Some(selected) if self.is_head => {
                self.update_from_head(selected, &parts, now);
                self.forward_response(parts, body)
            }
            _ if self.is_head => self.forward_response(parts, body),
            _ => match self.completion.clone() {
                Some(completion) if completion.is_answered_by(parts.status, &parts.headers) => {
                    self.complete(&completion, parts, body, now)
                }
                _ => {
                    let source = BodySource::of_response(&parts, body);
                    let member = Member::forwarded(self.reason);
                    self.store_response(parts, source, member, now)
                }
            },
        })
    }

    pub(crate) fn client_request(&self) -> ClientRequest<'_> {
        ClientRequest { is_head: self.is_head, headers: &self.request_headers }
    }

    fn storage_request<'a>(&'a self, headers: &'a HeaderMap) -> StorageRequest<'a> {
        StorageRequest {
            origin: self.key.origin(),
            path: self.key.path(),
            tag_generation: self.ticket.tag_generation(),
            tag_key: self.config.store.tag_key(),
            headers,
            is_authenticated: self.is_authenticated,
            request_time: self.request_time,
            set_cookie: self.config.set_cookie,
            heuristic_freshness: self.config.heuristic_freshness,
        }
    }

    /// Serves a stale response instead of a failure, if that is allowed.
    fn serve_stale_on<B>(
        &self,
        failure: Failure,
        status: Option<StatusCode>,
        now: Timestamp,
    ) -> Option<Response<ResponseBody<B>>> {
        let selected = self.selected.as_ref()?;
        let freshness_now = selected.freshness_now(now);
        let limit = self.config.stale_when_unreachable;
        if !may_replace_failure(&selected.freshness, freshness_now, &self.directives, failure, limit) {
            return None;
        }
        let mut member = Member::forwarded(self.reason);
        if let Some(status) = status {
            member = member.forward_status(status);
        }
        let member = member.ttl(freshness_now.ttl).detail("stale-if-error");
        Some(serve_stored(self.client_request(), selected, freshness_now.age, member, CacheStatus::StaleIfError))
    }

    /// Returns the stored response that a 304 response validates.
    fn confirmed_response(&self, not_modified: &HeaderMap) -> Option<Arc<StoredResponse>> {
        match (&self.selected, &*self.other_variants) {
            (Some(selected), _) => self.is_validating.then(|| Arc::clone(selected)),
            // Only one tag was sent, so the 304 confirms it even if it has another `ETag`.
            (None, [only]) => Some(Arc::clone(only)),
            (None, variants) => other_variants::selected_variant(not_modified, variants).cloned(),
        }
    }

    /// Builds the response to the client from a validated stored response, and updates the store.
    // RFC 9111 §4.3.3
    fn serve_validated<B>(
        &self,
        confirmed: &Arc<StoredResponse>,
        not_modified: response::Parts,
        now: Timestamp,
    ) -> Response<ResponseBody<B>> {
        let member = Member::forwarded(self.reason).forward_status(StatusCode::NOT_MODIFIED);
        let is_selected = self.selected.is_some();
        let is_consistent = !is_selected || confirmed.validators.are_confirmed_by(&not_modified.headers);
        let mut response = if is_consistent {
            let request = self.storage_request(&self.request_headers);
            let (updated, outcome) = confirmed.updated(request, &not_modified.headers, now);
            let updated = Arc::new(updated);
            let is_stored = match outcome {
                Ok(()) => self.store_updated(confirmed, &updated, &not_modified.headers, now),
                Err(_) => {
                    // Another variant still serves the requests that select it.
                    if is_selected {
                        self.config.store.remove_variant(self.key.as_str(), confirmed);
                    }
                    false
                }
            };
            let age = updated.freshness.current_age(now);
            let member = member.stored_if(is_stored);
            serve_stored(self.client_request(), &updated, age, member, CacheStatus::Revalidated)
        } else {
            // The 304 contradicts the validators that were sent. This client gets the response that was confirmed, and the
            // next request fetches it again.
            self.config.store.remove_variant(self.key.as_str(), confirmed);
            let age = confirmed.freshness.current_age(now);
            serve_stored(self.client_request(), confirmed, age, member, CacheStatus::Revalidated)
        };
        for cookie in not_modified.headers.get_all(header::SET_COOKIE) {
            response.headers_mut().append(header::SET_COOKIE, cookie.clone());
        }
        response
    }

    /// Updates or removes a stored response according to the response to a HEAD request.
    // RFC 9111 §4.3.5
    fn update_from_head(&self, selected: &Arc<StoredResponse>, head: &response::Parts, now: Timestamp) {
        if head.status != StatusCode::OK || selected.status != StatusCode::OK {
            return;
        }
        let length = head.headers.get(header::CONTENT_LENGTH);
        let is_other_length = length.is_some() && selected.content_length() != length;
        if is_other_length || selected.validators.contradict(&head.headers) {
            self.config.store.remove_variant(self.key.as_str(), selected);
            return;
        }
        let request = self.storage_request(&self.request_headers);
        let (updated, outcome) = selected.updated(request, &head.headers, now);
        match outcome {
            Ok(()) => {
                self.store_updated(selected, &Arc::new(updated), &head.headers, now);
            }
            Err(_) => self.config.store.remove_variant(self.key.as_str(), selected),
        }
    }

    /// Stores a response that was updated with the header fields of another response. Returns whether it is stored.
    fn store_updated(
        &self,
        old: &Arc<StoredResponse>,
        updated: &Arc<StoredResponse>,
        update: &HeaderMap,
        now: Timestamp,
    ) -> bool {
        let store = &self.config.store;
        let key = self.storage_key(updated.headers());
        let is_selected = self.selected.is_some();
        if key != self.key {
            if is_selected {
                store.remove_variant(self.key.as_str(), old);
            }
            return store.put(key.into_string(), self.ticket, Arc::clone(updated));
        }
        // RFC 9111 §4.3.4: every stored response with the strong validator of the 304 is updated.
        let resource = store.lookup(self.key.as_str());
        let variants = resource.as_ref().map(|resource| resource.variants()).unwrap_or_default();
        let others = variants.iter().filter(|other| match Arc::ptr_eq(other, old) {
            true => !is_selected,
            false => other.validators.strongly_match(update),
        });
        for other in others {
            let request = self.storage_request(&self.request_headers);
            if let Some(updated) = other.updated_for_other_request(request, update, now) {
                store.put(self.key.clone().into_string(), self.ticket, Arc::new(updated));
            }
        }
        store.put(key.into_string(), self.ticket, Arc::clone(updated))
    }

    /// Returns the cache key for storing a response with these header fields.
    fn storage_key(&self, headers: &HeaderMap) -> CacheKey {
        let key = self.request_key.as_ref().unwrap_or(&self.key);
        self.config.storage_key(key, headers).unwrap_or_else(|| key.clone())
    }

    fn forward_response<B>(&self, parts: response::Parts, body: B) -> Response<ResponseBody<B>> {
        forwarded(Response::from_parts(parts, ResponseBody::inner(body)), self.reason)
    }

    /// Serves a response that combines stored parts and the missing part, and stores the missing part.
    // RFC 9111 §3.4
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
        let source = BodySource::between(completion.stored_bytes(), body, completion.missing_length());
        if completion.is_of_whole() {
            let member = Member::forwarded(self.reason).forward_status(parts.status);
            return self.store_response(completion.client_head(parts), source, member, now);
        }
        // For a range, only the new bytes are stored. The store joins all parts once they are the whole.
        let request = completion.request_headers(&self.request_headers);
        let headers = completion.part_headers(&parts.headers);
        let writer = match self.storage_terms(&request, parts.status, &headers, now) {
            Ok(terms) => {
                let response = StoredResponse::new(parts.status, &headers, terms);
                let (key, length) = (self.storage_key(&headers), completion.missing_length());
                StoreWriter::new(&self.config, key, self.ticket, response, Some(length))
            }
            Err(_) => {
                // The origin does not allow any longer that this representation is stored.
                for part in completion.parts() {
                    self.config.store.remove_variant(self.key.as_str(), part);
                }
                None
            }
        };
        let member = Member::forwarded(self.reason).stored_if(writer.is_some());
        let body = ResponseBody::copied_without_stored(source, writer);
        let mut response = Response::from_parts(completion.client_head(parts), body);
        add_status(&mut response, member, self.reason);
        response
    }

    /// Returns the terms for storing a response, or the reason that it cannot be stored. `request` is the header
    /// section of the request that it answers.
    fn storage_terms(
        &self,
        request: &HeaderMap,
        status: StatusCode,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Result<StorageTerms, NotStorable> {
        match self.request_specific {
            Some(is_specific) if is_specific(headers) => Err(NotStorable::RequestSpecific),
            _ => StorageTerms::for_response(self.storage_request(request), status, headers, now),
        }
    }

    /// Forwards the origin's response to the client, and stores it if that is allowed.
    fn store_response<B>(
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
        let background = self.evaluates_client_condition().then(|| self.runtime_if_not_modified(&parts, now)).flatten();
        let (leader, reason) = (self.leader.take(), self.reason);
        let is_excluded = self.config.is_excluded(&parts);
        let terms = match is_excluded {
            true => Err(NotStorable::Excluded),
            false => self.storage_terms(&self.request_headers, parts.status, &parts.headers, now),
        };
        let writer = match terms {
            Ok(terms) => {
                let response = StoredResponse::new(parts.status, &parts.headers, terms);
                let is_shareable = response.is_shareable(now);
                let (key, length) = (self.storage_key(&parts.headers), source.length());
                match (StoreWriter::new(&self.config, key, self.ticket, response, length), leader) {
                    (Some(writer), Some(leader)) if is_shareable => Some(writer.with_leader(leader)),
                    (writer, leader) => {
                        release_followers(leader, parts.status, now);
                        writer
                    }
                }
            }
            Err(_) => {
                release_followers(leader, parts.status, now);
                self.remove_outdated(&parts);
                None
            }
        };
        let member = member.stored_if(writer.is_some());
        let body = ResponseBody::copied(source, writer);
        let mut response = match background {
            None => Response::from_parts(parts, body),
            Some(runtime) => {
                // The body fills the store.
                if !is_excluded {
                    runtime.spawn(read_to_end(body));
                }
                not_modified(parts.headers)
            }
        };
        add_status(&mut response, member, reason);
        response
    }

    /// Removes stored responses that are outdated by a response that cannot be stored.
    fn remove_outdated(&self, parts: &response::Parts) {
        let stored_parts = self.completion.iter().flat_map(|completion| completion.parts());
        for stored in self.selected.iter().chain(stored_parts).filter(|stored| makes_outdated(parts, stored)) {
            self.config.store.remove_variant(self.key.as_str(), stored);
        }
    }

    /// Returns the runtime for reading the body in the background, if the client gets a 304 response.
    fn runtime_if_not_modified(&self, parts: &response::Parts, now: Timestamp) -> Option<Handle> {
        let date = date::from_headers(&parts.headers, header::DATE).unwrap_or(now.seconds());
        let validators = Validators::from_headers(&parts.headers);
        let is_not_modified = is_not_modified(&self.request_headers, parts.status, &validators, date);
        self.leader.as_ref().filter(|_| is_not_modified).map(|leader| leader.runtime().clone())
    }
}

/// Releases the followers of a response that cannot be shared.
///
/// Later requests are not coalesced for a while, except after an error or a response to a condition or a range of one client.
fn release_followers(leader: Option<Leader>, status: StatusCode, now: Timestamp) {
    if let Some(leader) = leader
        && !status.is_server_error()
        && !matches!(status.as_u16(), 206 | 304 | 412 | 416)
    {
        leader.finish_unshareable(now);
    }
}

/// Whether a response that cannot be stored shows that a stored response is outdated.
fn makes_outdated(parts: &response::Parts, stored: &StoredResponse) -> bool {
    match parts.status.as_u16() {
        206 => stored.validators.contradict(&parts.headers),
        304 | 412 | 416 | 500.. => false,
        _ => true,
    }
}
