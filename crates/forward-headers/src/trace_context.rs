//! The trace context fields `traceparent` and `tracestate` (W3C Trace Context).

use std::fmt::Write;

use http::header::{HeaderMap, HeaderValue};
use uuid::Uuid;

use crate::names::{TRACEPARENT, TRACESTATE};
use crate::request_id::{RequestId, uuid_v7};

/// The policy for the trace context fields of requests.
///
/// An invalid `traceparent` is always removed, together with `tracestate` (§4.3 of the specification). This proxy creates
/// no spans, so it does not change the `parent-id` of a trace that it forwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TraceContext {
    /// Forwards a valid trace context.
    #[default]
    Forward,
    /// Forwards a valid trace context, and starts a sampled trace for requests without one.
    Start,
    /// Forwards a valid trace context of trusted peers, and starts a sampled trace for all other requests.
    ///
    /// Untrusted clients then cannot influence which traces are recorded.
    Restart,
}

impl TraceContext {
    /// Keeps, removes or creates the trace context fields of a request according to the policy.
    ///
    /// A new trace gets the request ID as its `trace-id`. `is_present` is whether the request has any of the two fields.
    pub(crate) fn apply(self, headers: &mut HeaderMap, is_present: bool, is_trusted: bool, id: &RequestId) {
        let is_forwarded = is_present && (is_trusted || self != Self::Restart) && check(headers);
        if is_present && !is_forwarded {
            headers.remove(TRACEPARENT);
            headers.remove(TRACESTATE);
        }
        if !is_forwarded && self != Self::Forward {
            headers.insert(TRACEPARENT, new_traceparent(id));
        }
    }
}

