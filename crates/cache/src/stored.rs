//! A stored response: its head in a form that a hit can copy cheaply, and its body.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};

use crate::cache_control::ResponseDirectives;
use crate::cache_status::{CACHE_STATUS, Member, number};
use crate::clock::Timestamp;
use crate::credentials::has_credentials;
use crate::date;
use crate::fields::{combined, compact, is_unstored, replace};
use crate::freshness::{Freshness, Moment};
use crate::hooks::IsForOneRequest;
use crate::memory;
use crate::range::PartOf;
use crate::storing::Terms;
use crate::tags::Tags;
use crate::validation::Validators;
use crate::vary::Selecting;

#[derive(Debug)]
pub(crate) struct StoredResponse {
    pub(crate) status: StatusCode,
    /// Already holds `Age` and `Cache-Status`, so that a hit replaces values in place.
    headers: HeaderMap,
    /// The `Cache-Status` of caches nearer to the origin.
    nearer: Option<HeaderValue>,
    content: OnceLock<Content>,
    pub(crate) selecting: Selecting,
    pub(crate) freshness: Freshness,
    pub(crate) validators: Validators,
    /// Of a 206.
    pub(crate) part: Option<PartOf>,
    tags: Tags,
    /// Whether the request that it answered had credentials.
    pub(crate) is_personal: bool,
    revalidating: AtomicBool,
    /// Requests that it answered, roughly.
    uses: AtomicU32,
    /// Purged softly: stale, however young it is.
    expired: AtomicBool,
}

/// A body, and the trailer section that came after it: RFC 9111 §3.1 wants it kept apart from the header section.
#[derive(Clone, Debug, Default)]
struct Content {
    data: Bytes,
    trailers: Option<Box<HeaderMap>>,
}

