//! The selection of a stored response by `Vary` (RFC 9111 §4.1).

use std::borrow::Cow;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::OnceLock;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{self, HeaderName, HeaderValue};

use crate::memory_size::allocation;
use crate::policy::cache_control::split_member;

/// The request fields that a response lists in `Vary`, with their values in the original request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SelectingFields(Box<[SelectingField]>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct SelectingField {
    name: HeaderName,
    /// The normalised value of the field, or `None` if the original request did not have the field.
    value: Option<Box<[u8]>>,
}

/// The error for a response with `Vary: *`, which no other request matches.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct VaryStar;

impl SelectingFields {
    /// Extracts the request fields that the response lists in `Vary`.
    pub(crate) fn new(response: &HeaderMap, request: &HeaderMap) -> Result<Self, VaryStar> {
        let mut fields: Vec<SelectingField> = Vec::new();
        for value in response.get_all(header::VARY) {
            for member in value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                if member.is_empty() {
                    continue;
                }
                // A member that is not a field name cannot be compared, so it counts as `*`.
                let name = match HeaderName::from_bytes(member) {
                    Ok(name) if member != b"*" => name,
                    _ => return Err(VaryStar),
                };
                if fields.iter().all(|known| known.name != name) {
                    let value = selecting_value(request, &name).map(|value| value.into_owned().into());
                    fields.push(SelectingField { name, value });
                }
            }
        }
        fields.sort_unstable_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
        Ok(Self(fields.into()))
    }

    /// Whether a request matches the selecting fields of the response.
    pub(crate) fn matches(&self, request: &mut RequestFields<'_>) -> bool {
        self.0.iter().all(|selector| request.has(selector))
    }

    /// Returns each field with its value in the original request, or `None` if the field was missing.
    pub(crate) fn fields(&self) -> impl ExactSizeIterator<Item = (&HeaderName, Option<&[u8]>)> {
        self.0.iter().map(|selector| (&selector.name, selector.value.as_deref()))
    }

    /// Creates selecting fields from the result of [`fields`](Self::fields).
    pub(crate) fn from_fields(fields: Vec<(HeaderName, Option<Box<[u8]>>)>) -> Self {
        Self(fields.into_iter().map(|(name, value)| SelectingField { name, value }).collect())
    }

    pub(crate) fn weight(&self) -> usize {
        let values = self.0.iter().map(|selector| selector.value.as_ref().map_or(0, |value| allocation(value.len())));
        allocation(size_of_val(&*self.0)) + values.sum::<usize>()
    }
}

/// The normalised field values of one request, cached for comparison with several stored responses. Each value is
/// normalised once, and compared with several stored responses.
pub(crate) struct RequestFields<'a> {
    request: &'a HeaderMap,
    known: Vec<(HeaderName, Option<Cow<'a, [u8]>>)>,
}

impl<'a> RequestFields<'a> {
    pub(crate) fn new(request: &'a HeaderMap) -> Self {
        Self { request, known: Vec::new() }
    }

    fn has(&mut self, SelectingField { name, value }: &SelectingField) -> bool {
        // Most clients send identical bytes, which need no normalisation.
        let mut values = self.request.get_all(name).iter();
        match (values.next(), values.next(), value) {
            (None, _, value) => value.is_none(),
            (Some(only), None, Some(value)) if only.as_bytes() == &**value => true,
            (Some(_), _, None) => false,
            (Some(_), _, Some(value)) => self.value(name) == Some(&**value),
        }
    }

    fn value(&mut self, name: &HeaderName) -> Option<&[u8]> {
        let at = match self.known.iter().position(|(known, _)| known == name) {
            Some(at) => at,
            None => {
                self.known.push((name.clone(), selecting_value(self.request, name)));
                self.known.len() - 1
            }
        };
        self.known[at].1.as_deref()
    }
}

