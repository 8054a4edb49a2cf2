//! A stored response. Its header section is prepared so that a hit only replaces values.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use rproxy_core::credentials::has_credentials;

use crate::cache_status::{CACHE_STATUS, Member, number_value};
use crate::clock::Timestamp;
use crate::hooks::RequestSpecificCheck;
use crate::memory_size;
use crate::policy::date;
use crate::policy::freshness::{Freshness, FreshnessNow};
use crate::policy::range::StoredRange;
use crate::policy::response_directives::ResponseDirectives;
use crate::policy::storability::StorageTerms;
use crate::policy::stored_fields::{combined_value, copy_compactly, is_excluded, replace_value};
use crate::policy::tags::Tags;
use crate::policy::validators::Validators;
use crate::policy::vary::SelectingFields;

/// A stored response, or a response to be stored whose body is still arriving.
#[derive(Debug)]
pub(crate) struct StoredResponse {
    pub(crate) status: StatusCode,
    /// The header section, with placeholder values for `Age`, `Cache-Status` and `Content-Length`.
    headers: HeaderMap,
    /// The `Cache-Status` members of caches closer to the origin.
    other_cache_status: Option<HeaderValue>,
    content: OnceLock<Content>,
    pub(crate) selecting_fields: SelectingFields,
    pub(crate) freshness: Freshness,
    pub(crate) validators: Validators,
    /// The range of a partial response (206).
    pub(crate) part: Option<StoredRange>,
    tags: Tags,
    /// Whether the original request contained credentials.
    pub(crate) has_request_credentials: bool,
    is_revalidating: AtomicBool,
    /// The approximate number of requests that were served with this response.
    hits: AtomicU32,
    /// Whether a soft purge has marked the response as stale.
    is_marked_stale: AtomicBool,
}

/// A body and its trailer section, which is stored separately from the header section (RFC 9111 §3.1).
#[derive(Clone, Debug, Default)]
struct Content {
    data: Bytes,
    trailers: Option<Box<HeaderMap>>,
}

