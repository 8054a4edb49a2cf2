//! HTTP dates as seconds since the Unix epoch.

use std::time::UNIX_EPOCH;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

/// Parses the first value of a header field as a date.
pub(crate) fn from_headers(headers: &HeaderMap, name: HeaderName) -> Option<u64> {
    parse(headers.get(name)?)
}

/// Parses any of the three date formats of RFC 9110 §5.6.7.
pub(crate) fn parse(value: &HeaderValue) -> Option<u64> {
    let text = value.as_bytes().trim_ascii();
    imf_fixdate(text).or_else(|| rfc850_date(text)).or_else(|| asctime_date(text))
}

/// Parses a date in the preferred format, such as `Sun, 06 Nov 1994 08:49:37 GMT`.
fn imf_fixdate(text: &[u8]) -> Option<u64> {
    let rest = text.get(3..)?.strip_prefix(b", ").filter(|_| is_day_name(&text[..3]))?;
    let [d, e, b' ', m, o, n, b' ', year @ ..] = rest else {
        return None;
    };
    let (year, time) = year.split_at_checked(4)?;
    seconds(decimal(year)?, month(&[*m, *o, *n])?, decimal(&[*d, *e])?, time_in_gmt(time)?)
}

/// Parses a date in the obsolete RFC 850 format, such as `Sunday, 06-Nov-94 08:49:37 GMT`.
fn rfc850_date(text: &[u8]) -> Option<u64> {
    let comma = text.iter().position(|&byte| byte == b',')?;
    let is_full_name = DAYS.iter().any(|day| text[..comma].eq_ignore_ascii_case(day.as_bytes()));
    let rest = text[comma..].strip_prefix(b", ").filter(|_| is_full_name)?;
    let [d, e, b'-', m, o, n, b'-', y, z, time @ ..] = rest else {
        return None;
    };
    let year = decimal(&[*y, *z])?;
    // Two digits mean a year that is at most 50 years ahead. The exact limit is irrelevant.
    let century = if year < 70 { 2000 } else { 1900 };
    seconds(century + year, month(&[*m, *o, *n])?, decimal(&[*d, *e])?, time_in_gmt(time)?)
}

/// Parses a date in the obsolete asctime format, such as `Sun Nov 6 08:49:37 1994`.
fn asctime_date(text: &[u8]) -> Option<u64> {
    let rest = text.get(3..).filter(|_| is_day_name(&text[..3]))?;
    let [b' ', m, o, n, b' ', d, e, b' ', rest @ ..] = rest else {
        return None;
    };
    let day = if *d == b' ' { decimal(&[*e])? } else { decimal(&[*d, *e])? };
    let (time, year) = rest.split_at_checked(8)?;
    let year = year.strip_prefix(b" ").filter(|year| year.len() == 4)?;
    seconds(decimal(year)?, month(&[*m, *o, *n])?, day, time_of_day(time)?)
}

const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

// A wrong day of the week does not make the date invalid.
fn is_day_name(name: &[u8]) -> bool {
    DAYS.iter().any(|day| name.eq_ignore_ascii_case(&day.as_bytes()[..3]))
}

// RFC 9111 §4.2: dates are compared case-insensitively.
fn month(name: &[u8]) -> Option<u64> {
    const MONTHS: [&[u8]; 12] =
        [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];
    MONTHS.iter().position(|month| name.eq_ignore_ascii_case(month)).map(|at| at as u64 + 1)
}

/// Parses the time of day of an HTTP date, followed by `GMT`. RFC 9111 §4.2: other time zones are invalid.
fn time_in_gmt(text: &[u8]) -> Option<u64> {
    let (time, zone) = text.strip_prefix(b" ")?.split_at_checked(8)?;
    time_of_day(time).filter(|_| zone.eq_ignore_ascii_case(b" GMT"))
}

fn time_of_day(text: &[u8]) -> Option<u64> {
    let [h, i, b':', m, n, b':', s, t] = text else {
        return None;
    };
    let (hour, minute, second) = (decimal(&[*h, *i])?, decimal(&[*m, *n])?, decimal(&[*s, *t])?);
    // 60 is a leap second.
    (hour < 24 && minute < 60 && second <= 60).then_some(hour * 3600 + minute * 60 + second)
}

