//! The completion of incomplete stored responses (RFC 9111 §3.3 and §3.4).
//!
//! A request for the missing bytes (RFC 9110 §14.2 and §15.3.7) replaces the request for all of them.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode, response};

use crate::cache_status::CACHE_STATUS;
use crate::hooks::RequestSpecificCheck;
use crate::policy::range::{RequestedRange, StoredRange};
use crate::policy::stored_fields::add_missing;
use crate::policy::validators::is_conditional;
use crate::policy::vary::RequestFields;
use crate::store::resource::Resource;
use crate::store::stored_response::StoredResponse;

/// The stored parts of a representation, and the missing range that a request needs.
#[derive(Debug)]
pub(crate) struct Completion {
    /// The most recent stored part. It has the validator, and the fields that a 206 response to `If-Range` can omit.
    newest: Arc<StoredResponse>,
    parts: Vec<Arc<StoredResponse>>,
    complete_length: u64,
    /// The first and last byte positions that the client requested. `None` is the whole response.
    range: Option<(u64, u64)>,
    /// The first and last byte positions of the missing range.
    missing: (u64, u64),
}

impl Completion {
    /// Returns the completion for a request, if usable parts of the response are stored.
    pub(crate) fn new(
        resource: &Resource,
        request: &HeaderMap,
        request_specific: Option<RequestSpecificCheck>,
    ) -> Option<Self> {
        // The origin evaluates the condition of the client.
        if is_conditional(request) {
            return None;
        }
        let has_range = request.contains_key(header::RANGE);
        let mut compared = RequestFields::new(request);
        let usable = resource.variants().iter().filter(|variant| {
            is_completable(variant)
                && variant.may_serve(request, request_specific)
                && (!has_range || variant.validators.allow_range(request, variant.freshness.date))
                && variant.selecting_fields.matches(&mut compared)
        });
        let usable: Vec<&Arc<StoredResponse>> = usable.collect();
        let newest = *usable.iter().max_by_key(|part| (part.freshness.date, part.freshness.response_time))?;
        let complete_length = newest.part.as_ref()?.complete_length();
        let range = match RequestedRange::from_headers(request, complete_length) {
            RequestedRange::Single { first, last } => Some((first, last)),
            RequestedRange::Whole if !has_range => None,
            RequestedRange::Whole | RequestedRange::Multiple(_) | RequestedRange::Unsatisfiable => return None,
        };
        let mut parts: Vec<Arc<StoredResponse>> =
            usable.into_iter().filter(|part| is_same_representation(part, newest)).cloned().collect();
        parts.sort_unstable_by_key(|part| position(part));
        let (first, last) = range.unwrap_or((0, complete_length.checked_sub(1)?));
        let missing = missing_range(parts.iter().map(|part| position(part)), first, last)?;
        // No stored byte is requested.
        if missing == (first, last) {
            return None;
        }
        Some(Self { newest: Arc::clone(newest), parts, complete_length, range, missing })
    }

    /// Changes a request into a conditional request for the missing range, with `Range` and `If-Range`.
    pub(crate) fn prepare(&self, request: &mut HeaderMap) {
        let Some(tag) = self.newest.validators.strong_tag() else { return };
        request.insert(header::RANGE, self.range_field());
        request.insert(header::IF_RANGE, tag.clone());
    }

