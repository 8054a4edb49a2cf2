//! The completion of a response that is stored in part, by a request for the bytes that it lacks.
//!
//! RFC 9111 §3.3 and §3.4, RFC 9110 §14.2 and §15.3.7.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode, response};

use crate::cache_status::CACHE_STATUS;
use crate::fields::add_missing;
use crate::hooks::IsForOneRequest;
use crate::range::{Part, PartOf};
use crate::resource::Resource;
use crate::stored::StoredResponse;
use crate::validation::is_conditional;
use crate::vary::Compared;

/// The stored bytes of a representation, and the one range of it that a request needs beside them.
#[derive(Debug)]
pub(crate) struct Completion {
    /// The most recent part. It has the validator, and the fields that the origin's response may leave out.
    newest: Arc<StoredResponse>,
    parts: Vec<Arc<StoredResponse>>,
    complete_length: u64,
    /// The range that the client wants, both ends included. `None`: the whole.
    range: Option<(u64, u64)>,
    /// The range that is not stored.
    gap: (u64, u64),
}

impl Completion {
    /// Returns how the stored parts of `resource` can be completed for `request`. `None`: they are of no use to it.
    pub(crate) fn new(resource: &Resource, request: &HeaderMap, is_for_one: Option<IsForOneRequest>) -> Option<Self> {
        // The origin is to answer the client's condition, and not ours.
        if is_conditional(request) {
            return None;
        }
        let has_range = request.contains_key(header::RANGE);
        let mut compared = Compared::new(request);
        let usable = resource.variants().iter().filter(|variant| {
            is_sound(variant)
                && variant.may_answer(request, is_for_one)
                && (!has_range || variant.validators.allow_range(request, variant.freshness.date))
                && variant.selecting.matches(&mut compared)
        });
        let usable: Vec<&Arc<StoredResponse>> = usable.collect();
        let newest = *usable.iter().max_by_key(|part| (part.freshness.date, part.freshness.response_time))?;
        let complete_length = newest.part.as_ref()?.complete_length();
        let range = match Part::of(request, complete_length) {
            Part::Single { first, last } => Some((first, last)),
            Part::Whole if !has_range => None,
            Part::Whole | Part::Several(_) | Part::Unsatisfiable => return None,
        };
        let mut parts: Vec<Arc<StoredResponse>> =
            usable.into_iter().filter(|part| is_of_same(part, newest)).cloned().collect();
        parts.sort_unstable_by_key(|part| place(part));
        let (first, last) = range.unwrap_or((0, complete_length.checked_sub(1)?));
        let gap = gap(parts.iter().map(|part| place(part)), first, last)?;
        // Nothing of what is wanted is stored.
        if gap == (first, last) {
            return None;
        }
        Some(Self { newest: Arc::clone(newest), parts, complete_length, range, gap })
    }

    /// Has a request name the bytes that are not stored, and the validator that the others have.
    pub(crate) fn prepare(&self, request: &mut HeaderMap) {
        let Some(tag) = self.newest.validators.strong_tag() else { return };
        request.insert(header::RANGE, self.range_field());
        request.insert(header::IF_RANGE, tag.clone());
    }

