//! Parts of a stored response: `Range`, RFC 9110 §14.

use http::HeaderMap;
use http::header;

use crate::memory::block;

/// What a `Range` field comes to for a complete response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The field is absent, of another unit, malformed, or asks for more than is fair: a server may ignore all of these.
    Whole,
    /// From `first` to `last`, both included.
    Single {
        first: u64,
        last: u64,
    },
    /// As many as may be, none of which overlap, in the order asked for.
    Several(Vec<(u64, u64)>),
    Unsatisfiable,
}

impl Part {
    pub(crate) fn of(headers: &HeaderMap, complete_length: u64) -> Self {
        let mut lines = headers.get_all(header::RANGE).iter();
        let (Some(line), None) = (lines.next(), lines.next()) else {
            return Self::Whole;
        };
        let Some(set) = line.to_str().ok().and_then(byte_ranges) else {
            return Self::Whole;
        };
        if set.contains(',') {
            if set.len() > LONGEST_SET {
                return Self::Whole;
            }
            return Self::several(set, complete_length).unwrap_or(Self::Whole);
        }
        match Spec::parse(set).map(|spec| spec.within(complete_length)) {
            None => Self::Whole,
            Some(None) => Self::Unsatisfiable,
            Some(Some((first, last))) => Self::Single { first, last },
        }
    }

    /// RFC 9110 §14.2: many ranges, or overlapping ones, are an attack on the server or a mistake, and may be ignored.
    fn several(set: &str, complete_length: u64) -> Option<Self> {
        const MOST: usize = 16;
        // What a part costs beside its bytes.
        const OVERHEAD: u64 = 128;
        let mut ranges = Vec::new();
        let members = set.split(',').map(str::trim).filter(|member| !member.is_empty());
        for (number, member) in members.enumerate() {
            if number == MOST {
                return None;
            }
            ranges.extend(Spec::parse(member)?.within(complete_length));
        }
        let mut sorted = ranges.clone();
        sorted.sort_unstable();
        if sorted.windows(2).any(|pair| matches!(pair, [(_, last), (first, _)] if first <= last)) {
            return None;
        }
        Some(match *ranges {
            // RFC 9110 §15.5.17: none of them lies within.
            [] => Self::Unsatisfiable,
            [(first, last)] => Self::Single { first, last },
            _ => {
                // A length that a backend claims may be any.
                let sent = ranges
                    .iter()
                    .fold(0_u64, |sent, (first, last)| sent.saturating_add(last - first).saturating_add(1 + OVERHEAD));
                if sent >= complete_length { Self::Whole } else { Self::Several(ranges) }
            }
        })
    }
}

/// Where a stored part lies in its representation: a 206 with one range, RFC 9110 §15.3.7.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartOf {
    pub(crate) first: u64,
    last: u64,
    complete_length: u64,
    /// Whether the whole may be stored, should all its parts come.
    pub(crate) may_complete: bool,
    /// The `Range` that the part answered.
    asked: Box<[u8]>,
}