    /// Returns the `Range` field value for the missing range.
    fn range_field(&self) -> HeaderValue {
        let (first, last) = self.missing;
        let text = match last + 1 == self.complete_length {
            true => format!("bytes={first}-"),
            false => format!("bytes={first}-{last}"),
        };
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("bytes=0-"))
    }

    /// Whether a response contains exactly the missing range of the stored representation.
    // RFC 9110 §15.3.7.3
    pub(crate) fn is_answered_by(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        let lines = |name| headers.get_all(name).iter();
        let content_range = HeaderMap::from_iter([(header::RANGE, self.range_field())]);
        let part = StoredRange::new(&content_range, headers).map(|part| (part.range(), part.complete_length()));
        let same_length =
            |value: &HeaderValue| value.to_str().ok().and_then(|text| text.parse().ok()) == Some(self.missing_length());
        let same_coding = !headers.contains_key(header::CONTENT_ENCODING)
            || lines(header::CONTENT_ENCODING).eq(self.newest.headers().get_all(header::CONTENT_ENCODING));
        status == StatusCode::PARTIAL_CONTENT
            && part == Some((self.missing, self.complete_length))
            && self.newest.validators.strongly_match(headers)
            && lines(header::CONTENT_LENGTH).all(same_length)
            && same_coding
    }

    /// Whether a response is unusable, so that the original request must be sent.
    ///
    /// It depends on the range or the condition of the forwarded request, and does not contain the missing range.
    pub(crate) fn is_unusable<B>(&self, response: &Response<B>) -> bool {
        let depends_on_request = matches!(response.status().as_u16(), 206 | 304 | 412 | 416);
        depends_on_request && !self.is_answered_by(response.status(), response.headers())
    }

    /// Builds the response head for the client from the head of the missing part.
    // RFC 9111 §3.4
    pub(crate) fn client_head(&self, mut part: response::Parts) -> response::Parts {
        self.add_stored_fields(&mut part.headers);
        let length = match self.range {
            None => {
                part.status = StatusCode::OK;
                part.headers.remove(header::CONTENT_RANGE);
                self.complete_length
            }
            Some((first, last)) => {
                let text = format!("bytes {first}-{last}/{}", self.complete_length);
                if let Ok(content_range) = HeaderValue::try_from(text) {
                    part.headers.insert(header::CONTENT_RANGE, content_range);
                }
                last - first + 1
            }
        };
        part.headers.insert(header::CONTENT_LENGTH, length.into());
        part
    }

    /// Returns the header section of the missing part, with the stored fields that a 206 response can omit.
    // RFC 9110 §15.3.7
    pub(crate) fn part_headers(&self, part: &HeaderMap) -> HeaderMap {
        let mut headers = part.clone();
        self.add_stored_fields(&mut headers);
        headers
    }

    fn add_stored_fields(&self, headers: &mut HeaderMap) {
        let mut stored = self.newest.headers().clone();
        // These fields describe the stored part or its exchange.
        for name in
            [header::AGE, CACHE_STATUS, header::CONTENT_LENGTH, header::CONTENT_RANGE, header::DATE, header::SET_COOKIE]
        {
            stored.remove(name);
        }
        add_missing(headers, &stored);
    }

    /// Returns the request header section for the missing range.
    pub(crate) fn request_headers(&self, request: &HeaderMap) -> HeaderMap {
        let mut headers = request.clone();
        self.prepare(&mut headers);
        headers
    }

    /// Whether the client requested the complete response.
    pub(crate) fn is_of_whole(&self) -> bool {
        self.range.is_none()
    }

    /// Returns the length of the missing range in bytes.
    pub(crate) fn missing_length(&self) -> u64 {
        self.missing.1 - self.missing.0 + 1
    }

    /// Returns the stored bytes before and after the missing range.
    pub(crate) fn stored_bytes(&self) -> (Vec<Bytes>, Vec<Bytes>) {
        let (first, last) = self.range.unwrap_or((0, self.complete_length - 1));
        let (before, after) = (first..self.missing.0, self.missing.1 + 1..last + 1);
        (self.slices(before), self.slices(after))
    }

    /// Returns the stored bytes in a range that the stored parts cover.
    fn slices(&self, range: std::ops::Range<u64>) -> Vec<Bytes> {
        let mut slices = Vec::new();
        let mut next = range.start;
        for part in &self.parts {
            let (first, last) = position(part);
            if next >= range.end {
                break;
            }
            if first <= next && next <= last {
                let end = range.end.min(last + 1);
                // Both positions lie within the body of the part.
                slices.push(part.body().slice((next - first) as usize..(end - first) as usize));
                next = end;
            }
        }
        slices
    }

    /// Returns the stored parts of the representation.
    pub(crate) fn parts(&self) -> &[Arc<StoredResponse>] {
        &self.parts
    }
}

/// Whether a variant is a completely received part with a strong entity tag.
fn is_completable(variant: &StoredResponse) -> bool {
    let is_whole_part = variant.part.as_ref().is_some_and(|part| part.length() == variant.body().len() as u64);
    is_whole_part && variant.validators.strong_tag().is_some()
}

/// Whether two stored parts belong to the same representation.
fn is_same_representation(part: &StoredResponse, newest: &StoredResponse) -> bool {
    let length = |response: &StoredResponse| response.part.as_ref().map(StoredRange::complete_length);
    part.validators.etag == newest.validators.etag
        && part.selecting_fields == newest.selecting_fields
        && length(part) == length(newest)
}

/// Returns the first and last byte positions of a part.
fn position(part: &StoredResponse) -> (u64, u64) {
    part.part.as_ref().map_or((0, 0), StoredRange::range)
}

/// Returns the range from `first` to `last` without the stored ranges at its ends, if it is not empty.
fn missing_range(
    stored: impl DoubleEndedIterator<Item = (u64, u64)> + Clone,
    first: u64,
    last: u64,
) -> Option<(u64, u64)> {
    let (mut start, mut end) = (first, last);
    for (stored_first, stored_last) in stored.clone() {
        if stored_first <= start && start <= stored_last {
            if stored_last >= end {
                return None;
            }
            start = stored_last + 1;
        }
    }
    // In descending order of their ends, since parts can overlap.
    let mut by_end: Vec<(u64, u64)> = stored.collect();
    by_end.sort_unstable_by_key(|(_, stored_last)| std::cmp::Reverse(*stored_last));
    for (stored_first, stored_last) in by_end {
        if stored_last >= end && stored_first <= end {
            if stored_first <= start {
                return None;
            }
            end = stored_first - 1;
        }
    }
    Some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_range_excludes_stored_ranges_at_both_ends() {
        for (stored, wanted, expected) in [
            (&[(0, 4)][..], (0, 9), Some((5, 9))),
            (&[(5, 9)], (0, 9), Some((0, 4))),
            (&[(0, 1), (8, 9)], (0, 9), Some((2, 7))),
            (&[(0, 3), (2, 5)], (0, 9), Some((6, 9))),
            (&[(0, 1), (4, 5)], (0, 9), Some((2, 9))),
            (&[(3, 5), (6, 9)], (0, 9), Some((0, 2))),
            (&[(2, 9), (6, 9)], (0, 9), Some((0, 1))),
            (&[(4, 5)], (0, 9), Some((0, 9))),
            (&[(0, 4)], (3, 7), Some((5, 7))),
            (&[(6, 9)], (3, 7), Some((3, 5))),
            (&[(0, 4)], (5, 9), Some((5, 9))),
            (&[(0, 4)], (1, 3), None),
            (&[(0, 4), (5, 9)], (0, 9), None),
            (&[(0, 4), (3, 9)], (0, 9), None),
        ] {
            assert_eq!(missing_range(stored.iter().copied(), wanted.0, wanted.1), expected, "{stored:?} {wanted:?}");
        }
    }
}
