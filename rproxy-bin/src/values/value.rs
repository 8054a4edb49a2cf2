//! Parsers for values of primitive types, and the error of all parsers.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

/// The error for an invalid setting value.
///
/// The message names the text and the reason: `bad size "12 apples": unknown unit "apples"`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad {what} {input:?}: {reason}")]
pub struct ParseError {
    what: &'static str,
    input: String,
    reason: String,
}

impl ParseError {
    pub(crate) fn new(what: &'static str, input: &str, reason: impl Into<String>) -> Self {
        Self { what, input: presentable(input), reason: reason.into() }
    }
}

/// Returns the input for a message: shortened if it is long, and without the password of a URL.
pub(crate) fn presentable(input: &str) -> String {
    const LONGEST: usize = 80;
    let mut text = input.to_owned();
    let scheme = text.find("://").map(|at| at + 3);
    let user = scheme.unwrap_or(0)..text.rfind('@').unwrap_or(0);
    // Without a scheme, `me@example.com` is just an address, and `me:secret@host` is not.
    if user.start < user.end && (scheme.is_some() || text[user.clone()].contains(':')) {
        text.replace_range(user, "***");
    }
    if text.chars().count() > LONGEST {
        text = text.chars().take(LONGEST).chain("...".chars()).collect();
    }
    text
}

/// One mebibyte, the unit of a bare number in `RPROXY_CACHE_SIZE`.
pub(crate) const MEBIBYTE: u64 = 1 << 20;

pub(crate) fn boolean(text: &str) -> Result<bool, ParseError> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(ParseError::new("switch", text, "neither true nor false")),
    }
}

pub(crate) fn rate(text: &str) -> Result<NonZeroU32, ParseError> {
    let number = whole(text, u32::MAX.into())?;
    u32::try_from(number)
        .ok()
        .and_then(NonZeroU32::new)
        .ok_or_else(|| ParseError::new("number", text, "must be 1 or more"))
}

pub(crate) fn workers(text: &str) -> Result<NonZeroUsize, ParseError> {
    // Each worker is a thread with its own listeners and connection pools; a larger number is a mistake.
    const MAX: u64 = 1024;
    let number = whole(text, MAX)?;
    usize::try_from(number)
        .ok()
        .and_then(NonZeroUsize::new)
        .ok_or_else(|| ParseError::new("number", text, "must be 1 or more"))
}

pub(crate) fn ipv6_prefix(text: &str) -> Result<u8, ParseError> {
    match text.trim_start_matches('/').parse() {
        Ok(prefix @ 1..=128) => Ok(prefix),
        _ => Err(ParseError::new("IPv6 prefix length", text, "not a whole number from 1 to 128")),
    }
}

/// Parses a whole number from 0 to `most`.
pub(crate) fn count(text: &str, most: u32) -> Result<u32, ParseError> {
    // The number is at most `most`, a u32.
    whole(text, most.into()).map(|number| number as u32)
}

/// Parses a whole number from 1 to `most` as a limit.
pub(crate) fn limit<T: TryFrom<u32>>(text: &str, most: u32) -> Result<T, ParseError> {
    let number = match count(text, most)? {
        0 => return Err(ParseError::new("number", text, "must be 1 or more")),
        number => number,
    };
    T::try_from(number).map_err(|_| ParseError::new("number", text, format!("must be {most} or less")))
}

/// Parses a size from `least` to `most` bytes.
pub(crate) fn size_between(text: &str, least: u64, most: u64) -> Result<usize, ParseError> {
    let bytes = size(text, 1)?;
    let error = |reason: String| ParseError::new("size", text, reason);
    match usize::try_from(bytes) {
        Ok(size) if (least..=most).contains(&bytes) => Ok(size),
        _ if bytes < least => Err(error(format!("must be {} or more", format_size(least)))),
        _ => Err(error(format!("must be {} or less", format_size(most)))),
    }
}

fn whole(text: &str, most: u64) -> Result<u64, ParseError> {
    let error = |reason: String| ParseError::new("number", text, reason);
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(error("not a whole number".into()));
    }
    match text.parse() {
        Ok(number) if number <= most => Ok(number),
        _ => Err(error(format!("must be {most} or less"))),
    }
}

/// Parses a duration such as `500ms`, `2m` or `1h 30m`. A bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, ParseError> {
    duration_up_to(text, Duration::from_secs(365 * 24 * 60 * 60))
}

