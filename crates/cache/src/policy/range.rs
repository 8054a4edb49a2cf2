//! The range that a request selects, and the range of a stored partial response (RFC 9110 §14).

use http::HeaderMap;
use http::header;

use crate::memory_size::allocation;

/// The requested range, relative to a complete response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RequestedRange {
    /// The complete response, because `Range` is missing, malformed, excessive or has an unknown unit.
    Whole,
    /// The bytes from `first` to `last`, inclusive.
    Single { first: u64, last: u64 },
    /// Several byte ranges in the order of the request. They do not overlap, and their number is limited.
    Multiple(Vec<(u64, u64)>),
    /// No requested range lies within the response.
    Unsatisfiable,
}

impl RequestedRange {
    /// Parses the `Range` field of a request, for a response with `complete_length` bytes.
    pub(crate) fn from_headers(headers: &HeaderMap, complete_length: u64) -> Self {
        let mut values = headers.get_all(header::RANGE).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return Self::Whole;
        };
        let Some(set) = value.to_str().ok().and_then(byte_ranges) else {
            return Self::Whole;
        };
        if set.contains(',') {
            if set.len() > MAX_SET_LENGTH {
                return Self::Whole;
            }
            return Self::multiple(set, complete_length).unwrap_or(Self::Whole);
        }
        match RangeSpec::parse(set).map(|spec| spec.within(complete_length)) {
            None => Self::Whole,
            Some(None) => Self::Unsatisfiable,
            Some(Some((first, last))) => Self::Single { first, last },
        }
    }

    /// Parses a `Range` value with several ranges. RFC 9110 §14.2: many or overlapping ranges are an attack or a
    /// mistake, and may be ignored.
    fn multiple(set: &str, complete_length: u64) -> Option<Self> {
        const MAX: usize = 16;
        // The approximate overhead of a part.
        const OVERHEAD: u64 = 128;
        let mut ranges = Vec::new();
        let members = set.split(',').map(str::trim).filter(|member| !member.is_empty());
        for (number, member) in members.enumerate() {
            if number == MAX {
                return None;
            }
            ranges.extend(RangeSpec::parse(member)?.within(complete_length));
        }
        let mut sorted = ranges.clone();
        sorted.sort_unstable();
        if sorted.windows(2).any(|pair| matches!(pair, [(_, last), (first, _)] if first <= last)) {
            return None;
        }
        Some(match *ranges {
            // RFC 9110 §15.5.17: no range lies within the response.
            [] => Self::Unsatisfiable,
            [(first, last)] => Self::Single { first, last },
            _ => {
                // The complete length may be any number, as it is from the origin.
                let sent = ranges
                    .iter()
                    .fold(0_u64, |sent, (first, last)| sent.saturating_add(last - first).saturating_add(1 + OVERHEAD));
                if sent >= complete_length { Self::Whole } else { Self::Multiple(ranges) }
            }
        })
    }
}

/// The range of a stored partial response, which has a single range (RFC 9110 §15.3.7.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredRange {
    first: u64,
    last: u64,
    complete_length: u64,
    /// Whether the complete response is small enough to be stored.
    pub(crate) is_whole_storable: bool,
    /// The `Range` value of the original request.
    range_field: Box<[u8]>,
}