impl StoredResponse {
    /// Creates a response whose body has not arrived yet.
    pub(crate) fn new(status: StatusCode, headers: &HeaderMap, terms: StorageTerms) -> Self {
        let StorageTerms { freshness, selecting_fields, excluded_fields, part, tags, has_request_credentials } = terms;
        let mut stored = copy_compactly(headers, |name| !is_excluded(name, headers, &excluded_fields), 4);
        // RFC 9110 §6.6.1: a response without a valid Date gets the time of its arrival.
        if date::from_headers(&stored, header::DATE).is_none()
            && let Some(date) = date::value(freshness.date)
        {
            stored.insert(header::DATE, date);
        }
        let other_cache_status = combined_value(headers, &CACHE_STATUS);
        stored.insert(header::AGE, HeaderValue::from_static("0"));
        stored.insert(CACHE_STATUS, HeaderValue::from_static("rproxy"));
        if status != StatusCode::NO_CONTENT {
            // The length is set later. Inserted here, it counts for the size of the map.
            stored.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        // A clone has no spare capacity.
        let stored = stored.clone();
        let validators = Validators::from_headers(&stored);
        Self {
            status,
            headers: stored,
            other_cache_status,
            content: OnceLock::new(),
            selecting_fields,
            freshness,
            validators,
            part,
            tags,
            has_request_credentials,
            is_revalidating: AtomicBool::new(false),
            hits: AtomicU32::new(0),
            is_marked_stale: AtomicBool::new(false),
        }
    }

    /// Creates a response from the fields that were decoded from a second-level store. `headers` are those that
    /// [`headers`](Self::headers) returned.
    pub(crate) fn restored(
        status: StatusCode,
        headers: HeaderMap,
        other_cache_status: Option<HeaderValue>,
        terms: StorageTerms,
        (data, trailers): (Bytes, Option<HeaderMap>),
        is_marked_stale: bool,
    ) -> Self {
        let StorageTerms { freshness, selecting_fields, part, tags, has_request_credentials, .. } = terms;
        let validators = Validators::from_headers(&headers);
        Self {
            status,
            headers,
            other_cache_status,
            content: OnceLock::from(Content { data, trailers: trailers.map(Box::new) }),
            selecting_fields,
            freshness,
            validators,
            part,
            tags,
            has_request_credentials,
            is_revalidating: AtomicBool::new(false),
            hits: AtomicU32::new(0),
            is_marked_stale: AtomicBool::new(is_marked_stale),
        }
    }

    /// Sets the `Content-Length` of the response.
    pub(crate) fn set_content_length(&mut self, length: u64) {
        // RFC 9110 §8.6: a 204 has no Content-Length.
        if self.status != StatusCode::NO_CONTENT {
            replace_value(&mut self.headers, &header::CONTENT_LENGTH, number_value(length));
        }
    }

    /// Sets the body and trailer section of the response, which can be set only once.
    pub(crate) fn set_content(&self, body: Bytes, trailers: Option<Box<HeaderMap>>) {
        let _ = self.content.set(Content { data: body, trailers });
    }

    pub(crate) fn with_body(mut self, body: Bytes) -> Self {
        self.set_content_length(body.len() as u64);
        self.set_content(body, None);
        self
    }

    /// Copies the body and trailer section of another response.
    pub(crate) fn with_content_of(mut self, other: &StoredResponse) -> Self {
        self.set_content_length(other.body().len() as u64);
        let trailers = other.content.get().and_then(|content| content.trailers.clone());
        self.set_content(other.body().clone(), trailers);
        self
    }

    /// Returns the body, or an empty body until it has arrived.
    pub(crate) fn body(&self) -> &Bytes {
        static EMPTY: Bytes = Bytes::new();
        self.content.get().map_or(&EMPTY, |content| &content.data)
    }

    pub(crate) fn trailers(&self) -> Option<&HeaderMap> {
        self.content.get()?.trailers.as_deref()
    }

    /// Returns the trailer fields to store, or `None` if the trailer section is too large.
    pub(crate) fn storable_trailers(&self, trailers: &HeaderMap) -> Option<HeaderMap> {
        const MAX_FIELDS: usize = 32;
        const MAX_SIZE: usize = 16 << 10;
        // Trailers of a part do not apply to the whole response.
        if self.part.is_some() {
            return Some(HeaderMap::new());
        }
        let excluded = ResponseDirectives::from_headers(&self.headers).excluded_fields;
        // A cookie is for one client, and has no defined meaning in trailers.
        let is_stored = |name: &HeaderName| *name != header::SET_COOKIE && !is_excluded(name, trailers, &excluded);
        let stored = copy_compactly(trailers, is_stored, 0);
        let size: usize = stored.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        (stored.len() <= MAX_FIELDS && size <= MAX_SIZE).then_some(stored)
    }

    pub(crate) fn other_cache_status(&self) -> Option<&HeaderValue> {
        self.other_cache_status.as_ref()
    }

    pub(crate) fn is_marked_stale(&self) -> bool {
        self.is_marked_stale.load(Ordering::Relaxed)
    }

    /// Returns the stored header section. `Age` and `Cache-Status` have no meaning in it.
    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Returns a complete response, derived from a partial response, with this body and these header fields.
    // RFC 9111 §3.4
    pub(crate) fn completed_with(&self, body: Bytes, mut headers: HeaderMap) -> Self {
        headers.remove(header::CONTENT_RANGE);
        self.derived(StatusCode::OK, headers, None).with_body(body)
    }

    /// Whether the missing bytes can be requested later if the body is incomplete.
    // RFC 9111 §3.3
    pub(crate) fn is_completable(&self) -> bool {
        let accepts_ranges = |value: &HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"none");
        let on_arrival = self.freshness.at(self.freshness.response_time);
        (self.status == StatusCode::OK || self.part.is_some())
            && self.validators.strong_tag().is_some()
            // As for other partial responses, see `StorageTerms::for_response`.
            && self.freshness.basis.is_explicit()
            && !self.freshness.no_cache
            && on_arrival.ttl > 0
            && self.headers.get_all(header::ACCEPT_RANGES).iter().all(accepts_ranges)
    }

    /// Returns a partial response with the received bytes `body`, the first of `length` bytes.
    pub(crate) fn truncated(&self, length: u64, body: Bytes) -> Option<Self> {
        let part = match &self.part {
            Some(part) => part.truncated(body.len() as u64)?,
            None => StoredRange::prefix(body.len() as u64, length)?,
        };
        let content_range = part.content_range(0, (body.len() as u64).checked_sub(1)?);
        let mut headers = self.headers.clone();
        headers.insert(header::CONTENT_RANGE, HeaderValue::try_from(content_range).ok()?);
        Some(self.derived(StatusCode::PARTIAL_CONTENT, headers, Some(part)).with_body(body))
    }

