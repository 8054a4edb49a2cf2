//! Entry points of the fuzz targets, which assert invariants for arbitrary input bytes.

use std::time::{Duration, UNIX_EPOCH};

use http::header::{CACHE_CONTROL, DATE, HeaderMap, HeaderName, HeaderValue};
use http::{Request, StatusCode, Uri};

use crate::QueryRules;
use crate::clock::Timestamp;
use crate::key::CacheKey;
use crate::policy::date;
use crate::policy::freshness::Freshness;
use crate::policy::no_vary_search::SearchVariance;
use crate::policy::range::{RequestedRange, StoredRange};
use crate::policy::request_directives::RequestDirectives;
use crate::policy::response_directives::ResponseDirectives;
use crate::policy::tags::{TagKey, Tags, invalidated_groups};
use crate::policy::targeted;
use crate::policy::vary::{RequestFields, SelectingFields, selecting_value};

/// Parses `Cache-Control`, and asserts that values combine, `no-store` is found and no calculation overflows.
pub fn cache_control(bytes: &[u8]) {
    let lines: Vec<HeaderValue> =
        bytes.split(|byte| *byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok()).collect();
    let mut headers = HeaderMap::new();
    for line in &lines {
        headers.append(CACHE_CONTROL, line.clone());
    }
    let (response, request) = (ResponseDirectives::from_headers(&headers), RequestDirectives::from_headers(&headers));
    let (response_text, request_text) = (format!("{response:?}"), format!("{request:?}"));
    let is_plain = lines.iter().all(|line| !line.as_bytes().contains(&b'"'));
    if is_plain && !lines.is_empty() {
        let joined: Vec<&[u8]> = lines.iter().map(HeaderValue::as_bytes).collect();
        let Ok(joined) = HeaderValue::from_bytes(&joined.join(&b", "[..])) else { return };
        let combined = HeaderMap::from_iter([(CACHE_CONTROL, joined)]);
        assert_eq!(format!("{:?}", ResponseDirectives::from_headers(&combined)), response_text);
        assert_eq!(format!("{:?}", RequestDirectives::from_headers(&combined)), request_text);
        let mut members = lines.iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
        if members.any(|member| member.trim_ascii().eq_ignore_ascii_case(b"no-store")) {
            assert!(response.no_store && request.no_store);
        }
    }
    let at = |seconds| Timestamp::from(UNIX_EPOCH + Duration::from_secs(seconds));
    let freshness = Freshness::new(StatusCode::OK, &headers, &response, true, at(1_000_000), at(1_000_001));
    let _ = freshness.at(at(2_000_000));
}

/// Parses a date, and asserts that the date is the same after formatting and parsing it again.
pub fn http_date(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    let Some(seconds) = date::parse(&value) else { return };
    if let Some(written) = date::value(seconds) {
        assert_eq!(date::parse(&written), Some(seconds), "{value:?}");
    }
    let headers = HeaderMap::from_iter([(DATE, value)]);
    assert_eq!(date::from_headers(&headers, DATE), Some(seconds));
}

/// Selects a response by `Vary`, and asserts that a request matches its own response.
pub fn vary(bytes: &[u8]) {
    let (response, request) = response_and_request(bytes);
    if let Ok(selecting) = SelectingFields::new(&response, &request) {
        assert!(selecting.matches(&mut RequestFields::new(&request)));
    }
    for name in request.keys() {
        let Some(value) = selecting_value(&request, name) else {
            panic!("the selecting value of the present field {name} is missing")
        };
        let Ok(again) = HeaderValue::from_bytes(&value) else {
            panic!("the normalised value {value:?} is not a valid field value")
        };
        let again = HeaderMap::from_iter([(name.clone(), again)]);
        assert_eq!(selecting_value(&again, name).as_deref(), Some(&*value));
    }
}

