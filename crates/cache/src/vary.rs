//! Which stored response a request may have: `Vary`, RFC 9111 §4.1.

use std::borrow::Cow;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::OnceLock;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{self, HeaderName, HeaderValue};

use crate::cache_control::split_member;
use crate::memory::block;

/// The selecting fields that a response nominated, with their values in the original request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selecting(Box<[Selector]>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Selector {
    name: HeaderName,
    /// `None`: the request did not have the field.
    value: Option<Box<[u8]>>,
}

/// `Vary: *`: no other request will ever match.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct VaryAny;

impl Selecting {
    pub(crate) fn new(response: &HeaderMap, request: &HeaderMap) -> Result<Self, VaryAny> {
        let mut selectors: Vec<Selector> = Vec::new();
        for line in response.get_all(header::VARY) {
            for member in line.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                if member.is_empty() {
                    continue;
                }
                // What is not a field name can't be compared: nothing matches it, as with `*`.
                let name = match HeaderName::from_bytes(member) {
                    Ok(name) if member != b"*" => name,
                    _ => return Err(VaryAny),
                };
                if selectors.iter().all(|known| known.name != name) {
                    let value = selecting_value(request, &name).map(|value| value.into_owned().into());
                    selectors.push(Selector { name, value });
                }
            }
        }
        selectors.sort_unstable_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
        Ok(Self(selectors.into()))
    }

    pub(crate) fn matches(&self, request: &mut Compared<'_>) -> bool {
        self.0.iter().all(|selector| request.has(selector))
    }

    /// Each field with its value; `None`: the request did not have it.
    pub(crate) fn selectors(&self) -> impl ExactSizeIterator<Item = (&HeaderName, Option<&[u8]>)> {
        self.0.iter().map(|selector| (&selector.name, selector.value.as_deref()))
    }

    /// Of what [`selectors`](Self::selectors) has told.
    pub(crate) fn of_selectors(selectors: Vec<(HeaderName, Option<Box<[u8]>>)>) -> Self {
        Self(selectors.into_iter().map(|(name, value)| Selector { name, value }).collect())
    }

    pub(crate) fn weight(&self) -> usize {
        let values = self.0.iter().map(|selector| selector.value.as_ref().map_or(0, |value| block(value.len())));
        block(size_of_val(&*self.0)) + values.sum::<usize>()
    }
}

/// The selecting fields of one request, to be compared with those of several stored responses: each is normalised once.
pub(crate) struct Compared<'a> {
    request: &'a HeaderMap,
    known: Vec<(HeaderName, Option<Cow<'a, [u8]>>)>,
}

impl<'a> Compared<'a> {
    pub(crate) fn new(request: &'a HeaderMap) -> Self {
        Self { request, known: Vec::new() }
    }

