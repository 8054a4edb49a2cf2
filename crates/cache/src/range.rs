//! Parts of a stored response: `Range`, RFC 9110 §14.

use http::HeaderMap;
use http::header;

use crate::memory::block;

/// What a `Range` field comes to for a complete response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The field is absent, of another unit, malformed, or asks for several ranges: a server may
    /// ignore all of these.
    Whole,
    /// From `first` to `last`, both included.
    Single {
        first: u64,
        last: u64,
    },
    Unsatisfiable,
}

impl Part {
    pub(crate) fn of(headers: &HeaderMap, complete_length: u64) -> Self {
        let mut lines = headers.get_all(header::RANGE).iter();
        let (Some(line), None) = (lines.next(), lines.next()) else {
            return Self::Whole;
        };
        match line.to_str().ok().and_then(parse) {
            None => Self::Whole,
            Some(Spec::From { first, last }) => {
                if first >= complete_length {
                    return Self::Unsatisfiable;
                }
                Self::Single { first, last: last.unwrap_or(u64::MAX).min(complete_length - 1) }
            }
            Some(Spec::Suffix(length)) => {
                if length == 0 || complete_length == 0 {
                    return Self::Unsatisfiable;
                }
                Self::Single { first: complete_length.saturating_sub(length), last: complete_length - 1 }
            }
        }
    }
}

/// Where a stored part lies in its representation: a 206 with one range, RFC 9110 §15.3.7.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartOf {
    pub(crate) first: u64,
    last: u64,
    complete_length: u64,
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
        valid.then(|| Self { first, last, complete_length, asked: asked.as_bytes().into() })
    }

    pub(crate) fn length(&self) -> u64 {
        self.last - self.first + 1
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

enum Spec {
    From { first: u64, last: Option<u64> },
    Suffix(u64),
}

/// RFC 9110 §14.1.2, for a set of one.
fn parse(value: &str) -> Option<Spec> {
    let (unit, set) = value.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = set.trim().split_once('-')?;
    match (first, last) {
        ("", suffix) => Some(Spec::Suffix(position(suffix)?)),
        (first, "") => Some(Spec::From { first: position(first)?, last: None }),
        (first, last) => {
            let (first, last) = (position(first)?, position(last)?);
            (first <= last).then_some(Spec::From { first, last: Some(last) })
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
            ("bytes=0-1,3-4", Part::Whole),
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
        fn a_part_is_always_inside(range in "bytes=[0-9]{0,20}-[0-9]{0,20}", length in 0_u64..100) {
            if let Part::Single { first, last } = part(&range, length) {
                prop_assert!(first <= last && last < length);
            }
        }
    }
}
