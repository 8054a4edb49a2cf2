//! `traceparent` and `tracestate` (W3C Trace Context): which trace a request belongs to.

use std::fmt::Write;

use http::header::{HeaderMap, HeaderValue};
use uuid::Uuid;

use crate::names::{TRACEPARENT, TRACESTATE};
use crate::request_id::RequestId;

/// What becomes of the trace that a request says it belongs to.
///
/// Whatever is chosen, a `traceparent` that is none goes, and `tracestate` with it (§4.3 of the specification). This
/// proxy makes no spans of its own, and so leaves the `parent-id` of a trace that it passes on as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TraceContext {
    /// It is passed on.
    #[default]
    Pass,
    /// It is passed on; a request without one begins a trace, which is sampled.
    Begin,
    /// It is passed on if it comes from a trusted peer; any other request begins a trace, whatever it says: so that
    /// nobody outside has a say in what is recorded.
    Restart,
}

impl TraceContext {
    /// Sees to the fields, which are there only if `is_there`. A trace that is begun is called like the request.
    pub(crate) fn apply(self, headers: &mut HeaderMap, is_there: bool, is_trusted: bool, id: &RequestId) {
        let goes_on = is_there && (is_trusted || self != Self::Restart) && is_valid(headers);
        if is_there && !goes_on {
            headers.remove(TRACEPARENT);
            headers.remove(TRACESTATE);
        }
        if !goes_on && self != Self::Pass {
            headers.insert(TRACEPARENT, begin(id));
        }
    }
}

/// A new trace: version 00, and sampled, as whoever has it begun here wants it seen.
fn begin(id: &RequestId) -> HeaderValue {
    // Its last 62 bits are random: `trace-id` wants that of 56. Another one is for a request that was named elsewhere.
    let trace_id = Uuid::try_parse(id.as_str()).ok().filter(|id| !id.is_nil()).unwrap_or_else(Uuid::now_v7);
    // The variant in its upper bits keeps it from being zero.
    let (_, parent_id) = Uuid::now_v7().as_u64_pair();
    let mut text = String::with_capacity(LENGTH);
    // Writing to a string can't fail.
    let _ = write!(text, "00-{}-{parent_id:016x}-01", trace_id.simple());
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

/// Whether there is one `traceparent` that is one. A `tracestate` that is none goes by itself (§3.3.1).
fn is_valid(headers: &mut HeaderMap) -> bool {
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

/// §3.2: `version "-" trace-id "-" parent-id "-" trace-flags`; more only behind a hyphen, in a version to come.
fn is_traceparent(value: &[u8]) -> bool {
    let Some((known, more)) = value.split_at_checked(LENGTH) else { return false };
    let mut parts = known.split(|&byte| byte == b'-');
    let (Some(version), Some(trace_id), Some(parent_id), Some(flags), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let is_hex =
        |part: &[u8], length| part.len() == length && part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_some = |part: &[u8]| part.iter().any(|&byte| byte != b'0');
    let ends_well = if version == b"00" { more.is_empty() } else { more.is_empty() || more.starts_with(b"-") };
    is_hex(version, 2)
        && version != b"ff"
        && is_hex(trace_id, 32)
        && is_some(trace_id)
        && is_hex(parent_id, 16)
        && is_some(parent_id)
        && is_hex(flags, 2)
        && ends_well
}

/// §3.3.1: at most 32 members, no key twice; empty ones are allowed.
fn is_tracestate<'a>(lines: impl Iterator<Item = &'a [u8]>) -> bool {
    let mut keys: Vec<&[u8]> = Vec::new();
    let members = lines.flat_map(|line| line.split(|&byte| byte == b',')).map(<[u8]>::trim_ascii);
    for (index, member) in members.enumerate() {
        // Empty members are allowed, but not by the thousand.
        if index == 2 * MOST_MEMBERS {
            return false;
        }
        if member.is_empty() {
            continue;
        }
        let Some(equals) = member.iter().position(|&byte| byte == b'=') else { return false };
        let (key, value) = (&member[..equals], &member[equals + 1..]);
        if keys.len() == MOST_MEMBERS || !is_key(key) || !is_value(value) || keys.contains(&key) {
            return false;
        }
        keys.push(key);
    }
    true
}

fn is_key(key: &[u8]) -> bool {
    let may_begin = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    key.len() <= 256
        && key.first().is_some_and(may_begin)
        && key.iter().all(|byte| may_begin(byte) || b"_-*/@".contains(byte))
}

fn is_value(value: &[u8]) -> bool {
    let is_char = |byte: &u8| matches!(byte, b' '..=b'~') && !b",=".contains(byte);
    (1..=256).contains(&value.len()) && value.iter().all(is_char)
}

const LENGTH: usize = 55;
const MOST_MEMBERS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_traceparent_is_one_or_none() {
        for (value, valid) in [
            (GOOD, true),
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
    fn a_tracestate_is_a_list_of_keys_and_values() {
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
    fn a_trace_goes_on_or_begins_as_it_is_told() {
        use TraceContext::{Begin, Pass, Restart};
        let id = RequestId::new();
        for (what, is_trusted, lines, expected) in [
            (Pass, false, &[("traceparent", GOOD), ("tracestate", "a=1")][..], Some((true, true))),
            (Pass, false, &[("traceparent", GOOD), ("tracestate", "A")], Some((true, false))),
            (Pass, false, &[("traceparent", "nonsense"), ("tracestate", "a=1")], None),
            (Pass, false, &[("tracestate", "a=1")], None),
            (Pass, false, &[("traceparent", GOOD), ("traceparent", GOOD)], None),
            (Begin, false, &[("traceparent", GOOD), ("tracestate", "a=1")], Some((true, true))),
            (Begin, false, &[("traceparent", "nonsense"), ("tracestate", "a=1")], Some((false, false))),
            (Begin, false, &[], Some((false, false))),
            (Restart, false, &[("traceparent", GOOD), ("tracestate", "a=1")], Some((false, false))),
            (Restart, true, &[("traceparent", GOOD), ("tracestate", "a=1")], Some((true, true))),
        ] {
            let mut headers = headers(lines);
            what.apply(&mut headers, !lines.is_empty(), is_trusted, &id);
            let traceparent = headers.get(TRACEPARENT).map(|value| value.to_str().unwrap());
            let seen = traceparent.map(|traceparent| (traceparent == GOOD, headers.contains_key(TRACESTATE)));
            assert_eq!(seen, expected, "{what:?} {lines:?}");
        }
    }

    #[test]
    fn a_trace_that_begins_is_called_like_the_request() {
        let id = RequestId::new();
        let traceparent = begin(&id);
        assert!(is_traceparent(traceparent.as_bytes()));
        assert_eq!(traceparent.to_str().unwrap()[3..35], id.as_str().replace('-', ""));
        let named = RequestId::from_trusted(&HeaderValue::from_static("r-1")).unwrap();
        assert!(is_traceparent(begin(&named).as_bytes()));
        assert_ne!(begin(&named), begin(&named));
    }
}