/// Parses a duration of at most `longest`, which is about a year.
pub(crate) fn duration_up_to(text: &str, longest: Duration) -> Result<Duration, ParseError> {
    let error = |reason: String| ParseError::new("duration", text, reason);
    // Long enough for any sensible duration, short enough that no sum in the parser can overflow.
    if text.len() > 20 {
        return Err(error("too long".into()));
    }
    let bare = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let parsed = match bare {
        true => humantime::parse_duration(&format!("{text}s")),
        false => humantime::parse_duration(text),
    };
    match parsed {
        Ok(duration) if duration <= longest => Ok(duration),
        Ok(_) => Err(error("longer than a year".into())),
        Err(humantime::DurationError::Empty) => Err(error("empty".into())),
        Err(humantime::DurationError::UnknownUnit { unit, .. }) => Err(error(format!("unknown unit {unit:?}"))),
        Err(humantime::DurationError::NumberOverflow) => Err(error("the number is out of range".into())),
        Err(_) => Err(error("not a number with a time unit".into())),
    }
}

/// Parses a duration longer than zero: with a timeout of zero, every request would fail.
pub(crate) fn timeout(text: &str) -> Result<Duration, ParseError> {
    match duration(text)? {
        Duration::ZERO => Err(ParseError::new("duration", text, "must be longer than 0")),
        some => Ok(some),
    }
}

pub(crate) fn format_duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// Parses a size such as `64MiB`, `10 MB` or `512k`. A bare number is in units of `unit` bytes.
pub(crate) fn size(text: &str, unit: u64) -> Result<u64, ParseError> {
    let error = |reason: String| ParseError::new("size", text, reason);
    let too_large = || error("too large".into());
    if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
        let number: u64 = text.parse().map_err(|_| too_large())?;
        return number.checked_mul(unit).filter(|bytes| i64::try_from(*bytes).is_ok()).ok_or_else(too_large);
    }
    match text.parse::<bytesize::ByteSize>() {
        Ok(size) if i64::try_from(size.as_u64()).is_ok() => Ok(size.as_u64()),
        Ok(_) => Err(too_large()),
        Err(_) => Err(error("not a size in bytes".into())),
    }
}

/// Returns the shortest text that [`size`] parses as this number of bytes.
pub(crate) fn format_size(bytes: u64) -> String {
    let (unit, name) = [(1u64 << 30, "GiB"), (MEBIBYTE, "MiB"), (1 << 10, "KiB")]
        .into_iter()
        .find(|(unit, _)| bytes != 0 && bytes.is_multiple_of(*unit))
        .unwrap_or((1, "B"));
    format!("{}{name}", bytes / unit)
}

pub(crate) fn path(text: &str) -> Result<PathBuf, ParseError> {
    match text {
        "" => Err(ParseError::new("path", text, "empty")),
        _ => Ok(PathBuf::from(text)),
    }
}

/// Parses an optional value; an empty text and `none` mean no value.
pub(crate) fn optional<T, E>(text: &str, parse: impl FnOnce(&str) -> Result<T, E>) -> Result<Option<T>, E> {
    match text {
        "" | "none" => Ok(None),
        _ => parse(text).map(Some),
    }
}

/// Parses a comma-separated list, ignoring empty entries.
pub(crate) fn list<T, E>(text: &str, parse: impl FnMut(&str) -> Result<T, E>) -> Result<Vec<T>, E> {
    text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(parse).collect()
}

/// Returns an error if the list is empty.
pub(crate) fn some<T>(what: &'static str, text: &str, list: Vec<T>) -> Result<Vec<T>, ParseError> {
    match list.is_empty() {
        true => Err(ParseError::new(what, text, "empty")),
        false => Ok(list),
    }
}