/// Parses ranges, and asserts that each range lies within the response or the stored part.
pub fn range(bytes: &[u8]) {
    let Some((length, bytes)) = bytes.split_first() else { return };
    let (response, request) = response_and_request(bytes);
    for length in [u64::from(*length), u64::MAX] {
        let mut parts = match RequestedRange::from_headers(&request, length) {
            RequestedRange::Single { first, last } => vec![(first, last)],
            RequestedRange::Multiple(parts) => parts,
            RequestedRange::Whole | RequestedRange::Unsatisfiable => Vec::new(),
        };
        assert!(parts.iter().all(|(first, last)| first <= last && *last < length));
        parts.sort_unstable();
        assert!(parts.windows(2).all(|pair| pair[0].1 < pair[1].0), "{parts:?}");
    }
    let Some(part) = StoredRange::new(&request, &response) else { return };
    assert!(part.length() > 0);
    for available in [0, 1, part.length()] {
        if let Some((first, last)) = part.select(&request, available) {
            assert!(first <= last && last < available);
            let _ = part.content_range(first, last);
        }
    }
}

/// Parses targeted cache-control fields and cache groups, and asserts that parsing does not panic.
pub fn structured_fields(bytes: &[u8]) {
    let (response, _) = response_and_request(bytes);
    let key = TagKey::new([7; 16]);
    let _ = targeted::for_each_directive(&response, |_| {});
    let tags = Tags::from_headers(&response, "https://a.example", 7, key);
    assert_eq!(tags.generation(), 7);
    for tag in tags.hashes() {
        assert!(tags.contains(*tag));
    }
    let _ = invalidated_groups(&response, "https://a.example", key);
}

/// Applies `No-Vary-Search` to queries, and asserts that the canonical query is a fixed point.
pub fn no_vary_search(bytes: &[u8]) {
    let (response, request) = response_and_request(bytes);
    let Some(variance) = SearchVariance::from_headers(&response) else { return };
    for query in request.values().filter_map(|query| query.to_str().ok()) {
        let canonical = variance.canonical(query);
        assert_eq!(variance.canonical(&canonical), canonical, "{query}");
    }
}

/// Builds a cache key, and asserts that resolved references keep its origin and query rules are idempotent.
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
    let Some(key) = CacheKey::from_request(&request) else { return };
    assert!(key.as_str().starts_with(key.origin()));
    if let Some(other) = key.resolve_same_origin(reference) {
        assert_eq!(other.origin(), key.origin());
        assert!(other.path().starts_with('/'));
        assert!(!other.path().split('/').any(|segment| segment == "." || segment == ".."), "{}", other.as_str());
    }
    let rules = QueryRules::new().sorted().ignore("utm_*").ignore("b");
    let query = key.query().unwrap_or_default();
    let once = rules.apply(query).into_owned();
    assert_eq!(rules.apply(&once), once);
}

/// Splits input bytes at an empty line into the header fields of a response and of a request.
fn response_and_request(bytes: &[u8]) -> (HeaderMap, HeaderMap) {
    let between = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap_or(bytes.len());
    (fields(&bytes[..between]), fields(bytes.get(between + 2..).unwrap_or_default()))
}

/// Parses header fields, one per line.
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
    fn combined_cache_control_values_parse_like_separate_values() {
        run(CRATE, "cache_control", cache_control);
    }

    #[test]
    fn formatted_dates_parse_to_the_same_date() {
        run(CRATE, "http_date", http_date);
    }

    #[test]
    fn request_matches_the_selecting_fields_stored_with_its_response() {
        run(CRATE, "vary", vary);
    }

    #[test]
    fn parsed_ranges_lie_within_the_response() {
        run(CRATE, "range", range);
    }

    #[test]
    fn parsing_structured_fields_never_panics() {
        run(CRATE, "structured_fields", structured_fields);
    }

    #[test]
    fn canonicalising_a_query_is_idempotent() {
        run(CRATE, "no_vary_search", no_vary_search);
    }

    #[test]
    fn resolved_uri_references_keep_the_origin_of_the_cache_key() {
        run(CRATE, "key", key);
    }
}