    /// Returns a response with the metadata of this response, but without its body.
    fn derived(&self, status: StatusCode, headers: HeaderMap, part: Option<StoredRange>) -> Self {
        Self {
            status,
            headers,
            other_cache_status: self.other_cache_status.clone(),
            content: OnceLock::new(),
            selecting_fields: self.selecting_fields.clone(),
            freshness: self.freshness.clone(),
            validators: self.validators.clone(),
            part,
            tags: self.tags.clone(),
            has_request_credentials: self.has_request_credentials,
            is_revalidating: AtomicBool::new(false),
            hits: AtomicU32::new(0),
            is_marked_stale: AtomicBool::new(self.is_marked_stale()),
        }
    }

    /// Whether this response stays stored when `newer` is stored under the same key.
    pub(crate) fn coexists_with(&self, newer: &StoredResponse) -> bool {
        if self.selecting_fields != newer.selecting_fields {
            return true;
        }
        match (&self.part, &newer.part) {
            (_, None) => false,
            (Some(old), Some(new)) if old.range().0 == new.range().0 => false,
            // RFC 9111 §3.4: parts of an earlier representation are outdated.
            (_, Some(_)) => {
                self.validators.etag == newer.validators.etag
                    && self.validators.last_modified == newer.validators.last_modified
            }
        }
    }

    /// Returns the first and last positions of the requested range in the body, if the partial response contains it.
    pub(crate) fn slice_for(&self, request: &HeaderMap) -> Option<(u64, u64)> {
        let part = self.part.as_ref().filter(|_| self.validators.allow_range(request, self.freshness.date))?;
        part.select(request, self.body().len() as u64)
    }

    /// Returns the header section for a response to a client.
    pub(crate) fn response_headers(&self, age: u64, member: Member) -> HeaderMap {
        let mut headers = self.headers.clone();
        // RFC 9111 §4
        replace_value(&mut headers, &header::AGE, number_value(age));
        replace_value(&mut headers, &CACHE_STATUS, member.appended_to(self.other_cache_status.as_ref()));
        headers
    }

    pub(crate) fn content_length(&self) -> Option<&HeaderValue> {
        self.headers.get(header::CONTENT_LENGTH)
    }

    pub(crate) fn content_length_value(&self) -> Option<u64> {
        self.content_length()?.to_str().ok()?.parse().ok()
    }

    /// Whether the response may be used for a request.
    ///
    /// A response without caching fields does not serve a client with credentials: the origin may have a response with the same
    /// `Last-Modified` for that client.
    pub(crate) fn may_serve(&self, request: &HeaderMap, request_specific: Option<RequestSpecificCheck>) -> bool {
        let is_permitted = self.freshness.is_permitted || !has_credentials(request);
        is_permitted && !request_specific.is_some_and(|is_specific| is_specific(&self.headers))
    }

    /// Returns the age and the remaining lifetime of the response.
    pub(crate) fn freshness_now(&self, now: Timestamp) -> FreshnessNow {
        let freshness_now = self.freshness.at(now);
        match self.is_marked_stale() {
            false => freshness_now,
            true => FreshnessNow { ttl: freshness_now.ttl.min(0), ..freshness_now },
        }
    }