/// Returns the normalised value of a selecting field. Normalisation is idempotent.
pub(crate) fn selecting_value<'a>(request: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
    let values = || request.get_all(name).iter().map(HeaderValue::as_bytes);
    let first = values().next()?;
    // RFC 9111 §4.1: values can be combined, and a field with known semantics normalised.
    if *name == header::ACCEPT_ENCODING {
        return Codings::from_headers(request).map(|codings| Cow::Owned(codings.text));
    }
    let length: usize = values().map(|value| value.len() + 1).sum();
    if length > MAX_LENGTH {
        return Some(Cow::Owned(digest(values())));
    }
    if *name == header::ACCEPT_LANGUAGE || *name == header::ACCEPT_CHARSET {
        return Some(Cow::Owned(normalized_preferences(values())));
    }
    if values().nth(1).is_none() && !first.contains(&b',') {
        return Some(Cow::Borrowed(first.trim_ascii()));
    }
    // Combined before the split, since a quoted string can span values (RFC 9110 §5.3).
    let (values, mut combined) = (values().collect::<Vec<_>>().join(&b','), Vec::new());
    let mut rest = &*values;
    while !rest.is_empty() {
        let (member, after) = split_member(rest);
        rest = after;
        if !member.trim_ascii().is_empty() {
            if !combined.is_empty() {
                combined.push(b',');
            }
            combined.extend_from_slice(member.trim_ascii());
        }
    }
    Some(Cow::Owned(combined))
}

/// The maximum length of a field value that is normalised. It limits the work for a malicious client; others send
/// shorter values.
const MAX_LENGTH: usize = 1024;

/// Returns a keyed hash as the substitute for a field value that is too long to store.
fn digest<'a>(values: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    static KEY: OnceLock<RandomState> = OnceLock::new();
    let mut hasher = KEY.get_or_init(RandomState::new).build_hasher();
    let mut length: u64 = 0;
    for value in values {
        hasher.write(value);
        hasher.write_u8(b',');
        length += value.len() as u64 + 1;
    }
    // No normalised value starts with this byte.
    [&b"\xff"[..], format!("{length:x}-{:x}", hasher.finish()).as_bytes()].concat()
}

/// The registered content codings that a client accepts (RFC 9110 §12.5.3).
pub(crate) struct Codings {
    /// The codings in alphabetical order without duplicates, each with its quality value in the shortest form.
    pub(crate) text: Vec<u8>,
    /// Whether `Accept-Encoding` has unregistered members, which the origin could interpret. The origin must then get
    /// `text`, or a client could choose the response that others get.
    pub(crate) is_reduced: bool,
}

impl Codings {
    /// Parses `Accept-Encoding`, if the request has this field.
    pub(crate) fn from_headers(request: &HeaderMap) -> Option<Self> {
        // Legitimate clients send fewer and shorter members.
        const MAX: usize = 32;
        if !request.contains_key(header::ACCEPT_ENCODING) {
            return None;
        }
        let mut qualities: [Option<&[u8]>; REGISTERED.len()] = [None; REGISTERED.len()];
        let mut is_reduced = false;
        let values = request.get_all(header::ACCEPT_ENCODING).iter().map(HeaderValue::as_bytes);
        let mut members = values.flat_map(|value| Members { rest: value });
        for member in members.by_ref().take(MAX) {
            let (name, quality) = match member.iter().position(|&byte| byte == b';') {
                None => (member, Some(&b"1"[..])),
                Some(semicolon) => {
                    let parameter = member[semicolon + 1..].trim_ascii();
                    let weight = parameter.strip_prefix(b"q=").or_else(|| parameter.strip_prefix(b"Q="));
                    (member[..semicolon].trim_ascii(), weight.and_then(quality))
                }
            };
            // RFC 9110 §8.4.1: the names with `x-` are equivalent.
            let is_old = name.eq_ignore_ascii_case(b"x-gzip") || name.eq_ignore_ascii_case(b"x-compress");
            let name = if is_old { &name[2..] } else { name };
            let known = REGISTERED.iter().position(|known| name.eq_ignore_ascii_case(known));
            match (known.map(|known| &mut qualities[known]), quality) {
                (Some(place @ None), Some(quality)) => *place = Some(quality),
                (Some(Some(present)), Some(quality)) if *present == quality => {}
                _ => is_reduced |= !member.is_empty(),
            }
        }
        is_reduced |= members.next().is_some();
        let mut text = Vec::with_capacity(32);
        for (name, quality) in REGISTERED.iter().zip(qualities).filter_map(|(name, quality)| Some((name, quality?))) {
            if !text.is_empty() {
                text.push(b',');
            }
            text.extend_from_slice(name);
            if quality != b"1" {
                text.extend_from_slice(b";q=");
                text.extend_from_slice(quality);
            }
        }
        // RFC 9110 §12.5.3: an empty field means no coding.
        if text.is_empty() {
            text.extend_from_slice(b"identity");
        }
        Some(Self { text, is_reduced })
    }

