//! What the fuzzers call: any bytes, and what must hold of them.

use std::time::{Duration, UNIX_EPOCH};

use http::header::{CACHE_CONTROL, DATE, HeaderMap, HeaderName, HeaderValue};
use http::{Request, StatusCode, Uri};

use crate::QueryRules;
use crate::cache_control::{RequestDirectives, ResponseDirectives};
use crate::clock::Timestamp;
use crate::date;
use crate::freshness::Freshness;
use crate::key::Key;
use crate::no_vary_search::SearchVariance;
use crate::range::{Part, PartOf};
use crate::tags::{TagKey, Tags, invalidated};
use crate::targeted;
use crate::vary::{Compared, Selecting, selecting_value};

/// What is said on several lines is said as on one; what a response must not be stored for is heard; and whatever it
/// says of its age, the sums hold.
pub fn cache_control(bytes: &[u8]) {
    let lines: Vec<HeaderValue> =
        bytes.split(|byte| *byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok()).collect();
    let mut headers = HeaderMap::new();
    for line in &lines {
        headers.append(CACHE_CONTROL, line.clone());
    }
    let (response, request) = (ResponseDirectives::of(&headers), RequestDirectives::of(&headers));
    let (said, asked) = (format!("{response:?}"), format!("{request:?}"));
    let is_plain = lines.iter().all(|line| !line.as_bytes().contains(&b'"'));
    if is_plain && !lines.is_empty() {
        let joined: Vec<&[u8]> = lines.iter().map(HeaderValue::as_bytes).collect();
        let Ok(joined) = HeaderValue::from_bytes(&joined.join(&b", "[..])) else { return };
        let on_one_line = HeaderMap::from_iter([(CACHE_CONTROL, joined)]);
        assert_eq!(format!("{:?}", ResponseDirectives::of(&on_one_line)), said);
        assert_eq!(format!("{:?}", RequestDirectives::of(&on_one_line)), asked);
        let mut members = lines.iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
        if members.any(|member| member.trim_ascii().eq_ignore_ascii_case(b"no-store")) {
            assert!(response.no_store && request.no_store);
        }
    }
    let at = |seconds| Timestamp::from(UNIX_EPOCH + Duration::from_secs(seconds));
    let freshness = Freshness::new(StatusCode::OK, &headers, &response, true, at(1_000_000), at(1_000_001));
    let _ = freshness.moment(at(2_000_000));
}

/// A date that can be read can be written, and is the same.
pub fn http_date(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    let Some(seconds) = date::parse(&value) else { return };
    if let Some(written) = date::value(seconds) {
        assert_eq!(date::parse(&written), Some(seconds), "{value:?}");
    }
    let headers = HeaderMap::from_iter([(DATE, value)]);
    assert_eq!(date::of(&headers, DATE), Some(seconds));
}

/// A request selects the answer that it got; and what is compared stays the same when it is made comparable again.
pub fn vary(bytes: &[u8]) {
    let (response, request) = two(bytes);
    if let Ok(selecting) = Selecting::new(&response, &request) {
        assert!(selecting.matches(&mut Compared::new(&request)));
    }
    for name in request.keys() {
        let Some(value) = selecting_value(&request, name) else { panic!("{name} is there") };
        let Ok(again) = HeaderValue::from_bytes(&value) else { panic!("{value:?} is no value") };
        let again = HeaderMap::from_iter([(name.clone(), again)]);
        assert_eq!(selecting_value(&again, name).as_deref(), Some(&*value));
    }
}