impl StoredResponse {
    /// The head of a response whose body is still to come.
    pub(crate) fn new(status: StatusCode, headers: &HeaderMap, terms: Terms) -> Self {
        let Terms { freshness, selecting, unstored, part, tags, is_personal } = terms;
        let mut stored = compact(headers, |name| !is_unstored(name, headers, &unstored), 4);
        // RFC 9110 §6.6.1: a response without a valid Date gets the time it arrived.
        if date::of(&stored, header::DATE).is_none()
            && let Some(date) = date::value(freshness.date)
        {
            stored.insert(header::DATE, date);
        }
        let nearer = combined(headers, &CACHE_STATUS);
        stored.insert(header::AGE, HeaderValue::from_static("0"));
        stored.insert(CACHE_STATUS, HeaderValue::from_static("rproxy"));
        if status != StatusCode::NO_CONTENT {
            // What is known of it comes later; but its place is to be among those that are counted.
            stored.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        // A clone has room for what there is and no more.
        let stored = stored.clone();
        let validators = Validators::of(&stored);
        Self {
            status,
            headers: stored,
            nearer,
            content: OnceLock::new(),
            selecting,
            freshness,
            validators,
            part,
            tags,
            is_personal,
            revalidating: AtomicBool::new(false),
            uses: AtomicU32::new(0),
            expired: AtomicBool::new(false),
        }
    }

    /// One that was kept elsewhere: `headers` are those of [`headers`](Self::headers).
    pub(crate) fn restored(
        status: StatusCode,
        headers: HeaderMap,
        nearer: Option<HeaderValue>,
        terms: Terms,
        (data, trailers): (Bytes, Option<HeaderMap>),
        has_expired: bool,
    ) -> Self {
        let Terms { freshness, selecting, part, tags, is_personal, .. } = terms;
        let validators = Validators::of(&headers);
        let expired = AtomicBool::new(has_expired);
        Self {
            status,
            headers,
            nearer,
            content: OnceLock::from(Content { data, trailers: trailers.map(Box::new) }),
            selecting,
            freshness,
            validators,
            part,
            tags,
            is_personal,
            revalidating: AtomicBool::new(false),
            uses: AtomicU32::new(0),
            expired,
        }
    }

    /// The length of the body that is to come.
    pub(crate) fn announce(&mut self, length: u64) {
        // RFC 9110 §8.6: a 204 has no Content-Length, and no place for it.
        if self.status != StatusCode::NO_CONTENT {
            replace(&mut self.headers, &header::CONTENT_LENGTH, number(length));
        }
    }

    /// The body has come: once, to all who have the head already.
    pub(crate) fn complete(&self, body: Bytes, trailers: Option<Box<HeaderMap>>) {
        let _ = self.content.set(Content { data: body, trailers });
    }

    pub(crate) fn with_body(mut self, body: Bytes) -> Self {
        self.announce(body.len() as u64);
        self.complete(body, None);
        self
    }

    /// With the body and the trailer section of another response.
    pub(crate) fn with_content_of(self, other: &StoredResponse) -> Self {
        let mut response = self;
        response.announce(other.body().len() as u64);
        response.complete(other.body().clone(), other.content.get().and_then(|content| content.trailers.clone()));
        response
    }

    pub(crate) fn body(&self) -> &Bytes {
        static NONE: Bytes = Bytes::new();
        self.content.get().map_or(&NONE, |content| &content.data)
    }

    pub(crate) fn trailers(&self) -> Option<&HeaderMap> {
        self.content.get()?.trailers.as_deref()
    }

    /// The fields of a trailer section that are stored with this response. `None`: there are too many.
    pub(crate) fn storable_trailers(&self, trailers: &HeaderMap) -> Option<HeaderMap> {
        const MOST: usize = 32;
        const LARGEST: usize = 16 << 10;
        // What ends a part says nothing of the whole.
        if self.part.is_some() {
            return Some(HeaderMap::new());
        }
        let unstored = ResponseDirectives::of(&self.headers).unstored;
        // A cookie is for one client, and has no meaning here.
        let is_stored = |name: &HeaderName| *name != header::SET_COOKIE && !is_unstored(name, trailers, &unstored);
        let stored = compact(trailers, is_stored, 0);
        let size: usize = stored.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        (stored.len() <= MOST && size <= LARGEST).then_some(stored)
    }

    pub(crate) fn nearer(&self) -> Option<&HeaderValue> {
        self.nearer.as_ref()
    }

    pub(crate) fn has_expired(&self) -> bool {
        self.expired.load(Ordering::Relaxed)
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The whole that this is a part of, with these fields: RFC 9111 §3.4.
    pub(crate) fn completed_by(&self, body: Bytes, mut headers: HeaderMap) -> Self {
        headers.remove(header::CONTENT_RANGE);
        self.like(StatusCode::OK, headers, None).with_body(body)
    }

    /// Whether the rest of this response can be requested later, should its body break off: RFC 9111 §3.3.
    pub(crate) fn is_completable(&self) -> bool {
        let accepts_ranges = |value: &HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"none");
        let moment = self.freshness.moment(self.freshness.response_time);
        (self.status == StatusCode::OK || self.part.is_some())
            && self.validators.strong_tag().is_some()
            // As of other parts.
            && self.freshness.basis.is_explicit()
            && !self.freshness.no_cache
            && moment.ttl > 0
            && self.headers.get_all(header::ACCEPT_RANGES).iter().all(accepts_ranges)
    }

    /// The part of this response that has come: `body`, the first of `length` bytes.
    pub(crate) fn cut_off(&self, length: u64, body: Bytes) -> Option<Self> {
        let part = match &self.part {
            Some(part) => part.cut_off(body.len() as u64)?,
            None => PartOf::beginning(body.len() as u64, length)?,
        };
        let content_range = part.content_range(0, (body.len() as u64).checked_sub(1)?);
        let mut headers = self.headers.clone();
        headers.insert(header::CONTENT_RANGE, HeaderValue::try_from(content_range).ok()?);
        Some(self.like(StatusCode::PARTIAL_CONTENT, headers, Some(part)).with_body(body))
    }

    /// A response of the same exchange without its body.
    fn like(&self, status: StatusCode, headers: HeaderMap, part: Option<PartOf>) -> Self {
        Self {
            status,
            headers,
            nearer: self.nearer.clone(),
            content: OnceLock::new(),
            selecting: self.selecting.clone(),
            freshness: self.freshness.clone(),
            validators: self.validators.clone(),
            part,
            tags: self.tags.clone(),
            is_personal: self.is_personal,
            revalidating: AtomicBool::new(false),
            uses: AtomicU32::new(0),
            expired: AtomicBool::new(self.has_expired()),
        }
    }

    /// Whether `newer` leaves this one in its place.
    pub(crate) fn stays_beside(&self, newer: &StoredResponse) -> bool {
        if self.selecting != newer.selecting {
            return true;
        }
        match (&self.part, &newer.part) {
            (_, None) => false,
            (Some(old), Some(new)) if old.first == new.first => false,
            // RFC 9111 §3.4: parts of what the resource was say nothing of what it is.
            (_, Some(_)) => {
                self.validators.etag == newer.validators.etag
                    && self.validators.last_modified == newer.validators.last_modified
            }
        }
    }

    /// Which bytes of a stored part make the whole answer to `request`. `None`: not this part.
    pub(crate) fn answers_in_part(&self, request: &HeaderMap) -> Option<(u64, u64)> {
        let part = self.part.as_ref().filter(|_| self.validators.allow_range(request, self.freshness.date))?;
        part.select(request, self.body().len() as u64)
    }

    /// The header section of a response made of this one.
    pub(crate) fn head(&self, age: u64, member: Member) -> HeaderMap {
        let mut headers = self.headers.clone();
        // RFC 9111 §4: a stored response is sent with its Age.
        replace(&mut headers, &header::AGE, number(age));
        replace(&mut headers, &CACHE_STATUS, member.after(self.nearer.as_ref()));
        headers
    }

    pub(crate) fn content_length(&self) -> Option<&HeaderValue> {
        self.headers.get(header::CONTENT_LENGTH)
    }

    /// Whether it may be the answer to `request`. What says nothing about caching is not for a client with credentials:
    /// the origin may have a response of the same `Last-Modified` for that client alone.
    pub(crate) fn may_answer(&self, request: &HeaderMap, is_for_one: Option<IsForOneRequest>) -> bool {
        let is_permitted = self.freshness.is_permitted || !has_credentials(request);
        is_permitted && !is_for_one.is_some_and(|is_for_one| is_for_one(&self.headers))
    }

    /// How old it is, and what is left of its lifetime.
    pub(crate) fn moment(&self, now: Timestamp) -> Moment {
        let moment = self.freshness.moment(now);
        match self.has_expired() {
            false => moment,
            true => Moment { ttl: moment.ttl.min(0), ..moment },
        }
    }

    /// Makes it stale, as if its lifetime ended now. `false` if it was so already.
    pub(crate) fn expire(&self) -> bool {
        !self.expired.swap(true, Ordering::Relaxed)
    }

    /// How many requests it answered.
    pub(crate) fn uses(&self) -> u32 {
        self.uses.load(Ordering::Relaxed)
    }

    pub(crate) fn add_uses(&self, uses: u32) {
        self.uses.fetch_add(uses, Ordering::Relaxed);
    }

    pub(crate) fn tags(&self) -> &Tags {
        &self.tags
    }

    /// Whether it may answer other requests than the one that it was made for.
    pub(crate) fn is_shareable(&self, now: Timestamp) -> bool {
        self.part.is_none() && !self.freshness.no_cache && self.moment(now).ttl > 0
    }

    pub(crate) fn announced_length(&self) -> Option<u64> {
        self.content_length()?.to_str().ok()?.parse().ok()
    }

    /// `None` if someone else is at it.
    pub(crate) fn begin_revalidation(self: &Arc<Self>) -> Option<Revalidation> {
        let begun = !self.revalidating.swap(true, Ordering::AcqRel);
        begun.then(|| Revalidation(Arc::clone(self)))
    }

    /// What this takes in memory.
    pub(crate) fn weight(&self) -> usize {
        // The values of a head share one block, save the few that were made here.
        const MADE_HERE: usize = 128;
        memory::block(size_of::<Self>() + memory::REFERENCE_COUNTS)
            + memory::section(&self.headers)
            + MADE_HERE
            + memory::shared(self.nearer.as_ref().map_or(0, HeaderValue::len))
            + self.selecting.weight()
            + self.tags.weight()
            + self.part.as_ref().map_or(0, PartOf::weight)
            + memory::shared(self.body().len())
            + self.trailers().map_or(0, memory::section)
    }
}

/// Held while a stale response is validated in the background, so that it happens once.
#[derive(Debug)]
pub(crate) struct Revalidation(Arc<StoredResponse>);

impl Drop for Revalidation {
    fn drop(&mut self) {
        self.0.revalidating.store(false, Ordering::Release);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::cache_status::Forwarded;
    use crate::set_cookie::SetCookie;
    use crate::storing::Request;
    use crate::tags::TagKey;

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

    pub(crate) fn request(headers: &HeaderMap) -> Request<'_> {
        Request {
            origin: "http://a.example",
            tagged: 0,
            tag_key: TagKey::new([0; 16]),
            path: "/",
            headers,
            request_time: at(NOW),
            set_cookie: SetCookie::Strip,
            heuristic: false,
        }
    }