impl StoredRange {
    /// Returns the range of a 206 response, if its `Content-Range` is valid and the request has one `Range`.
    pub(crate) fn new(request: &HeaderMap, response: &HeaderMap) -> Option<Self> {
        let mut values = response.get_all(header::CONTENT_RANGE).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return None;
        };
        let mut range_field = request.get_all(header::RANGE).iter();
        let (Some(range_field), None) = (range_field.next(), range_field.next()) else {
            return None;
        };
        // RFC 9110 §14.4
        let (unit, range) = value.to_str().ok()?.trim().split_once(' ')?;
        let (range, complete_length) = range.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last, complete_length) = (position(first)?, position(last)?, position(complete_length)?);
        let is_valid = unit.eq_ignore_ascii_case("bytes") && first <= last && last < complete_length;
        is_valid.then(|| Self {
            first,
            last,
            complete_length,
            is_whole_storable: true,
            range_field: range_field.as_bytes().into(),
        })
    }

    /// Returns the range of the first `length` bytes of a response with `complete_length` bytes.
    pub(crate) fn prefix(length: u64, complete_length: u64) -> Option<Self> {
        let last = length.checked_sub(1)?;
        let range_field = format!("bytes=0-{last}").into_bytes().into();
        Self::from_fields(0, last, complete_length, true, range_field)
    }

    /// Returns the range of the first `length` bytes of this part.
    pub(crate) fn truncated(&self, length: u64) -> Option<Self> {
        let last = self.first.checked_add(length.checked_sub(1)?)?;
        let range_field = format!("bytes={}-{last}", self.first).into_bytes().into();
        (last <= self.last).then(|| Self { last, range_field, ..self.clone() })
    }

    /// Returns all fields of the range, for encoding.
    pub(crate) fn fields(&self) -> (u64, u64, u64, bool, &[u8]) {
        (self.first, self.last, self.complete_length, self.is_whole_storable, &self.range_field)
    }

    /// Creates a stored range from the result of [`fields`](Self::fields).
    pub(crate) fn from_fields(
        first: u64,
        last: u64,
        complete_length: u64,
        is_whole_storable: bool,
        range_field: Box<[u8]>,
    ) -> Option<Self> {
        let is_valid = first <= last && last < complete_length;
        is_valid.then_some(Self { first, last, complete_length, is_whole_storable, range_field })
    }

    /// Returns the first and last byte positions of the range.
    pub(crate) fn range(&self) -> (u64, u64) {
        (self.first, self.last)
    }

    pub(crate) fn length(&self) -> u64 {
        self.last - self.first + 1
    }

    pub(crate) fn complete_length(&self) -> u64 {
        self.complete_length
    }

    /// Returns the positions of the requested range within the stored part, if the part contains that range.
    /// `available` is the length of its body.
    // RFC 9111 §3.3
    pub(crate) fn select(&self, request: &HeaderMap, available: u64) -> Option<(u64, u64)> {
        // The same `Range` gets the same response, even if it is not parsed here.
        let mut values = request.get_all(header::RANGE).iter();
        if values.next().is_some_and(|range_field| range_field.as_bytes() == &*self.range_field)
            && values.next().is_none()
        {
            return available.checked_sub(1).map(|last| (0, last));
        }
        let RequestedRange::Single { first, last } = RequestedRange::from_headers(request, self.complete_length) else {
            return None;
        };
        let is_inside = first >= self.first && last - self.first < available;
        is_inside.then(|| (first - self.first, last - self.first))
    }

    /// Returns the `Content-Range` value for two positions in the stored part.
    pub(crate) fn content_range(&self, first: u64, last: u64) -> String {
        format!("bytes {}-{}/{}", self.first + first, self.first + last, self.complete_length)
    }

    pub(crate) fn weight(&self) -> usize {
        allocation(self.range_field.len())
    }
}

/// The maximum length of a `Range` value with several ranges. They are parsed once for each stored part.
const MAX_SET_LENGTH: usize = 1024;

/// A single range in a `Range` value.
enum RangeSpec {
    From { first: u64, last: Option<u64> },
    Suffix(u64),
}

/// Returns the range set of a `Range` value with the unit `bytes` (RFC 9110 §14.1.2).
fn byte_ranges(value: &str) -> Option<&str> {
    let (unit, set) = value.split_once('=')?;
    unit.trim().eq_ignore_ascii_case("bytes").then(|| set.trim())
}

impl RangeSpec {
    /// Parses one member of a range set (RFC 9110 §14.1.2).
    fn parse(member: &str) -> Option<Self> {
        match member.split_once('-')? {
            ("", suffix) => Some(Self::Suffix(position(suffix)?)),
            (first, "") => Some(Self::From { first: position(first)?, last: None }),
            (first, last) => {
                let (first, last) = (position(first)?, position(last)?);
                (first <= last).then_some(Self::From { first, last: Some(last) })
            }
        }
    }

    /// Returns the first and last byte positions, if the range lies within the response.
    fn within(&self, complete_length: u64) -> Option<(u64, u64)> {
        let end = complete_length.checked_sub(1)?;
        match *self {
            Self::From { first, last } => (first <= end).then(|| (first, last.unwrap_or(end).min(end))),
            Self::Suffix(0) => None,
            Self::Suffix(length) => Some((complete_length.saturating_sub(length), end)),
        }
    }
}