impl PartOf {
    /// `None` if it can't be told for certain which part of what was asked for and is meant.
    pub(crate) fn new(request: &HeaderMap, response: &HeaderMap) -> Option<Self> {
        let mut lines = response.get_all(header::CONTENT_RANGE).iter();
        let (Some(line), None) = (lines.next(), lines.next()) else {
            return None;
        };
        let mut asked = request.get_all(header::RANGE).iter();
        let (Some(asked), None) = (asked.next(), asked.next()) else {
            return None;
        };
        // RFC 9110 §14.4
        let (unit, range) = line.to_str().ok()?.trim().split_once(' ')?;
        let (range, complete_length) = range.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last, complete_length) = (position(first)?, position(last)?, position(complete_length)?);
        let valid = unit.eq_ignore_ascii_case("bytes") && first <= last && last < complete_length;
        valid.then(|| Self { first, last, complete_length, may_complete: true, asked: asked.as_bytes().into() })
    }

    /// The first `length` bytes of `complete_length`.
    pub(crate) fn beginning(length: u64, complete_length: u64) -> Option<Self> {
        let last = length.checked_sub(1)?;
        let asked = format!("bytes=0-{last}").into_bytes().into();
        Self::of_parts(0, last, complete_length, true, asked)
    }

    /// The first `length` bytes of this part.
    pub(crate) fn cut_off(&self, length: u64) -> Option<Self> {
        let last = self.first.checked_add(length.checked_sub(1)?)?;
        let asked = format!("bytes={}-{last}", self.first).into_bytes().into();
        (last <= self.last).then(|| Self { last, asked, ..self.clone() })
    }

    /// All that is known of it.
    pub(crate) fn parts(&self) -> (u64, u64, u64, bool, &[u8]) {
        (self.first, self.last, self.complete_length, self.may_complete, &self.asked)
    }

    /// Of what [`parts`](Self::parts) has told.
    pub(crate) fn of_parts(
        first: u64,
        last: u64,
        complete_length: u64,
        may_complete: bool,
        asked: Box<[u8]>,
    ) -> Option<Self> {
        let valid = first <= last && last < complete_length;
        valid.then_some(Self { first, last, complete_length, may_complete, asked })
    }

    /// The first and the last byte.
    pub(crate) fn range(&self) -> (u64, u64) {
        (self.first, self.last)
    }

    pub(crate) fn length(&self) -> u64 {
        self.last - self.first + 1
    }

    pub(crate) fn complete_length(&self) -> u64 {
        self.complete_length
    }

    /// Which bytes of the stored part, of which there are `held`, make the answer to `request`. `None`: other
    /// bytes are asked for, too.
    // RFC 9111 §3.3
    pub(crate) fn select(&self, request: &HeaderMap, held: u64) -> Option<(u64, u64)> {
        // The same question has the same answer, whatever else may be said of it.
        let mut lines = request.get_all(header::RANGE).iter();
        if lines.next().is_some_and(|asked| asked.as_bytes() == &*self.asked) && lines.next().is_none() {
            return held.checked_sub(1).map(|last| (0, last));
        }
        let Part::Single { first, last } = Part::of(request, self.complete_length) else {
            return None;
        };
        let inside = first >= self.first && last - self.first < held;
        inside.then(|| (first - self.first, last - self.first))
    }

    pub(crate) fn content_range(&self, first: u64, last: u64) -> String {
        format!("bytes {}-{}/{}", self.first + first, self.first + last, self.complete_length)
    }

    pub(crate) fn weight(&self) -> usize {
        block(self.asked.len())
    }
}

/// Ranges are read once for each stored part.
const LONGEST_SET: usize = 1024;

enum Spec {
    From { first: u64, last: Option<u64> },
    Suffix(u64),
}

/// RFC 9110 §14.1.2: the set of ranges.
fn byte_ranges(value: &str) -> Option<&str> {
    let (unit, set) = value.split_once('=')?;
    unit.trim().eq_ignore_ascii_case("bytes").then(|| set.trim())
}

impl Spec {
    /// RFC 9110 §14.1.2, one member of a set.
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