pub(crate) fn joined<T>(list: &[T]) -> Option<String>
where
    T: ToString,
{
    let texts: Vec<String> = list.iter().map(T::to_string).collect();
    (!texts.is_empty()).then(|| texts.join(","))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parses_booleans_in_any_case() {
        for (text, value) in [
            ("true", true),
            ("TRUE", true),
            ("1", true),
            ("Yes", true),
            ("on", true),
            ("false", false),
            ("0", false),
            ("No", false),
            ("OFF", false),
        ] {
            assert_eq!(boolean(text), Ok(value), "{text}");
        }
        for text in ["", "maybe", "2", "truee"] {
            assert_eq!(boolean(text).unwrap_err().to_string(), format!("bad switch {text:?}: neither true nor false"),);
        }
    }

    #[test]
    fn parses_and_prints_durations() {
        for (text, millis) in [
            ("30", 30_000),
            ("0", 0),
            ("0.5", 500),
            ("500ms", 500),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("1h 30m", 5_400_000),
            ("1.5s", 1_500),
            ("2 min", 120_000),
        ] {
            let read = duration(text).unwrap();
            assert_eq!(read, Duration::from_millis(millis), "{text}");
            assert_eq!(duration(&format_duration(read)), Ok(read), "{text}");
        }
        for (text, reason) in [
            ("", "empty"),
            ("soon", "not a number with a time unit"),
            ("-1", "not a number with a time unit"),
            ("1,5s", "not a number with a time unit"),
            ("2 parsecs", "unknown unit \"parsecs\""),
            ("99999d", "longer than a year"),
            ("9999999999999999999", "longer than a year"),
            ("18446744073709551615s1000ms", "too long"),
        ] {
            assert_eq!(duration(text).unwrap_err().to_string(), format!("bad duration {text:?}: {reason}"));
        }
        assert_eq!(timeout("0").unwrap_err().to_string(), "bad duration \"0\": must be longer than 0");
    }

    #[test]
    fn parses_and_prints_sizes() {
        for (text, unit, bytes) in [
            ("64", MEBIBYTE, 64 << 20),
            ("64", 1, 64),
            ("0", 1, 0),
            ("64MiB", MEBIBYTE, 64 << 20),
            ("64mib", 1, 64 << 20),
            ("64 MiB", 1, 64 << 20),
            ("1.5GiB", 1, 3 << 29),
            ("10MB", 1, 10_000_000),
            ("512k", 1, 512_000),
            ("100B", MEBIBYTE, 100),
        ] {
            let read = size(text, unit).unwrap();
            assert_eq!(read, bytes, "{text}");
            assert_eq!(size(&format_size(read), unit), Ok(read), "{text}");
        }
        for (text, reason) in [
            ("", "not a size in bytes"),
            ("lots", "not a size in bytes"),
            ("-1", "not a size in bytes"),
            ("12 apples", "not a size in bytes"),
            ("99999999999999999999", "too large"),
            ("9999999EiB", "too large"),
        ] {
            assert_eq!(size(text, 1).unwrap_err().to_string(), format!("bad size {text:?}: {reason}"));
        }
        assert_eq!(format_size(64 << 20), "64MiB");
        assert_eq!(format_size(1000), "1000B");
    }

    #[test]
    fn rejects_numbers_out_of_range() {
        assert_eq!(rate("100").map(NonZeroU32::get), Ok(100));
        assert_eq!(ipv6_prefix("64"), Ok(64));
        assert_eq!(ipv6_prefix("/56"), Ok(56));
        assert_eq!(workers("2").map(NonZeroUsize::get), Ok(2));
        for (error, message) in [
            (rate("0").unwrap_err(), "bad number \"0\": must be 1 or more"),
            (rate("-5").unwrap_err(), "bad number \"-5\": not a whole number"),
            (rate("1.5").unwrap_err(), "bad number \"1.5\": not a whole number"),
            (rate("4294967296").unwrap_err(), "bad number \"4294967296\": must be 4294967295 or less"),
            (workers("0").unwrap_err(), "bad number \"0\": must be 1 or more"),
            (workers("9999").unwrap_err(), "bad number \"9999\": must be 1024 or less"),
            (ipv6_prefix("0").unwrap_err(), "bad IPv6 prefix length \"0\": not a whole number from 1 to 128"),
            (ipv6_prefix("129").unwrap_err(), "bad IPv6 prefix length \"129\": not a whole number from 1 to 128"),
        ] {
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn error_messages_hide_passwords_and_shorten_long_input() {
        assert_eq!(presentable("http://user:p@ss@host:80"), "http://***@host:80");
        assert_eq!(presentable("user:p@host:80"), "***@host:80");
        assert_eq!(presentable("me@example.com"), "me@example.com");
        assert_eq!(presentable("@://"), "@://");
        assert_eq!(presentable(&"x".repeat(200)), format!("{}...", "x".repeat(80)));
    }

    proptest! {
        #[test]
        fn setting_parsers_never_panic(text in ".{0,40}") {
            let _ = (boolean(&text), rate(&text), duration(&text), size(&text, MEBIBYTE), ipv6_prefix(&text));
        }

        #[test]
        fn size_and_duration_parsers_never_panic(text in "[0-9.]{1,22}[a-zA-Z]{0,3}[0-9]{0,5}[a-z]{0,2}") {
            let _ = (duration(&text), size(&text, 1));
        }

        #[test]
        fn printed_values_parse_to_the_same_value(bytes in 0..=i64::MAX as u64, millis in 0..30_000_000u64) {
            prop_assert_eq!(size(&format_size(bytes), 1), Ok(bytes));
            let some = Duration::from_millis(millis);
            prop_assert_eq!(duration(&format_duration(some)), Ok(some));
        }
    }
}
