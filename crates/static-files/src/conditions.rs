//! Conditional requests and ranges (RFC 9110 §13 and §14).

use std::time::{Duration, SystemTime};

use http::header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The fields of a request that decide whether a file, or which part of it, is sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conditions {
    if_match: Vec<HeaderValue>,
    if_none_match: Vec<HeaderValue>,
    if_unmodified_since: Option<HeaderValue>,
    if_modified_since: Option<HeaderValue>,
    range: Option<HeaderValue>,
    if_range: Option<HeaderValue>,
}

/// The validators of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Validators<'v> {
    /// The entity tag, which is strong, if `ETag` is sent.
    pub(crate) tag: Option<&'v str>,
    /// The seconds of the last modification since the Unix epoch, if `Last-Modified` is sent.
    pub(crate) modified: Option<u64>,
}

/// The result of the conditions of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Selection {
    /// The complete file.
    All,
    /// The bytes from `start` up to, but not including, `end`.
    Part { start: u64, end: u64 },
    /// 304: the client has the current file.
    NotModified,
    /// 412: the file is not the one that the client expects.
    PreconditionFailed,
    /// 416: the file has none of the bytes.
    RangeNotSatisfiable,
}

impl Conditions {
    /// Copies the fields of a request. For HEAD, a range is ignored (RFC 9110 §14.2).
    pub(crate) fn of_request(headers: &HeaderMap, is_head: bool) -> Self {
        let all = |name: &HeaderName| headers.get_all(name).iter().cloned().collect();
        // A field with several lines is invalid.
        let single = |name: &HeaderName| {
            let mut values = headers.get_all(name).iter();
            values.next().filter(|_| values.next().is_none()).cloned()
        };
        Self {
            if_match: all(&IF_MATCH),
            if_none_match: all(&IF_NONE_MATCH),
            if_unmodified_since: single(&IF_UNMODIFIED_SINCE),
            if_modified_since: single(&IF_MODIFIED_SINCE),
            range: single(&RANGE).filter(|_| !is_head),
            if_range: headers.get(IF_RANGE).cloned(),
        }
    }

    /// Evaluates the conditions in the order of RFC 9110 §13.2.2, for a file of `length` bytes.
    pub(crate) fn select(&self, validators: Validators<'_>, length: u64) -> Selection {
        if !self.if_match.is_empty() {
            if !matches_tag(&self.if_match, validators.tag, Comparison::Strong) {
                return Selection::PreconditionFailed;
            }
        } else if let (Some(since), Some(modified)) = (date(&self.if_unmodified_since), validators.modified)
            && modified > since
        {
            return Selection::PreconditionFailed;
        }
        if !self.if_none_match.is_empty() {
            if matches_tag(&self.if_none_match, validators.tag, Comparison::Weak) {
                return Selection::NotModified;
            }
        } else if let (Some(since), Some(modified)) = (date(&self.if_modified_since), validators.modified)
            && modified <= since
        {
            return Selection::NotModified;
        }
        match &self.range {
            Some(range) if self.continues(validators) => part(range.as_bytes(), length),
            _ => Selection::All,
        }
    }