fn decimal(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + u64::from(digit - b'0')))
}

/// Returns the seconds since the Unix epoch, or `None` if the date is invalid or before the epoch.
fn seconds(year: u64, month: u64, day: u64, time: u64) -> Option<u64> {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let lengths = [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let before = &lengths[..month as usize - 1];
    if year < 1970 || !(1..=lengths[before.len()]).contains(&day) {
        return None;
    }
    let leap_years_before = |year: u64| (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400;
    let days = (year - 1970) * 365 + leap_years_before(year) - leap_years_before(1970);
    // A leap second on the last possible day counts as the second before it.
    Some(((days + before.iter().sum::<u64>() + day - 1) * 86_400 + time).min(LAST))
}

/// The last second of the year 9999, in seconds since the Unix epoch. There are no later HTTP dates, and `httpdate`
/// would panic.
const LAST: u64 = 253_402_300_799;

/// Formats a date as a header field value.
pub(crate) fn value(seconds: u64) -> Option<HeaderValue> {
    let time = UNIX_EPOCH.checked_add(std::time::Duration::from_secs(seconds.min(LAST)))?;
    HeaderValue::try_from(httpdate::fmt_http_date(time)).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parses_all_three_http_date_formats_case_insensitively() {
        // RFC 9110 §5.6.7, RFC 9111 §4.2
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "SUN, 06 NOV 1994 08:49:37 gmt",
            "sun, 06 nov 1994 08:49:37 GmT",
            "\t Sun, 06 Nov 1994 08:49:37 GMT ",
            // That day was no Thursday.
            "Thu, 06 Nov 1994 08:49:37 GMT",
            "Thu Nov  6 08:49:37 1994",
        ] {
            assert_eq!(parse(&HeaderValue::from_static(text)), Some(784_111_777), "{text}");
        }
    }

    #[test]
    fn rejects_invalid_dates_and_time_zones() {
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
            "Thu, 18 Aug 2050 02:01:18",
            "Thu, 18 Aug 2050 24:01:18 GMT",
            "Thu, 18 Aug 2050 02:60:18 GMT",
            "Thu, 31 Jun 2050 02:01:18 GMT",
            "Mon, 29 Feb 2100 02:01:18 GMT",
            "Thu, 00 Aug 2050 02:01:18 GMT",
            "Xxx, 18 Aug 2050 02:01:18 GMT",
            "Thu, 18 Aug +050 02:01:18 GMT",
            "Thu Aug  8 02:01:18 2050 GMT",
            "Thu Aug 8 02:01:18 2050",
            "Fri, 31 Dec 1969 23:59:59 GMT",
        ] {
            assert_eq!(parse(&HeaderValue::from_static(text)), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn formatted_dates_parse_to_the_original_seconds(seconds in 0_u64..4_102_444_800) {
            let text = value(seconds).unwrap().to_str().unwrap().to_owned();
            prop_assert_eq!(parse(&HeaderValue::from_str(&text).unwrap()), Some(seconds));
            let (day, rest) = text.split_once(", ").unwrap();
            let parts: Vec<&str> = rest.split(' ').collect();
            let asctime = format!("{day} {} {:>2} {} {}", parts[1], parts[0].trim_start_matches('0'), parts[3], parts[2]);
            prop_assert_eq!(parse(&HeaderValue::from_str(&asctime).unwrap()), Some(seconds));
        }

        #[test]
        fn parsing_a_date_never_panics(bytes in prop::collection::vec(0x20_u8..0x7f, 0..40), cut in 0_usize..30) {
            let _ = parse(&HeaderValue::from_bytes(&bytes).unwrap());
            let _ = parse(&HeaderValue::from_bytes(&b"Sun, 06 Nov 1994 08:49:37 GMT"[..cut]).unwrap());
        }
    }

    #[test]
    fn formats_the_maximum_date_without_a_panic() {
        assert!(value(u64::MAX).is_some());
    }
}