fn position(digits: &str) -> Option<u64> {
    // `str::parse` would also accept "+1".
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn part(range: &str, length: u64) -> RequestedRange {
        RequestedRange::from_headers(
            &HeaderMap::from_iter([(header::RANGE, HeaderValue::from_str(range).unwrap())]),
            length,
        )
    }

    #[test]
    fn parses_a_single_byte_range() {
        // RFC 9110 §14.1.2
        for (range, expected) in [
            ("bytes=0-1", RequestedRange::Single { first: 0, last: 1 }),
            ("bytes=1-", RequestedRange::Single { first: 1, last: 10 }),
            ("bytes=-1", RequestedRange::Single { first: 10, last: 10 }),
            ("bytes=-99", RequestedRange::Single { first: 0, last: 10 }),
            ("BYTES=5-99", RequestedRange::Single { first: 5, last: 10 }),
            ("bytes=0-99999999999999999999999", RequestedRange::Single { first: 0, last: 10 }),
            ("bytes=11-", RequestedRange::Unsatisfiable),
            ("bytes=-0", RequestedRange::Unsatisfiable),
            ("bytes=2-1", RequestedRange::Whole),
            ("bytes=a-b", RequestedRange::Whole),
            ("bytes=+1-2", RequestedRange::Whole),
            ("bytes=-", RequestedRange::Whole),
            ("bytes", RequestedRange::Whole),
            ("items=0-1", RequestedRange::Whole),
        ] {
            assert_eq!(part(range, 11), expected, "{range}");
        }
        assert_eq!(part("bytes=-1", 0), RequestedRange::Unsatisfiable);
        assert_eq!(part("bytes=0-", 0), RequestedRange::Unsatisfiable);
    }

    #[test]
    fn parses_range_sets_without_excessive_or_overlapping_ranges() {
        // RFC 9110 §14.2
        let several = |ranges: &[(u64, u64)]| RequestedRange::Multiple(ranges.to_vec());
        for (range, expected) in [
            ("bytes=0-1,3-4", several(&[(0, 1), (3, 4)])),
            ("bytes= 8-9 , 0-0,, -1", several(&[(8, 9), (0, 0), (999, 999)])),
            ("bytes=0-1,2000-", RequestedRange::Single { first: 0, last: 1 }),
            ("bytes=0-1,-0", RequestedRange::Single { first: 0, last: 1 }),
            ("bytes=1000-,2000-", RequestedRange::Unsatisfiable),
            ("bytes=0-5,5-9", RequestedRange::Whole),
            ("bytes=0-,0-", RequestedRange::Whole),
            ("bytes=0-1,x", RequestedRange::Whole),
            ("bytes=0-1,3-2", RequestedRange::Whole),
            // The whole response is smaller.
            ("bytes=0-499,500-999", RequestedRange::Whole),
            (",", RequestedRange::Whole),
        ] {
            assert_eq!(part(range, 1000), expected, "{range}");
        }
        let many = |count: u64| {
            let ranges: Vec<String> = (0..count).map(|n| format!("{}-{}", n * 1000, n * 1000 + 1)).collect();
            part(&format!("bytes={}", ranges.join(",")), 1 << 20)
        };
        assert!(matches!(many(16), RequestedRange::Multiple(ranges) if ranges.len() == 16));
        assert_eq!(many(17), RequestedRange::Whole);
    }

    #[test]
    fn parses_the_content_range_of_a_206_response() {
        // RFC 9110 §14.4
        let part_of = |content_range: &str| {
            let response =
                HeaderMap::from_iter([(header::CONTENT_RANGE, HeaderValue::from_str(content_range).unwrap())]);
            let request = HeaderMap::from_iter([(header::RANGE, HeaderValue::from_static("bytes=4-9"))]);
            StoredRange::new(&request, &response).map(|part| (part.first, part.last, part.complete_length))
        };
        assert_eq!(part_of("bytes 4-9/10"), Some((4, 9, 10)));
        for unclear in
            ["bytes 4-9/*", "bytes */10", "bytes 9-4/10", "bytes 4-10/10", "items 4-9/10", "4-9/10", "bytes 4-9", ""]
        {
            assert_eq!(part_of(unclear), None, "{unclear}");
        }
    }

    #[test]
    fn partial_response_serves_only_ranges_within_it() {
        // RFC 9111 §3.3
        let header = |name, value| HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
        let part = StoredRange::new(&header(header::RANGE, "bytes=-6"), &header(header::CONTENT_RANGE, "bytes 4-9/10"));
        let part = part.unwrap();
        for (range, available, expected) in [
            ("bytes=-6", 6, Some((0, 5))),
            ("bytes=-6", 5, Some((0, 4))),
            ("bytes=-6", 0, None),
            ("bytes=4-9", 6, Some((0, 5))),
            ("bytes=6-8", 6, Some((2, 4))),
            ("bytes=6-", 6, Some((2, 5))),
            ("bytes=-1", 6, Some((5, 5))),
            ("bytes=6-", 5, None),
            ("bytes=3-5", 6, None),
            ("bytes=0-", 6, None),
            ("bytes=4-5,7-8", 6, None),
            ("bytes=10-", 6, None),
        ] {
            assert_eq!(part.select(&header(header::RANGE, range), available), expected, "{range} of {available}");
        }
    }

    proptest! {
        #[test]
        fn requested_ranges_lie_within_the_response(range in "bytes=[0-9]{0,20}-[0-9]{0,20}(,[0-9]{0,3}-[0-9]{0,3}){0,4}", length in 0_u64..1000) {
            let ranges = match part(&range, length) {
                RequestedRange::Single { first, last } => vec![(first, last)],
                RequestedRange::Multiple(ranges) => ranges,
                RequestedRange::Whole | RequestedRange::Unsatisfiable => vec![],
            };
            prop_assert!(ranges.iter().all(|(first, last)| first <= last && *last < length));
        }
    }
}
