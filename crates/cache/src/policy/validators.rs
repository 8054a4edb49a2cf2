//! Validators and conditional requests (RFC 9111 §4.3 and RFC 9110 §13).

use http::header::{self, HeaderValue};
use http::{HeaderMap, StatusCode};

use crate::policy::date;

/// The validators of a response: `ETag` and `Last-Modified`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Validators {
    pub(crate) etag: Option<HeaderValue>,
    pub(crate) last_modified: Option<HeaderValue>,
}

impl Validators {
    pub(crate) fn from_headers(headers: &HeaderMap) -> Self {
        Self {
            etag: headers.get(header::ETAG).cloned(),
            last_modified: headers.get(header::LAST_MODIFIED).filter(|value| date::parse(value).is_some()).cloned(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none()
    }

    /// Makes a request conditional, so that it validates the stored response. The condition of the client is removed,
    /// and evaluated later.
    // RFC 9111 §4.3.1
    pub(crate) fn make_conditional(&self, request: &mut HeaderMap) {
        request.remove(header::IF_NONE_MATCH);
        request.remove(header::IF_MODIFIED_SINCE);
        if let Some(etag) = &self.etag {
            request.insert(header::IF_NONE_MATCH, etag.clone());
        }
        if let Some(last_modified) = &self.last_modified {
            request.insert(header::IF_MODIFIED_SINCE, last_modified.clone());
        }
    }

    /// Whether a 304 response validates a stored response with these validators (RFC 9111 §4.3.4).
    ///
    /// Weak comparison suffices, as the request named no other response. It is also necessary: an intermediary that
    /// compresses responses weakens their `ETag`, but not that of a 304.
    pub(crate) fn are_confirmed_by(&self, not_modified: &HeaderMap) -> bool {
        let theirs = Self::from_headers(not_modified);
        match (&self.etag, &theirs.etag, &self.last_modified, &theirs.last_modified) {
            (Some(ours), Some(theirs), ..) => weakly_equal(ours.as_bytes(), theirs.as_bytes()),
            (_, _, Some(ours), Some(theirs)) => date::parse(ours) == date::parse(theirs),
            (None, Some(_), ..) => false,
            _ => true,
        }
    }

    /// Whether parts with these validators can be combined (RFC 9110 §15.3.7.3).
    pub(crate) fn is_strong(&self) -> bool {
        self.etag.as_ref().is_some_and(|etag| !is_weak(etag.as_bytes()))
    }

    /// Returns the `ETag`, if it is strong and valid in `If-None-Match` and `If-Range`.
    // RFC 9110 §8.8.3
    pub(crate) fn strong_tag(&self) -> Option<&HeaderValue> {
        const LONGEST: usize = 256;
        let value = self.etag.as_ref()?;
        let tag = value.as_bytes();
        let opaque = tag.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        let is_valid = opaque.iter().all(|&byte| byte > b' ' && byte != b'"' && byte != 0x7f);
        (is_valid && tag.len() <= LONGEST).then_some(value)
    }

    /// Whether the `ETag` ends with the name of the content coding, such as `"v1-br"`.
    ///
    /// Servers such as Caddy, Apache httpd and rproxy name a response so that they have compressed on the fly. The bytes
    /// differ each time, so that ranges of two such responses do not belong together, although their tags are the same.
    pub(crate) fn name_coding(&self, headers: &HeaderMap) -> bool {
        let (Some(etag), Some(coding)) = (&self.etag, headers.get(header::CONTENT_ENCODING)) else { return false };
        let opaque = etag.as_bytes().strip_suffix(b"\"").unwrap_or(etag.as_bytes());
        let origin_tag = opaque.strip_suffix(coding.as_bytes().trim_ascii());
        origin_tag.is_some_and(|origin_tag| origin_tag.ends_with(b"-"))
    }

    /// Whether `headers` and these validators have the same strong `ETag`.
    pub(crate) fn strongly_match(&self, headers: &HeaderMap) -> bool {
        match (&self.etag, headers.get(header::ETAG)) {
            (Some(ours), Some(theirs)) => strongly_equal(ours.as_bytes(), theirs.as_bytes()),
            _ => false,
        }
    }

    /// Whether the validators in `headers` differ from these, and so belong to another representation.
    pub(crate) fn contradict(&self, headers: &HeaderMap) -> bool {
        let others = Self::from_headers(headers);
        let differ = |ours: &Option<HeaderValue>, theirs: &Option<HeaderValue>| match (ours, theirs) {
            (Some(ours), Some(theirs)) => ours != theirs,
            _ => false,
        };
        differ(&self.etag, &others.etag) || differ(&self.last_modified, &others.last_modified)
    }

    /// Whether `If-Range` permits serving a range of the stored response (RFC 9110 §13.1.5). `stored_date` is the
    /// `Date` of the response.
    pub(crate) fn allow_range(&self, request: &HeaderMap, stored_date: u64) -> bool {
        let Some(condition) = request.get(header::IF_RANGE) else {
            return true;
        };
        if let Some(date) = date::parse(condition) {
            let modified = self.last_modified.as_ref().and_then(date::parse);
            // RFC 9110 §8.8.2.2: a date is a strong validator only if it is older than the response.
            return modified.is_some_and(|modified| modified == date && modified < stored_date);
        }
        let tag = condition.as_bytes().trim_ascii();
        self.etag.as_ref().is_some_and(|etag| strongly_equal(etag.as_bytes(), tag))
    }
}

/// Whether a request has a precondition that a stored response can satisfy.
pub(crate) fn is_conditional(request: &HeaderMap) -> bool {
    request.contains_key(header::IF_NONE_MATCH) || request.contains_key(header::IF_MODIFIED_SINCE)
}

/// Whether the client's precondition results in a 304 response.
// RFC 9111 §4.3.2, RFC 9110 §13.2.2
pub(crate) fn is_not_modified(
    request: &HeaderMap,
    status: StatusCode,
    validators: &Validators,
    stored_date: u64,
) -> bool {
    // RFC 9110 §13.2.1: a condition applies to a representation, not to errors and redirects.
    if !status.is_success() {
        return false;
    }
    if request.contains_key(header::IF_NONE_MATCH) {
        let etag = validators.etag.as_ref().map(|etag| etag.as_bytes());
        return request
            .get_all(header::IF_NONE_MATCH)
            .iter()
            .flat_map(|value| entity_tags(value.as_bytes()))
            .any(|tag| tag == b"*" || etag.is_some_and(|etag| weakly_equal(etag, tag)));
    }
    // RFC 9110 §13.1.3: several values are ignored.
    let mut values = request.get_all(header::IF_MODIFIED_SINCE).iter();
    let (Some(since), None) = (values.next().and_then(date::parse), values.next()) else {
        return false;
    };
    // RFC 9111 §4.3.2: without Last-Modified, Date is compared.
    validators.last_modified.as_ref().and_then(date::parse).unwrap_or(stored_date) <= since
}

/// Compares two entity tags by weak comparison (RFC 9110 §8.8.3.2).
pub(crate) fn weakly_equal(a: &[u8], b: &[u8]) -> bool {
    opaque(a) == opaque(b)
}

fn strongly_equal(a: &[u8], b: &[u8]) -> bool {
    !is_weak(a) && !is_weak(b) && a == b
}

pub(crate) fn is_weak(tag: &[u8]) -> bool {
    tag.starts_with(b"W/")
}

fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// The maximum number of entity tags that are read per `If-None-Match` value. If a later one matches, the client gets a
/// body that it has already.
const MAX_TAGS: usize = 64;

/// Returns the entity tags in an `If-None-Match` value, up to a maximum number. Unlike in other lists, a backslash is
/// not an escape.
fn entity_tags(mut list: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        if list.is_empty() {
            return None;
        }
        let mut quoted = false;
        let end = list.iter().position(|&byte| {
            quoted ^= byte == b'"';
            byte == b',' && !quoted
        });
        let (tag, rest) = match end {
            Some(end) => (&list[..end], &list[end + 1..]),
            None => (list, &[][..]),
        };
        list = rest;
        Some(tag.trim_ascii())
    })
    .take(MAX_TAGS)
    .filter(|tag| !tag.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const LATER: &str = "Sunday, 06-Nov-94 08:49:38 GMT";
    const EARLIER: &str = "Sun Nov  6 08:49:36 1994";
    const DATE: u64 = 784_111_777 + 100;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name.parse::<header::HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn not_modified(stored: &[(&str, &str)], request: &[(&str, &str)]) -> bool {
        is_not_modified(&headers(request), StatusCode::OK, &Validators::from_headers(&headers(stored)), DATE)
    }

    #[test]
    fn if_none_match_compares_weakly_and_overrides_if_modified_since() {
        // RFC 9110 §13.1.2, §13.2.2
        for (etag, condition, expected) in [
            ("\"a\"", "\"a\"", true),
            ("\"a\"", "W/\"a\"", true),
            ("W/\"a\"", "\"a\"", true),
            ("\"a\"", "\"x\", \"a\" ,\"y\"", true),
            ("\"a,b\"", "\"a,b\"", true),
            ("\"b\"", "\"a\\\", \"b\"", true),
            ("\"a\"", "*", true),
            ("\"a\"", "\"b\"", false),
            ("\"a\"", "a", false),
            ("\"a\"", "", false),
        ] {
            assert_eq!(
                not_modified(&[("etag", etag)], &[("if-none-match", condition)]),
                expected,
                "{etag} {condition}"
            );
        }
        let stored = [("etag", "\"a\""), ("last-modified", MODIFIED)];
        assert!(!not_modified(&stored, &[("if-none-match", "\"b\""), ("if-modified-since", LATER)]));
        assert!(not_modified(&stored, &[("if-none-match", "\"a\""), ("if-modified-since", EARLIER)]));
    }

    #[test]
    fn if_modified_since_accepts_all_http_date_formats() {
        // RFC 9110 §13.1.3, RFC 9111 §4.3.2
        let stored = [("last-modified", MODIFIED)];
        assert!(not_modified(&stored, &[("if-modified-since", MODIFIED)]));
        assert!(not_modified(&stored, &[("if-modified-since", LATER)]));
        assert!(!not_modified(&stored, &[("if-modified-since", EARLIER)]));
        assert!(!not_modified(&stored, &[("if-modified-since", "yesterday")]));
        assert!(!not_modified(&stored, &[("if-modified-since", LATER), ("if-modified-since", LATER)]));
        assert!(!not_modified(&[], &[("if-modified-since", MODIFIED)]), "older than the Date");
        assert!(not_modified(&[], &[("if-modified-since", "Sun, 06 Nov 1994 09:49:37 GMT")]));
    }

    #[test]
    fn error_responses_are_never_replaced_by_304() {
        let request = headers(&[("if-none-match", "*")]);
        assert!(!is_not_modified(&request, StatusCode::NOT_FOUND, &Validators::default(), DATE));
    }

    #[test]
    fn a_304_response_validates_only_matching_validators() {
        // RFC 9111 §4.3.4
        for (stored, not_modified, expected) in [
            (&[("etag", "\"a\"")][..], &[("etag", "\"a\"")][..], true),
            (&[("etag", "W/\"a\"")], &[("etag", "\"a\"")], true),
            (&[("etag", "\"a\"")], &[("etag", "\"b\"")], false),
            (&[("etag", "\"a\"")], &[], true),
            (&[("last-modified", MODIFIED)], &[("last-modified", MODIFIED)], true),
            (&[("last-modified", MODIFIED)], &[("last-modified", "Sun, 06 Nov 1994 09:49:37 GMT")], false),
            (&[("last-modified", MODIFIED)], &[("etag", "\"a\"")], false),
        ] {
            let validators = Validators::from_headers(&headers(stored));
            assert_eq!(validators.are_confirmed_by(&headers(not_modified)), expected, "{stored:?} {not_modified:?}");
        }
    }

    #[test]
    fn if_range_requires_a_strong_validator_match() {
        // RFC 9110 §13.1.5
        for (stored, condition, expected) in [
            (("etag", "\"a\""), "\"a\"", true),
            (("etag", "W/\"a\""), "W/\"a\"", false),
            (("etag", "\"a\""), "\"b\"", false),
            (("last-modified", MODIFIED), MODIFIED, true),
            (("last-modified", MODIFIED), EARLIER, false),
        ] {
            let validators = Validators::from_headers(&headers(&[stored]));
            assert_eq!(validators.allow_range(&headers(&[("if-range", condition)]), DATE), expected, "{condition}");
        }
        let validators = Validators::from_headers(&headers(&[("last-modified", MODIFIED)]));
        assert!(!validators.allow_range(&headers(&[("if-range", MODIFIED)]), 784_111_777), "a weak date");
        assert!(validators.allow_range(&HeaderMap::new(), DATE));
    }
}