    /// Marks the response as stale. Returns `false` if it is marked already.
    pub(crate) fn mark_stale(&self) -> bool {
        !self.is_marked_stale.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn hits(&self) -> u32 {
        self.hits.load(Ordering::Relaxed)
    }

    pub(crate) fn add_hits(&self, hits: u32) {
        self.hits.fetch_add(hits, Ordering::Relaxed);
    }

    pub(crate) fn tags(&self) -> &Tags {
        &self.tags
    }

    /// Whether the response can also serve the followers of its fetch.
    pub(crate) fn is_shareable(&self, now: Timestamp) -> bool {
        self.part.is_none() && !self.freshness.no_cache && self.freshness_now(now).ttl > 0
    }

    /// Marks the response as being revalidated, unless a revalidation is already running.
    pub(crate) fn begin_revalidation(self: &Arc<Self>) -> Option<RevalidationGuard> {
        let is_first = !self.is_revalidating.swap(true, Ordering::AcqRel);
        is_first.then(|| RevalidationGuard(Arc::clone(self)))
    }

    /// Returns the memory that the response occupies.
    pub(crate) fn weight(&self) -> usize {
        // The values that were set here do not share the allocation of the others.
        const SEPARATE_VALUES: usize = 128;
        memory_size::allocation(size_of::<Self>() + memory_size::REFERENCE_COUNTS)
            + memory_size::section(&self.headers)
            + SEPARATE_VALUES
            + memory_size::shared_bytes(self.other_cache_status.as_ref().map_or(0, HeaderValue::len))
            + self.selecting_fields.weight()
            + self.tags.weight()
            + self.part.as_ref().map_or(0, StoredRange::weight)
            + memory_size::shared_bytes(self.body().len())
            + self.trailers().map_or(0, memory_size::section)
    }
}

/// A guard that prevents a second revalidation of a stale response while one is running.
#[derive(Debug)]
pub(crate) struct RevalidationGuard(Arc<StoredResponse>);

impl Drop for RevalidationGuard {
    fn drop(&mut self) {
        self.0.is_revalidating.store(false, Ordering::Release);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::cache_status::ForwardReason;
    use crate::policy::storability::StorageRequest;
    use crate::policy::tags::TagKey;
    use crate::set_cookie::SetCookiePolicy;

    pub(crate) const NOW: u64 = 784_111_777;

    pub(crate) fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        map
    }

    pub(crate) fn at(seconds: u64) -> Timestamp {
        (UNIX_EPOCH + Duration::from_secs(seconds)).into()
    }

    pub(crate) fn request(headers: &HeaderMap) -> StorageRequest<'_> {
        StorageRequest {
            origin: "http://a.example",
            tag_generation: 0,
            tag_key: TagKey::new([0; 16]),
            path: "/",
            headers,
            is_authenticated: false,
            request_time: at(NOW),
            set_cookie: SetCookiePolicy::Strip,
            heuristic_freshness: false,
        }
    }

    pub(crate) fn stored(fields: &[(&str, &str)]) -> StoredResponse {
        let headers = map(fields);
        let nothing = HeaderMap::new();
        let terms = StorageTerms::for_response(request(&nothing), StatusCode::OK, &headers, at(NOW)).unwrap();
        StoredResponse::new(StatusCode::OK, &headers, terms).with_body(Bytes::from_static(b"hello"))
    }

    #[test]
    fn does_not_store_connection_specific_header_fields() {
        // RFC 9111 §3.1
        let stored = stored(&[
            ("cache-control", "max-age=60, no-cache=\"d\""),
            ("connection", "a, B"),
            ("connection", "close"),
            ("a", "1"),
            ("b", "2"),
            ("c", "3"),
            ("c", "4"),
            ("d", "5"),
            ("keep-alive", "timeout=5"),
            ("proxy-authenticate", "x"),
            ("proxy-authentication-info", "x"),
            ("proxy-connection", "x"),
            ("te", "x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "x"),
            ("age", "7"),
        ]);
        let head = stored.response_headers(9, Member::hit());
        let mut names: Vec<_> = head.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["age", "c", "cache-control", "cache-status", "content-length", "date"]);
        assert_eq!(head.get_all("c").iter().collect::<Vec<_>>(), ["3", "4"]);
        assert_eq!((&head["age"], &head["content-length"]), (&"9".parse().unwrap(), &"5".parse().unwrap()));
        assert_eq!(head["date"], "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn appends_its_cache_status_member_to_those_of_other_caches() {
        // RFC 9211 §2
        let stored =
            stored(&[("cache-control", "max-age=60"), ("cache-status", "A; hit"), ("cache-status", "B; fwd=miss")]);
        let head = stored.response_headers(0, Member::forwarded(ForwardReason::Stale));
        assert_eq!(head.get_all("cache-status").iter().collect::<Vec<_>>(), ["A; hit, B; fwd=miss, rproxy; fwd=stale"]);
    }

    #[test]
    fn allows_only_one_revalidation_of_a_response_at_a_time() {
        let stored = Arc::new(stored(&[("cache-control", "max-age=1")]));
        let first = stored.begin_revalidation();
        assert!(first.is_some() && stored.begin_revalidation().is_none());
        drop(first);
        assert!(stored.begin_revalidation().is_some());
    }
}