    /// Whether the client accepts a response with this content coding.
    pub(crate) fn accept(&self, coding: &[u8]) -> bool {
        // RFC 9842 §5: these codings need a dictionary, which the client may not have.
        if coding.eq_ignore_ascii_case(b"dcb") || coding.eq_ignore_ascii_case(b"dcz") {
            return false;
        }
        let accepts = |name: &[u8]| {
            self.text.split(|&byte| byte == b',').find_map(|member| {
                let end = member.iter().position(|&byte| byte == b';').unwrap_or(member.len());
                member[..end].eq_ignore_ascii_case(name).then(|| &member[end..] != b";q=0")
            })
        };
        accepts(coding).or_else(|| accepts(b"*")).unwrap_or_else(|| coding.eq_ignore_ascii_case(b"identity"))
    }

    /// Replaces `Accept-Encoding` with the reduced form, under which the response is stored.
    pub(crate) fn reduce(request: &mut HeaderMap) {
        if let Some(codings) = Self::from_headers(request).filter(|codings| codings.is_reduced)
            && let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(codings.text))
        {
            request.insert(header::ACCEPT_ENCODING, value);
        }
    }
}

/// The registered content codings that clients send to web servers, and the wildcard `*`.
const REGISTERED: [&[u8]; 9] = [b"*", b"br", b"compress", b"dcb", b"dcz", b"deflate", b"gzip", b"identity", b"zstd"];

/// Returns the members of a list that contains no quoted strings. The length of each member is limited.
struct Members<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Members<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        const MAX_LENGTH: usize = 64;
        if self.rest.is_empty() {
            return None;
        }
        let window = &self.rest[..self.rest.len().min(MAX_LENGTH)];
        let end = window.iter().position(|&byte| byte == b',');
        let (member, rest) = match end {
            Some(end) => (&self.rest[..end], &self.rest[end + 1..]),
            // Neither half of a member that is too long is a registered coding.
            None => self.rest.split_at(window.len()),
        };
        self.rest = rest;
        Some(member.trim_ascii())
    }
}

/// Normalises a list of languages or character sets with quality values (RFC 9110 §12.4.2).
///
/// Case, whitespace, the order of members, and the form of a quality value have no meaning. Invalid quality values are
/// compared as they are.
fn normalized_preferences<'a>(values: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let members = values.flat_map(|value| value.split(|&byte| byte == b','));
    let mut members: Vec<Vec<u8>> = members.map(normalized_preference).filter(|member| !member.is_empty()).collect();
    members.sort_unstable();
    members.dedup();
    members.join(&b',')
}

fn normalized_preference(member: &[u8]) -> Vec<u8> {
    let member = member.to_ascii_lowercase();
    let mut parts: Vec<&[u8]> = member.split(|&byte| byte == b';').map(<[u8]>::trim_ascii).collect();
    let weights = parts.iter().filter(|part| part.starts_with(b"q=")).count();
    if weights == 1
        && let Some(quality) = parts.last().and_then(|part| part.strip_prefix(b"q=")).and_then(quality)
    {
        parts.pop();
        return match quality {
            b"1" => parts.join(&b';'),
            quality => [&parts.join(&b';'), &b";q="[..], quality].concat(),
        };
    }
    parts.join(&b';')
}

