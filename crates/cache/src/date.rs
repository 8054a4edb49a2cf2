//! HTTP dates as seconds since the epoch.

use std::time::UNIX_EPOCH;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

/// The first line of the field `name` as a date; `None` if it is missing or invalid.
pub(crate) fn of(headers: &HeaderMap, name: HeaderName) -> Option<u64> {
    parse(headers.get(name)?)
}

/// Any of the three date formats of RFC 9110 §5.6.7.
pub(crate) fn parse(value: &HeaderValue) -> Option<u64> {
    let text = value.to_str().ok()?.trim_matches([' ', '\t']);
    let date = httpdate::parse_http_date(text).or_else(|_| httpdate::parse_http_date(&usual_case(text))).ok()?;
    Some(date.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

/// RFC 9111 §4.2: dates are matched without regard to case. A zone other than GMT stays wrong.
fn usual_case(text: &str) -> String {
    let mut inside_word = false;
    let titled: String = text
        .chars()
        .map(|c| {
            let first = !inside_word;
            inside_word = c.is_ascii_alphabetic();
            if first { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() }
        })
        .collect();
    titled.replace("Gmt", "GMT")
}

/// The value for a `Date` field.
pub(crate) fn value(seconds: u64) -> Option<HeaderValue> {
    // Later than the year 9999 there is no HTTP date, and httpdate would panic.
    const LAST: u64 = 253_402_300_799;
    let time = UNIX_EPOCH.checked_add(std::time::Duration::from_secs(seconds.min(LAST)))?;
    HeaderValue::try_from(httpdate::fmt_http_date(time)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_formats_and_any_case_are_dates() {
        // RFC 9110 §5.6.7, RFC 9111 §4.2
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "SUN, 06 NOV 1994 08:49:37 gmt",
            "sun, 06 nov 1994 08:49:37 GmT",
        ] {
            assert_eq!(parse(&HeaderValue::from_static(text)), Some(784_111_777), "{text}");
        }
    }

    #[test]
    fn anything_else_is_not_a_date() {
        // RFC 9111 §5.3: a value such as 0 is invalid; §4.2: other zones are invalid
        for text in [
            "0",
            "",
            "-1",
            "Thu, 18 Aug 2050 02:01:18 UTC",
            "Thu, 18 Aug 50 02:01:18 GMT",
            "Thu 18 Aug 2050 02:01:18 GMT",
            "Thu, 18  Aug  2050 02:01:18 GMT",
            "Thu, 18-Aug-2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 02.01.18 GMT",
            "Thu, 18 Aug 2050 2:01:18 GMT",
        ] {
            assert_eq!(parse(&HeaderValue::from_static(text)), None, "{text}");
        }
    }

    #[test]
    fn the_end_of_time_is_written_without_a_panic() {
        assert!(value(u64::MAX).is_some());
    }
}