/// Creates a `traceparent` of version 00 with the sampled flag.
fn new_traceparent(id: &RequestId) -> HeaderValue {
    // The last 62 bits of a UUIDv7 are random, and `trace-id` requires 56 (§3.2.2.3). A request ID of a trusted peer need
    // not be a UUID.
    let trace_id = Uuid::try_parse(id.as_str()).ok().filter(|id| !id.is_nil()).unwrap_or_else(uuid_v7);
    // Never zero: the upper bits contain the variant.
    let (_, parent_id) = uuid_v7().as_u64_pair();
    let mut text = String::with_capacity(LENGTH);
    // Writing to a string cannot fail.
    let _ = write!(text, "00-{}-{parent_id:016x}-01", trace_id.simple());
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

/// Returns whether the request has exactly one `traceparent`, with a valid value. Removes an invalid `tracestate`
/// (§3.3.1).
fn check(headers: &mut HeaderMap) -> bool {
    let mut lines = headers.get_all(TRACEPARENT).iter();
    let (Some(traceparent), None) = (lines.next(), lines.next()) else { return false };
    if !is_traceparent(traceparent.as_bytes()) {
        return false;
    }
    if !is_tracestate(headers.get_all(TRACESTATE).iter().map(HeaderValue::as_bytes)) {
        headers.remove(TRACESTATE);
    }
    true
}

/// Returns whether `value` is a valid `traceparent` (W3C Trace Context §3.2).
///
/// Its form is `version "-" trace-id "-" parent-id "-" trace-flags`. Future versions may append more, after a hyphen.
fn is_traceparent(value: &[u8]) -> bool {
    let Some((known, suffix)) = value.split_at_checked(LENGTH) else { return false };
    let mut parts = known.split(|&byte| byte == b'-');
    let (Some(version), Some(trace_id), Some(parent_id), Some(flags), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let is_hex =
        |part: &[u8], length| part.len() == length && part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_non_zero = |part: &[u8]| part.iter().any(|&byte| byte != b'0');
    let has_valid_suffix = suffix.is_empty() || version != b"00" && suffix.starts_with(b"-");
    is_hex(version, 2)
        && version != b"ff"
        && is_hex(trace_id, 32)
        && is_non_zero(trace_id)
        && is_hex(parent_id, 16)
        && is_non_zero(parent_id)
        && is_hex(flags, 2)
        && has_valid_suffix
}

/// Returns whether the field lines form a valid `tracestate` (W3C Trace Context §3.3.1).
///
/// It has at most 32 members with unique keys, not counting empty members.
fn is_tracestate<'a>(lines: impl Iterator<Item = &'a [u8]>) -> bool {
    let mut keys: Vec<&[u8]> = Vec::new();
    let members = lines.flat_map(|line| line.split(|&byte| byte == b',')).map(<[u8]>::trim_ascii);
    for (index, member) in members.enumerate() {
        // Limits the number of empty members.
        if index == 2 * MAX_MEMBERS {
            return false;
        }
        if member.is_empty() {
            continue;
        }
        let Some(equals) = member.iter().position(|&byte| byte == b'=') else { return false };
        let (key, value) = (&member[..equals], &member[equals + 1..]);
        if keys.len() == MAX_MEMBERS || !is_key(key) || !is_value(value) || keys.contains(&key) {
            return false;
        }
        keys.push(key);
    }
    true
}

fn is_key(key: &[u8]) -> bool {
    let is_alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    key.len() <= 256
        && key.first().is_some_and(is_alphanumeric)
        && key.iter().all(|byte| is_alphanumeric(byte) || b"_-*/@".contains(byte))
}

fn is_value(value: &[u8]) -> bool {
    let is_char = |byte: &u8| matches!(byte, b' '..=b'~') && !b",=".contains(byte);
    (1..=256).contains(&value.len()) && value.iter().all(is_char)
}

const LENGTH: usize = 55;
const MAX_MEMBERS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn rejects_invalid_traceparent() {
        for (value, valid) in [
            (VALID, true),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff", true),
            ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true),
            ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", true),
            ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01more", false),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", false),
            ("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false),
            ("00-00000000000000000000000000000000-b7ad6b7169203331-01", false),
            ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", false),
            ("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", false),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", false),
            ("00-0af7651916cd43dd8448eb211c80319cb7-ad6b7169203331-01", false),
            ("00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01", false),
            ("0x-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false),
            ("", false),
        ] {
            assert_eq!(is_traceparent(value.as_bytes()), valid, "{value}");
        }
    }

    #[test]
    fn rejects_invalid_tracestate() {
        let many = |count: usize| (0..count).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
        for (value, valid) in [
            ("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", true),
            ("tenant@vendor=1, 1a-_*/=x y", true),
            (" , a=1 ,", true),
            ("", true),
            ("a=1,a=2", false),
            ("A=1", false),
            ("a", false),
            ("a=", false),
            ("=1", false),
            ("a=b=c", false),
            (&many(32), true),
            (&many(33), false),
            (&",".repeat(60), true),
            (&",".repeat(100), false),
            (&format!("{}=1", "a".repeat(257)), false),
            (&format!("a={}", "a".repeat(257)), false),
        ] {
            assert_eq!(is_tracestate([value.as_bytes()].into_iter()), valid, "{value}");
        }
    }

    #[test]
    fn forwards_starts_or_restarts_traces_according_to_the_policy() {
        use TraceContext::{Forward, Restart, Start};
        let id = RequestId::generate();
        for (setting, is_trusted, lines, expected) in [
            (Forward, false, &[("traceparent", VALID), ("tracestate", "a=1")][..], Some((true, true))),
            (Forward, false, &[("traceparent", VALID), ("tracestate", "A")], Some((true, false))),
            (Forward, false, &[("traceparent", "nonsense"), ("tracestate", "a=1")], None),
            (Forward, false, &[("tracestate", "a=1")], None),
            (Forward, false, &[("traceparent", VALID), ("traceparent", VALID)], None),
            (Start, false, &[("traceparent", VALID), ("tracestate", "a=1")], Some((true, true))),
            (Start, false, &[("traceparent", "nonsense"), ("tracestate", "a=1")], Some((false, false))),
            (Start, false, &[], Some((false, false))),
            (Restart, false, &[("traceparent", VALID), ("tracestate", "a=1")], Some((false, false))),
            (Restart, true, &[("traceparent", VALID), ("tracestate", "a=1")], Some((true, true))),
        ] {
            let mut headers = headers(lines);
            setting.apply(&mut headers, !lines.is_empty(), is_trusted, &id);
            let traceparent = headers.get(TRACEPARENT).map(|value| value.to_str().unwrap());
            let actual = traceparent.map(|traceparent| (traceparent == VALID, headers.contains_key(TRACESTATE)));
            assert_eq!(actual, expected, "{setting:?} {lines:?}");
        }
    }

    #[test]
    fn new_trace_has_the_request_id_as_trace_id() {
        let id = RequestId::generate();
        let traceparent = new_traceparent(&id);
        assert!(is_traceparent(traceparent.as_bytes()));
        assert_eq!(traceparent.to_str().unwrap()[3..35], id.as_str().replace('-', ""));
        let named = RequestId::from_trusted(&HeaderValue::from_static("r-1")).unwrap();
        assert!(is_traceparent(new_traceparent(&named).as_bytes()));
        assert_ne!(new_traceparent(&named), new_traceparent(&named));
    }
}