    /// Returns whether a range applies: the client has a part of the same file, or sent no `If-Range`.
    fn continues(&self, validators: Validators<'_>) -> bool {
        let Some(if_range) = &self.if_range else { return true };
        match if_range.as_bytes().first() {
            Some(b'"') => validators.tag.is_some_and(|tag| if_range == tag),
            // A weak tag does not match (RFC 9110 §13.1.5).
            Some(b'W') => false,
            _ => validators.modified.is_some() && date(&self.if_range) == validators.modified,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

/// Returns whether a list of entity tags contains a strong tag (RFC 9110 §8.8.3.2).
fn matches_tag(values: &[HeaderValue], tag: Option<&str>, comparison: Comparison) -> bool {
    values.iter().any(|value| {
        let mut rest = value.as_bytes().trim_ascii();
        if rest == b"*" {
            return true;
        }
        // A tag can contain commas, so that quotes separate the members.
        while let Some(start) = rest.iter().position(|byte| *byte == b'"') {
            let is_weak = rest[..start].ends_with(b"W/");
            let Some(length) = rest[start + 1..].iter().position(|byte| *byte == b'"') else { return false };
            let (member, after) = rest[start..].split_at(length + 2);
            if Some(member) == tag.map(str::as_bytes) && (!is_weak || comparison == Comparison::Weak) {
                return true;
            }
            rest = after;
        }
        false
    })
}

/// Returns the seconds of a date since the Unix epoch. An invalid date is ignored.
fn date(value: &Option<HeaderValue>) -> Option<u64> {
    let time = httpdate::parse_http_date(value.as_ref()?.to_str().ok()?.trim()).ok()?;
    time.duration_since(SystemTime::UNIX_EPOCH).ok().map(|duration| duration.as_secs())
}

/// Formats seconds since the Unix epoch as a date. Returns `None` if the date has no HTTP form.
pub(crate) fn format_date(seconds: u64) -> Option<HeaderValue> {
    // The end of the year 9999.
    let seconds = Some(seconds).filter(|seconds| *seconds < 253_402_300_800)?;
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    HeaderValue::try_from(httpdate::fmt_http_date(time)).ok()
}

/// Returns the part that `Range` names. Several ranges and invalid ones are ignored, as RFC 9110 §14.2 allows.
fn part(range: &[u8], length: u64) -> Selection {
    let Some((unit, ranges)) = range.split_at_checked(6) else { return Selection::All };
    // An empty file has no part.
    if !unit.eq_ignore_ascii_case(b"bytes=") || length == 0 {
        return Selection::All;
    }
    let ranges = ranges.trim_ascii();
    let Some(hyphen) = ranges.iter().position(|byte| *byte == b'-') else { return Selection::All };
    let (first, last) = (number(&ranges[..hyphen]), number(&ranges[hyphen + 1..]));
    match (first, last) {
        (Number::Invalid, _) | (_, Number::Invalid) | (Number::Absent, Number::Absent) => Selection::All,
        (Number::Absent, Number::Value(0)) => Selection::RangeNotSatisfiable,
        (Number::Absent, Number::Value(suffix)) => {
            Selection::Part { start: length.saturating_sub(suffix), end: length }
        }
        (Number::Value(first), Number::Value(last)) if last < first => Selection::All,
        (Number::Value(first), _) if first >= length => Selection::RangeNotSatisfiable,
        (Number::Value(start), Number::Absent) => Selection::Part { start, end: length },
        (Number::Value(start), Number::Value(last)) => {
            Selection::Part { start, end: last.saturating_add(1).min(length) }
        }
    }
}

enum Number {
    Absent,
    Invalid,
    Value(u64),
}

fn number(digits: &[u8]) -> Number {
    if digits.is_empty() {
        return Number::Absent;
    }
    let mut value = 0_u64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return Number::Invalid;
        }
        value = value.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    }
    Number::Value(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: &str = "\"v,1\"";
    /// Sun, 06 Nov 1994 08:49:37 GMT
    const MODIFIED: u64 = 784_111_777;

    fn selection(fields: &[(&'static str, &'static str)]) -> Selection {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let validators = Validators { tag: Some(TAG), modified: Some(MODIFIED) };
        Conditions::of_request(&headers, false).select(validators, 10)
    }

    #[test]
    fn preconditions_follow_the_order_of_rfc_9110() {
        use Selection::{All, NotModified, PreconditionFailed};
        let (same, before, after) =
            ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:36 GMT", "Sun, 06 Nov 1994 08:49:38 GMT");
        for (fields, expected) in [
            (&[][..], All),
            (&[("if-match", "\"v,1\"")], All),
            (&[("if-match", "*")], All),
            (&[("if-match", "\"a\", \"v,1\"")], All),
            (&[("if-match", "\"a\""), ("if-match", "\"v,1\"")], All),
            (&[("if-match", "W/\"v,1\"")], PreconditionFailed),
            (&[("if-match", "\"v\", \"1\"")], PreconditionFailed),
            (&[("if-match", "")], PreconditionFailed),
            (&[("if-match", "\"v,1\""), ("if-unmodified-since", before)], All),
            (&[("if-unmodified-since", before)], PreconditionFailed),
            (&[("if-unmodified-since", same)], All),
            (&[("if-unmodified-since", "yesterday")], All),
            (&[("if-none-match", "\"v,1\"")], NotModified),
            (&[("if-none-match", "W/\"v,1\"")], NotModified),
            (&[("if-none-match", "\"a\",W/\"v,1\"")], NotModified),
            (&[("if-none-match", "*")], NotModified),
            (&[("if-none-match", "\"v,1")], All),
            (&[("if-none-match", "v,1")], All),
            (&[("if-none-match", "\"a\""), ("if-modified-since", same)], All),
            (&[("if-modified-since", same)], NotModified),
            (&[("if-modified-since", "Sunday, 06-Nov-94 08:49:37 GMT")], NotModified),
            (&[("if-modified-since", after)], NotModified),
            (&[("if-modified-since", before)], All),
            (&[("if-modified-since", same), ("if-modified-since", same)], All),
            (&[("if-match", "\"a\""), ("if-none-match", "\"v,1\"")], PreconditionFailed),
            (&[("if-none-match", "\"v,1\""), ("range", "bytes=0-0")], NotModified),
        ] {
            assert_eq!(selection(fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn range_selects_a_part_unless_the_file_has_changed() {
        use Selection::{All, RangeNotSatisfiable};
        let part = |start, end| Selection::Part { start, end };
        for (range, expected) in [
            ("bytes=0-0", part(0, 1)),
            ("bytes=2-", part(2, 10)),
            ("BYTES=2-4", part(2, 5)),
            ("bytes=0-99", part(0, 10)),
            ("bytes=0-99999999999999999999", part(0, 10)),
            ("bytes=-3", part(7, 10)),
            ("bytes=-99", part(0, 10)),
            ("bytes=9-9", part(9, 10)),
            ("bytes=10-", RangeNotSatisfiable),
            ("bytes=99999999999999999999-", RangeNotSatisfiable),
            ("bytes=-0", RangeNotSatisfiable),
            ("bytes=0-0,5-6", All),
            ("bytes=4-2", All),
            ("bytes=a-b", All),
            ("bytes=-", All),
            ("bytes=", All),
            ("bytes", All),
            ("lines=0-1", All),
            ("bytes=0 - 1", All),
            ("bytes=--1", All),
        ] {
            assert_eq!(selection(&[("range", range)]), expected, "{range}");
        }
        for (if_range, applies) in [
            ("\"v,1\"", true),
            ("\"v\"", false),
            ("W/\"v,1\"", false),
            ("Sun, 06 Nov 1994 08:49:37 GMT", true),
            ("Sun, 06 Nov 1994 08:49:38 GMT", false),
            ("Sun, 06 Nov 1994 08:49:36 GMT", false),
            ("nonsense", false),
        ] {
            let expected = if applies { part(0, 1) } else { All };
            assert_eq!(selection(&[("range", "bytes=0-0"), ("if-range", if_range)]), expected, "{if_range}");
        }
        assert_eq!(super::part(b"bytes=0-", 0), All);
    }

    #[test]
    fn head_ignores_ranges() {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, HeaderValue::from_static("bytes=0-0"));
        let conditions = Conditions::of_request(&headers, true);
        assert_eq!(conditions.select(Validators { tag: Some(TAG), modified: None }, 10), Selection::All);
    }

    #[test]
    fn dates_have_the_http_form() {
        assert_eq!(format_date(MODIFIED).unwrap(), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(format_date(u64::MAX), None);
    }
}