    /// The first and the last byte meant; `None` where there are none.
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
    // `parse` alone would take "+1".
    let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    all_digits.then(|| digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn part(range: &str, length: u64) -> Part {
        Part::of(&HeaderMap::from_iter([(header::RANGE, HeaderValue::from_str(range).unwrap())]), length)
    }

    #[test]
    fn single_ranges_of_all_forms() {
        // RFC 9110 §14.1.2
        for (range, expected) in [
            ("bytes=0-1", Part::Single { first: 0, last: 1 }),
            ("bytes=1-", Part::Single { first: 1, last: 10 }),
            ("bytes=-1", Part::Single { first: 10, last: 10 }),
            ("bytes=-99", Part::Single { first: 0, last: 10 }),
            ("BYTES=5-99", Part::Single { first: 5, last: 10 }),
            ("bytes=0-99999999999999999999999", Part::Single { first: 0, last: 10 }),
            ("bytes=11-", Part::Unsatisfiable),
            ("bytes=-0", Part::Unsatisfiable),
            ("bytes=2-1", Part::Whole),
            ("bytes=a-b", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes", Part::Whole),
            ("items=0-1", Part::Whole),
        ] {
            assert_eq!(part(range, 11), expected, "{range}");
        }
        assert_eq!(part("bytes=-1", 0), Part::Unsatisfiable);
        assert_eq!(part("bytes=0-", 0), Part::Unsatisfiable);
    }

    #[test]
    fn several_ranges_if_they_are_fair() {
        // RFC 9110 §14.2
        let several = |ranges: &[(u64, u64)]| Part::Several(ranges.to_vec());
        for (range, expected) in [
            ("bytes=0-1,3-4", several(&[(0, 1), (3, 4)])),
            ("bytes= 8-9 , 0-0,, -1", several(&[(8, 9), (0, 0), (999, 999)])),
            ("bytes=0-1,2000-", Part::Single { first: 0, last: 1 }),
            ("bytes=0-1,-0", Part::Single { first: 0, last: 1 }),
            ("bytes=1000-,2000-", Part::Unsatisfiable),
            ("bytes=0-5,5-9", Part::Whole),
            ("bytes=0-,0-", Part::Whole),
            ("bytes=0-1,x", Part::Whole),
            ("bytes=0-1,3-2", Part::Whole),
            // The whole is less.
            ("bytes=0-499,500-999", Part::Whole),
            (",", Part::Whole),
        ] {
            assert_eq!(part(range, 1000), expected, "{range}");
        }
        let many = |count: u64| {
            let ranges: Vec<String> = (0..count).map(|n| format!("{}-{}", n * 1000, n * 1000 + 1)).collect();
            part(&format!("bytes={}", ranges.join(",")), 1 << 20)
        };
        assert!(matches!(many(16), Part::Several(ranges) if ranges.len() == 16));
        assert_eq!(many(17), Part::Whole);
    }

    #[test]
    fn where_a_part_lies() {
        // RFC 9110 §14.4
        let part_of = |content_range: &str| {
            let response =
                HeaderMap::from_iter([(header::CONTENT_RANGE, HeaderValue::from_str(content_range).unwrap())]);
            let request = HeaderMap::from_iter([(header::RANGE, HeaderValue::from_static("bytes=4-9"))]);
            PartOf::new(&request, &response).map(|part| (part.first, part.last, part.complete_length))
        };
        assert_eq!(part_of("bytes 4-9/10"), Some((4, 9, 10)));
        for unclear in
            ["bytes 4-9/*", "bytes */10", "bytes 9-4/10", "bytes 4-10/10", "items 4-9/10", "4-9/10", "bytes 4-9", ""]
        {
            assert_eq!(part_of(unclear), None, "{unclear}");
        }
    }

    #[test]
    fn a_part_answers_what_lies_wholly_inside() {
        // RFC 9111 §3.3
        let header = |name, value| HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
        let part = PartOf::new(&header(header::RANGE, "bytes=-6"), &header(header::CONTENT_RANGE, "bytes 4-9/10"));
        let part = part.unwrap();
        for (range, held, expected) in [
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
            assert_eq!(part.select(&header(header::RANGE, range), held), expected, "{range} of {held}");
        }
    }

    proptest! {
        #[test]
        fn a_part_is_always_inside(range in "bytes=[0-9]{0,20}-[0-9]{0,20}(,[0-9]{0,3}-[0-9]{0,3}){0,4}", length in 0_u64..1000) {
            let ranges = match part(&range, length) {
                Part::Single { first, last } => vec![(first, last)],
                Part::Several(ranges) => ranges,
                Part::Whole | Part::Unsatisfiable => vec![],
            };
            prop_assert!(ranges.iter().all(|(first, last)| first <= last && *last < length));
        }
    }
}