    pub(crate) fn stored(fields: &[(&str, &str)]) -> StoredResponse {
        let headers = map(fields);
        let nothing = HeaderMap::new();
        let terms = Terms::for_response(request(&nothing), StatusCode::OK, &headers, at(NOW)).unwrap();
        StoredResponse::new(StatusCode::OK, &headers, terms).with_body(Bytes::from_static(b"hello"))
    }

    #[test]
    fn what_belongs_to_the_connection_is_not_stored() {
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
        let head = stored.head(9, Member::hit());
        let mut names: Vec<_> = head.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["age", "c", "cache-control", "cache-status", "content-length", "date"]);
        assert_eq!(head.get_all("c").iter().collect::<Vec<_>>(), ["3", "4"]);
        assert_eq!((&head["age"], &head["content-length"]), (&"9".parse().unwrap(), &"5".parse().unwrap()));
        assert_eq!(head["date"], "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn caches_nearer_to_the_origin_come_first_in_cache_status() {
        // RFC 9211 §2
        let stored =
            stored(&[("cache-control", "max-age=60"), ("cache-status", "A; hit"), ("cache-status", "B; fwd=miss")]);
        let head = stored.head(0, Member::forwarded(Forwarded::Stale));
        assert_eq!(head.get_all("cache-status").iter().collect::<Vec<_>>(), ["A; hit, B; fwd=miss, rproxy; fwd=stale"]);
    }

    #[test]
    fn only_one_revalidates() {
        let stored = Arc::new(stored(&[("cache-control", "max-age=1")]));
        let first = stored.begin_revalidation();
        assert!(first.is_some() && stored.begin_revalidation().is_none());
        drop(first);
        assert!(stored.begin_revalidation().is_some());
    }
}