/// A part lies within the whole, and an answer from a part within the part.
pub fn range(bytes: &[u8]) {
    let Some((length, bytes)) = bytes.split_first() else { return };
    let (response, request) = two(bytes);
    for length in [u64::from(*length), u64::MAX] {
        let mut parts = match Part::of(&request, length) {
            Part::Single { first, last } => vec![(first, last)],
            Part::Several(parts) => parts,
            Part::Whole | Part::Unsatisfiable => Vec::new(),
        };
        assert!(parts.iter().all(|(first, last)| first <= last && *last < length));
        parts.sort_unstable();
        assert!(parts.windows(2).all(|pair| pair[0].1 < pair[1].0), "{parts:?}");
    }
    let Some(part) = PartOf::new(&request, &response) else { return };
    assert!(part.length() > 0);
    for held in [0, 1, part.length()] {
        if let Some((first, last)) = part.select(&request, held) {
            assert!(first <= last && last < held);
            let _ = part.content_range(first, last);
        }
    }
}

/// Targeted fields, cache groups and their invalidations: structured fields of any kind end in an answer.
pub fn structured_fields(bytes: &[u8]) {
    let (response, _) = two(bytes);
    let key = TagKey::new([7; 16]);
    let _ = targeted::directives(&response);
    let tags = Tags::of(&response, "https://a.example", 7, key);
    assert_eq!(tags.asked(), 7);
    for tag in tags.hashes() {
        assert!(tags.has(*tag));
    }
    let _ = invalidated(&response, "https://a.example", key);
}

/// What counts of a query counts in what is made of it, too.
pub fn no_vary_search(bytes: &[u8]) {
    let (response, request) = two(bytes);
    let Some(variance) = SearchVariance::of(&response) else { return };
    for query in request.values().filter_map(|query| query.to_str().ok()) {
        let canonical = variance.canonical(query);
        assert_eq!(variance.canonical(&canonical), canonical, "{query}");
    }
}

/// A key is of its own origin, and so is what a reference resolves to; rules for queries change nothing twice.
pub fn key(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let mut lines = text.split('\n');
    let (target, host, reference) =
        (lines.next().unwrap_or_default(), lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let Ok(uri) = target.parse::<Uri>() else { return };
    let mut request = Request::new(());
    *request.uri_mut() = uri;
    if let Ok(host) = HeaderValue::from_str(host) {
        request.headers_mut().insert("host", host);
    }
    let Some(key) = Key::of(&request) else { return };
    assert!(key.as_str().starts_with(key.origin()));
    if let Some(other) = key.same_origin(reference) {
        assert_eq!(other.origin(), key.origin());
        assert!(other.path().starts_with('/'));
        assert!(!other.path().split('/').any(|segment| segment == "." || segment == ".."), "{}", other.as_str());
    }
    let rules = QueryRules::new().sorted().ignore("utm_*").ignore("b");
    let query = key.query().unwrap_or_default();
    let once = rules.apply(query).into_owned();
    assert_eq!(rules.apply(&once), once);
}

/// Fields of a response and, after an empty line, of a request.
fn two(bytes: &[u8]) -> (HeaderMap, HeaderMap) {
    let between = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap_or(bytes.len());
    (fields(&bytes[..between]), fields(bytes.get(between + 2..).unwrap_or_default()))
}

/// A field on each line.
fn fields(bytes: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = (&line[..colon], line.get(colon + 1..).unwrap_or_default().trim_ascii());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use rproxy_seeds::run;

    const CRATE: &str = env!("CARGO_MANIFEST_DIR");

    #[test]
    fn cache_control_holds_near_its_seeds() {
        run(CRATE, "cache_control", cache_control);
    }

    #[test]
    fn http_date_holds_near_its_seeds() {
        run(CRATE, "http_date", http_date);
    }

    #[test]
    fn vary_holds_near_its_seeds() {
        run(CRATE, "vary", vary);
    }

    #[test]
    fn range_holds_near_its_seeds() {
        run(CRATE, "range", range);
    }

    #[test]
    fn structured_fields_hold_near_their_seeds() {
        run(CRATE, "structured_fields", structured_fields);
    }

    #[test]
    fn no_vary_search_holds_near_its_seeds() {
        run(CRATE, "no_vary_search", no_vary_search);
    }

    #[test]
    fn key_holds_near_its_seeds() {
        run(CRATE, "key", key);
    }
}