    fn has(&mut self, Selector { name, value }: &Selector) -> bool {
        // Most clients send the very bytes that others sent: no need to normalise those.
        let mut lines = self.request.get_all(name).iter();
        match (lines.next(), lines.next(), value) {
            (None, _, value) => value.is_none(),
            (Some(line), None, Some(value)) if line.as_bytes() == &**value => true,
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

/// The value of a selecting field in the form in which it is compared; normalising it again changes
/// nothing.
pub(crate) fn selecting_value<'a>(request: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
    let lines = || request.get_all(name).iter().map(HeaderValue::as_bytes);
    let first = lines().next()?;
    // RFC 9111 §4.1: lines may be combined, and a field with known semantics normalised.
    if *name == header::ACCEPT_ENCODING {
        return Codings::of(request).map(|codings| Cow::Owned(codings.text));
    }
    let length: usize = lines().map(|line| line.len() + 1).sum();
    if length > LONGEST {
        return Some(Cow::Owned(digest(lines())));
    }
    if *name == header::ACCEPT_LANGUAGE || *name == header::ACCEPT_CHARSET {
        return Some(Cow::Owned(preferences(lines())));
    }
    if lines().nth(1).is_none() && !first.contains(&b',') {
        return Some(Cow::Borrowed(first.trim_ascii()));
    }
    // First combined, then split, as a quote that one line leaves open goes on in the next (RFC 9110 §5.3).
    let (lines, mut combined) = (lines().collect::<Vec<_>>().join(&b','), Vec::new());
    let mut rest = &*lines;
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

/// Longer values are not normalised: no honest client sends them, and a hostile one would choose how much work they are.
const LONGEST: usize = 1024;

/// What stands for a value that is too long to be normalised and kept with each variant. The hash has a key that no client
/// knows.
fn digest<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    static KEY: OnceLock<RandomState> = OnceLock::new();
    let mut hasher = KEY.get_or_init(RandomState::new).build_hasher();
    let mut length: u64 = 0;
    for line in lines {
        hasher.write(line);
        hasher.write_u8(b',');
        length += line.len() as u64 + 1;
    }
    // No list of text begins with this byte.
    [&b"\xff"[..], format!("{length:x}-{:x}", hasher.finish()).as_bytes()].concat()
}

/// The content codings that a client accepts (RFC 9110 §12.5.3), as far as they can matter to an origin.
pub(crate) struct Codings {
    /// The registered codings in alphabetical order, each once, with the shortest spelling of its quality.
    pub(crate) text: Vec<u8>,
    /// Whether something is left out that an origin could read in another way. Then the origin must get `text`, too, or one
    /// client could choose the response of others.
    pub(crate) is_reduced: bool,
}

impl Codings {
    /// `None`: the request does not have the field.
    pub(crate) fn of(request: &HeaderMap) -> Option<Self> {
        // Of more members, or longer ones, no client that means it has need.
        const MOST: usize = 32;
        if !request.contains_key(header::ACCEPT_ENCODING) {
            return None;
        }
        let mut qualities: [Option<&[u8]>; REGISTERED.len()] = [None; REGISTERED.len()];
        let mut is_reduced = false;
        let lines = request.get_all(header::ACCEPT_ENCODING).iter().map(HeaderValue::as_bytes);
        let mut members = lines.flat_map(|line| Members { rest: line });
        for member in members.by_ref().take(MOST) {
            let (name, quality) = match member.iter().position(|&byte| byte == b';') {
                None => (member, Some(&b"1"[..])),
                Some(semicolon) => {
                    let parameter = member[semicolon + 1..].trim_ascii();
                    let weight = parameter.strip_prefix(b"q=").or_else(|| parameter.strip_prefix(b"Q="));
                    (member[..semicolon].trim_ascii(), weight.and_then(quality))
                }
            };
            // RFC 9110 §8.4.1: the x- names mean the same codings.
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
        // RFC 9110 §12.5.3: no coding at all is wanted.
        if text.is_empty() {
            text.extend_from_slice(b"identity");
        }
        Some(Self { text, is_reduced })
    }

    /// Whether a response with the content coding `coding` may be sent to the client.
    pub(crate) fn accept(&self, coding: &[u8]) -> bool {
        // RFC 9842 §5: these also take a dictionary, which the client may not have.
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

    /// Has the origin see what the response is stored under.
    pub(crate) fn reduce(request: &mut HeaderMap) {
        if let Some(codings) = Self::of(request).filter(|codings| codings.is_reduced)
            && let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(codings.text))
        {
            request.insert(header::ACCEPT_ENCODING, value);
        }
    }
}

/// The content codings of the IANA registry that clients ask web servers for, and the wildcard.
const REGISTERED: [&[u8]; 9] = [b"*", b"br", b"compress", b"dcb", b"dcz", b"deflate", b"gzip", b"identity", b"zstd"];

/// The members of one line of a list without quoted strings, of which each looks at a bounded number of bytes.
struct Members<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Members<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        const LONGEST: usize = 64;
        if self.rest.is_empty() {
            return None;
        }
        let seen = &self.rest[..self.rest.len().min(LONGEST)];
        let end = seen.iter().position(|&byte| byte == b',');
        let (member, rest) = match end {
            Some(end) => (&self.rest[..end], &self.rest[end + 1..]),
            // Neither half of the cut member is a registered coding.
            None => self.rest.split_at(seen.len()),
        };
        self.rest = rest;
        Some(member.trim_ascii())
    }
}

/// A list of languages or character sets with qualities, RFC 9110 §12.4.2: neither case, nor white space around the parts, nor the order,
/// nor the spelling of a quality says anything. What is no quality is compared as it is.
fn preferences<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let members = lines.flat_map(|line| line.split(|&byte| byte == b','));
    let mut members: Vec<Vec<u8>> = members.map(preference).filter(|member| !member.is_empty()).collect();
    members.sort_unstable();
    members.dedup();
    members.join(&b',')
}

fn preference(member: &[u8]) -> Vec<u8> {
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

/// The shortest spelling of a quality: `0.5` of `0.50`.
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
        Selecting::new(&headers(&[("vary", vary)]), &headers(original))
            .unwrap()
            .matches(&mut Compared::new(&headers(later)))
    }

    #[test]
    fn all_nominated_fields_must_match() {
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
    fn a_star_anywhere_matches_nothing() {
        for vary in ["*", "*, *", ", *", "*, Foo", "Foo, *", "Foo, b a r"] {
            assert_eq!(Selecting::new(&headers(&[("vary", vary)]), &HeaderMap::new()), Err(VaryAny), "{vary}");
        }
        let lines = headers(&[("vary", ""), ("vary", "*")]);
        assert_eq!(Selecting::new(&lines, &HeaderMap::new()), Err(VaryAny));
    }

    #[test]
    fn white_space_and_lines_are_normalised() {
        assert!(same("Foo", &[("foo", "1,2")], &[("foo", "1 ,\t2")]));
        assert!(same("Foo", &[("foo", "1, 2")], &[("foo", "1"), ("foo", "2")]));
        assert!(!same("Foo", &[("foo", "1,2")], &[("foo", "2,1")]));
        assert!(!same("Foo", &[("foo", "\"1,2\"")], &[("foo", "\"1, 2\"")]), "quoted text is left alone");
    }

    #[test]
    fn accept_encoding_is_compared_by_what_it_means() {
        for same_meaning in [
            "gzip, deflate, br",
            "br,gzip,deflate",
            "Deflate;q=1, gzip;q=1.0 , BR; q=1.000",
            "x-gzip, gzip, br, deflate",
        ] {
            assert!(
                same(
                    "Accept-Encoding",
                    &[("accept-encoding", "gzip, deflate, br")],
                    &[("accept-encoding", same_meaning)]
                ),
                "{same_meaning}"
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
        fn normalising_twice_changes_nothing(values in prop::collection::vec("[ -~]{0,24}", 1..3)) {
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
        fn a_request_matches_itself(foo in "[ -~]{0,24}", language in "[ -~]{0,24}") {
            let request = [("foo", foo.as_str()), ("accept-language", language.as_str())];
            prop_assert!(same("foo, bar, accept-language", &request, &request));
        }
    }
}
