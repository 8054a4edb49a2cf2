//! Parts of a stored response: `Range`, RFC 9110 §14.

use http::HeaderMap;
use http::header;

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

    proptest! {
        #[test]
        fn a_part_is_always_inside(range in "bytes=[0-9]{0,20}-[0-9]{0,20}", length in 0_u64..100) {
            if let Part::Single { first, last } = part(&range, length) {
                prop_assert!(first <= last && last < length);
            }
        }
    }
}