    /// The `Range` of the bytes that are not stored.
    fn range_field(&self) -> HeaderValue {
        let (first, last) = self.gap;
        let text = match last + 1 == self.complete_length {
            true => format!("bytes={first}-"),
            false => format!("bytes={first}-{last}"),
        };
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("bytes=0-"))
    }

    /// Whether a response has the bytes that are not stored, and nothing else.
    // RFC 9110 §15.3.7.3
    pub(crate) fn is_answered_by(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        let lines = |name| headers.get_all(name).iter();
        let content_range = HeaderMap::from_iter([(header::RANGE, self.range_field())]);
        let part = PartOf::new(&content_range, headers).map(|part| (part.range(), part.complete_length()));
        let same_length =
            |value: &HeaderValue| value.to_str().ok().and_then(|text| text.parse().ok()) == Some(self.gap_length());
        let same_coding = !headers.contains_key(header::CONTENT_ENCODING)
            || lines(header::CONTENT_ENCODING).eq(self.newest.headers().get_all(header::CONTENT_ENCODING));
        status == StatusCode::PARTIAL_CONTENT
            && part == Some((self.gap, self.complete_length))
            && self.newest.validators.is_strong_of(headers)
            && lines(header::CONTENT_LENGTH).all(same_length)
            && same_coding
    }

    /// Whether a request has to be sent again as the client sent it, as `response` is neither the missing part nor an answer
    /// that can stand by itself.
    pub(crate) fn is_unusable<B>(&self, response: &Response<B>) -> bool {
        let depends_on_request = matches!(response.status().as_u16(), 206 | 304 | 412 | 416);
        depends_on_request && !self.is_answered_by(response.status(), response.headers())
    }

    /// The head of the response to the client, made of the head of the response that has the missing part.
    // RFC 9111 §3.4
    pub(crate) fn head(&self, mut part: response::Parts) -> response::Parts {
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

    /// The header section of the missing part, with the fields that it leaves out because the client is to have them already.
    // RFC 9110 §15.3.7
    pub(crate) fn part_headers(&self, part: &HeaderMap) -> HeaderMap {
        let mut headers = part.clone();
        self.add_stored_fields(&mut headers);
        headers
    }

    fn add_stored_fields(&self, headers: &mut HeaderMap) {
        let mut stored = self.newest.headers().clone();
        // These are about the stored part, or about its exchange.
        for name in
            [header::AGE, CACHE_STATUS, header::CONTENT_LENGTH, header::CONTENT_RANGE, header::DATE, header::SET_COOKIE]
        {
            stored.remove(name);
        }
        add_missing(headers, &stored);
    }

    /// The header section of the request for the missing part, as made from that of the client's request.
    pub(crate) fn request_headers(&self, request: &HeaderMap) -> HeaderMap {
        let mut headers = request.clone();
        self.prepare(&mut headers);
        headers
    }

    pub(crate) fn is_of_whole(&self) -> bool {
        self.range.is_none()
    }

    pub(crate) fn gap_length(&self) -> u64 {
        self.gap.1 - self.gap.0 + 1
    }

    /// The stored bytes before and after those that are not stored.
    pub(crate) fn stored_bytes(&self) -> (Vec<Bytes>, Vec<Bytes>) {
        let (first, last) = self.range.unwrap_or((0, self.complete_length - 1));
        let (before, after) = (first..self.gap.0, self.gap.1 + 1..last + 1);
        (self.slices(before), self.slices(after))
    }

    /// The stored bytes in `range`, which is covered by the parts.
    fn slices(&self, range: std::ops::Range<u64>) -> Vec<Bytes> {
        let mut slices = Vec::new();
        let mut next = range.start;
        for part in &self.parts {
            let (first, last) = place(part);
            if next >= range.end {
                break;
            }
            if first <= next && next <= last {
                let end = range.end.min(last + 1);
                // Both lie within the part, whose body is in memory.
                slices.push(part.body().slice((next - first) as usize..(end - first) as usize));
                next = end;
            }
        }
        slices
    }

    /// The stored parts.
    pub(crate) fn parts(&self) -> &[Arc<StoredResponse>] {
        &self.parts
    }
}

/// Whether a variant is a part with a strong validator that has all of its bytes.
fn is_sound(variant: &StoredResponse) -> bool {
    let is_whole_part = variant.part.as_ref().is_some_and(|part| part.length() == variant.body().len() as u64);
    is_whole_part && variant.validators.strong_tag().is_some()
}

/// Whether two parts are of one representation.
fn is_of_same(part: &StoredResponse, newest: &StoredResponse) -> bool {
    let length = |response: &StoredResponse| response.part.as_ref().map(PartOf::complete_length);
    part.validators.etag == newest.validators.etag
        && part.selecting == newest.selecting
        && length(part) == length(newest)
}

/// The first and the last byte of a part.
fn place(part: &StoredResponse) -> (u64, u64) {
    part.part.as_ref().map_or((0, 0), PartOf::range)
}

/// Returns the one range that remains of `first` to `last` when stored ranges are cut off at both ends. `None`: nothing remains.
fn gap(stored: impl DoubleEndedIterator<Item = (u64, u64)> + Clone, first: u64, last: u64) -> Option<(u64, u64)> {
    let (mut start, mut end) = (first, last);
    for (stored_first, stored_last) in stored.clone() {
        if stored_first <= start && start <= stored_last {
            if stored_last >= end {
                return None;
            }
            start = stored_last + 1;
        }
    }
    // By their last bytes, as parts may overlap.
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
    fn one_range_remains_between_the_stored_ones() {
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
            assert_eq!(gap(stored.iter().copied(), wanted.0, wanted.1), expected, "{stored:?} {wanted:?}");
        }
    }
}