/// Returns the shortest form of a quality value, such as `0.5` for `0.50`.
fn quality(text: &[u8]) -> Option<&[u8]> {
    let (whole, digits) = match text {
        [whole @ (b'0' | b'1')] => (whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', digits @ ..] if digits.len() <= 3 => (whole, digits),
        _ => return None,
    };
    let is_one = *whole == b'1';
    if !digits.iter().all(|digit| if is_one { *digit == b'0' } else { digit.is_ascii_digit() }) {
        return None;
    }
    let zeros = digits.iter().rev().take_while(|&&digit| digit == b'0').count();
    match digits.len() - zeros {
        0 => Some(&text[..1]),
        count => Some(&text[..2 + count]),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap())).collect()
    }

    fn same(vary: &str, original: &[(&str, &str)], later: &[(&str, &str)]) -> bool {
        SelectingFields::new(&headers(&[("vary", vary)]), &headers(original))
            .unwrap()
            .matches(&mut RequestFields::new(&headers(later)))
    }

    #[test]
    fn vary_compares_all_listed_fields() {
        // RFC 9111 §4.1
        let original = [("foo", "1"), ("bar", "abc"), ("other", "2")];
        assert!(same("Foo", &original, &[("foo", "1")]));
        assert!(same("Foo, BAR", &original, &[("bar", "abc"), ("foo", "1")]));
        assert!(same("foo, baz", &original, &[("foo", "1")]), "absent in both");
        assert!(!same("Foo", &original, &[("foo", "2")]));
        assert!(!same("Foo", &original, &[]));
        assert!(!same("baz", &original, &[("baz", "")]), "empty is not absent");
        assert!(!same("Foo, Bar", &original, &[("foo", "1"), ("bar", "abcde")]));
        assert!(same("", &original, &[]));
    }

    #[test]
    fn vary_with_a_star_at_any_position_matches_no_request() {
        for vary in ["*", "*, *", ", *", "*, Foo", "Foo, *", "Foo, b a r"] {
            assert_eq!(SelectingFields::new(&headers(&[("vary", vary)]), &HeaderMap::new()), Err(VaryStar), "{vary}");
        }
        let lines = headers(&[("vary", ""), ("vary", "*")]);
        assert_eq!(SelectingFields::new(&lines, &HeaderMap::new()), Err(VaryStar));
    }

    #[test]
    fn vary_normalises_whitespace_and_repeated_fields() {
        assert!(same("Foo", &[("foo", "1,2")], &[("foo", "1 ,\t2")]));
        assert!(same("Foo", &[("foo", "1, 2")], &[("foo", "1"), ("foo", "2")]));
        assert!(!same("Foo", &[("foo", "1,2")], &[("foo", "2,1")]));
        assert!(!same("Foo", &[("foo", "\"1,2\"")], &[("foo", "\"1, 2\"")]), "quoted text is left alone");
    }

    #[test]
    fn vary_matches_equivalent_accept_encoding_values() {
        for equivalent in [
            "gzip, deflate, br",
            "br,gzip,deflate",
            "Deflate;q=1, gzip;q=1.0 , BR; q=1.000",
            "x-gzip, gzip, br, deflate",
        ] {
            assert!(
                same(
                    "Accept-Encoding",
                    &[("accept-encoding", "gzip, deflate, br")],
                    &[("accept-encoding", equivalent)]
                ),
                "{equivalent}"
            );
        }
        for other in ["gzip", "gzip, deflate, br;q=0", "gzip, deflate, br, zstd", ""] {
            assert!(
                !same("Accept-Encoding", &[("accept-encoding", "gzip, deflate, br")], &[("accept-encoding", other)]),
                "{other}"
            );
        }
        for (one, other) in [("d e", "de"), ("a;q=0.5;q=1", "a"), ("x-gzipped", "gzipped"), ("a;q=1.5", "a;q=1.50")] {
            assert!(!same("accept-language", &[("accept-language", one)], &[("accept-language", other)]), "{one}");
        }
        assert!(same("accept-encoding", &[("accept-encoding", "br;q=0.50")], &[("accept-encoding", "br;q=0.5")]));
        assert!(same("accept-language", &[("accept-language", "en, de")], &[("accept-language", "DE,en")]));
    }

    proptest! {
        #[test]
        fn normalisation_of_selecting_fields_is_idempotent(values in prop::collection::vec("[ -~]{0,24}", 1..3)) {
            for name in ["accept-encoding", "accept-language", "foo"] {
                let name: HeaderName = name.parse().unwrap();
                let map: HeaderMap =
                    values.iter().map(|value| (name.clone(), HeaderValue::from_str(value).unwrap())).collect();
                let once = selecting_value(&map, &name).unwrap().into_owned();
                let again = HeaderMap::from_iter([(name.clone(), HeaderValue::from_bytes(&once).unwrap())]);
                prop_assert_eq!(selecting_value(&again, &name).unwrap().into_owned(), once);
            }
        }

        #[test]
        fn each_request_matches_the_selecting_fields_recorded_for_it(foo in "[ -~]{0,24}", language in "[ -~]{0,24}") {
            let request = [("foo", foo.as_str()), ("accept-language", language.as_str())];
            prop_assert!(same("foo, bar, accept-language", &request, &request));
        }
    }
}
