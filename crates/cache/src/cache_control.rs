//! `Cache-Control` of requests and responses, RFC 9111 §5.2, and the old `Pragma`.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::{self, HeaderName, HeaderValue, ValueIter};

use crate::targeted;

/// What a response says about its storage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResponseDirectives {
    /// A targeted field speaks: `Expires` is silent, RFC 9213 §2.2.
    pub(crate) targeted: bool,
    pub(crate) no_store: bool,
    pub(crate) no_cache: bool,
    pub(crate) private: bool,
    pub(crate) public: bool,
    pub(crate) must_revalidate: bool,
    pub(crate) proxy_revalidate: bool,
    pub(crate) must_understand: bool,
    /// RFC 8246
    pub(crate) immutable: bool,
    /// An invalid argument is 0: such a response is stale, RFC 9111 §4.2.1.
    pub(crate) max_age: Option<u64>,
    pub(crate) s_maxage: Option<u64>,
    pub(crate) stale_while_revalidate: Option<u64>,
    pub(crate) stale_if_error: Option<u64>,
    /// Fields that a qualified `private="..."` or `no-cache="..."` keeps out of the store.
    pub(crate) unstored: Vec<HeaderName>,
}

impl ResponseDirectives {
    /// What counts for this cache: a targeted field if there is one, else `Cache-Control`.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        if let Some(told) = targeted::directives(headers) {
            return told;
        }
        let mut told = Self::default();
        for directive in Directives::of(headers) {
            told.heed(&directive);
        }
        told
    }

    pub(crate) fn heed(&mut self, directive: &Directive<'_>) {
        let is = |name: &[u8]| directive.name.eq_ignore_ascii_case(name);
        if is(b"max-age") {
            // RFC 9111 §4.2.1: of several values the first one counts.
            self.max_age.get_or_insert(directive.delta_seconds().unwrap_or(0));
        } else if is(b"s-maxage") {
            self.s_maxage.get_or_insert(directive.delta_seconds().unwrap_or(0));
        } else if is(b"no-store") {
            self.no_store = true;
        } else if is(b"no-cache") {
            self.no_cache |= !directive.qualify(&mut self.unstored);
        } else if is(b"private") {
            self.private |= !directive.qualify(&mut self.unstored);
        } else if is(b"public") {
            self.public = true;
        } else if is(b"must-revalidate") {
            self.must_revalidate = true;
        } else if is(b"proxy-revalidate") {
            self.proxy_revalidate = true;
        } else if is(b"must-understand") {
            self.must_understand = true;
        } else if is(b"immutable") {
            self.immutable = true;
        } else if is(b"stale-while-revalidate") {
            self.stale_while_revalidate = self.stale_while_revalidate.or(directive.delta_seconds());
        } else if is(b"stale-if-error") {
            self.stale_if_error = self.stale_if_error.or(directive.delta_seconds());
        }
    }
}

/// What a request asks of a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestDirectives {
    pub(crate) no_store: bool,
    pub(crate) no_cache: bool,
    pub(crate) only_if_cached: bool,
    pub(crate) max_age: Option<u64>,
    /// Without an argument any staleness will do.
    pub(crate) max_stale: Option<u64>,
    pub(crate) min_fresh: Option<u64>,
    pub(crate) stale_if_error: Option<u64>,
}

impl RequestDirectives {
    /// Without what demands a newer response than the stored one.
    pub(crate) fn without_demands(self) -> Self {
        Self { no_cache: false, max_age: None, min_fresh: None, ..self }
    }

    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut asked = Self::default();
        if !headers.contains_key(header::CACHE_CONTROL) {
            // RFC 9111 §5.4: without Cache-Control, `Pragma: no-cache` is `Cache-Control: no-cache`.
            asked.no_cache = Directives::new(headers, header::PRAGMA)
                .at_most(MOST_DIRECTIVES)
                .any(|directive| directive.name.eq_ignore_ascii_case(b"no-cache"));
            return asked;
        }
        // Of more no client has need, and each is compared with all that are known.
        for directive in Directives::of(headers).at_most(MOST_DIRECTIVES) {
            let name = directive.name;
            if name.eq_ignore_ascii_case(b"no-cache") {
                asked.no_cache = true;
            } else if name.eq_ignore_ascii_case(b"no-store") {
                asked.no_store = true;
            } else if name.eq_ignore_ascii_case(b"only-if-cached") {
                asked.only_if_cached = true;
            } else if name.eq_ignore_ascii_case(b"max-age") {
                asked.max_age.get_or_insert(directive.delta_seconds().unwrap_or(0));
            } else if name.eq_ignore_ascii_case(b"max-stale") {
                let bound = match directive.argument {
                    Argument::Absent => Some(u64::MAX),
                    _ => directive.delta_seconds(),
                };
                asked.max_stale = asked.max_stale.or(bound);
            } else if name.eq_ignore_ascii_case(b"min-fresh") {
                asked.min_fresh = asked.min_fresh.or(directive.delta_seconds());
            } else if name.eq_ignore_ascii_case(b"stale-if-error") {
                asked.stale_if_error = asked.stale_if_error.or(directive.delta_seconds());
            }
        }
        asked
    }
}

/// How many directives of a request are looked at.
const MOST_DIRECTIVES: usize = 32;

pub(crate) struct Directive<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) argument: Argument<'a>,
}

pub(crate) enum Argument<'a> {
    Absent,
    Given(Cow<'a, [u8]>),
    /// Of the types of a structured field, a number.
    Seconds(u64),
    /// Of the types of a structured field, text.
    Fields(Cow<'a, [u8]>),
    Malformed,
}

impl Directive<'_> {
    /// RFC 9111 §1.2.2: digits only; what is too large to represent is the largest number there is.
    fn delta_seconds(&self) -> Option<u64> {
        match &self.argument {
            Argument::Given(digits) => delta_seconds(digits),
            Argument::Seconds(seconds) => Some((*seconds).min(MOST_SECONDS)),
            Argument::Absent | Argument::Fields(_) | Argument::Malformed => None,
        }
    }

    /// Collects the field names of the qualified form. Whatever is not clearly a list of field names
    /// counts as the unqualified form, which restricts more.
    fn qualify(&self, fields: &mut Vec<HeaderName>) -> bool {
        let (Argument::Given(list) | Argument::Fields(list)) = &self.argument else {
            return false;
        };
        let names: Result<Vec<_>, _> = list
            .split(|&byte| byte == b',')
            .map(<[u8]>::trim_ascii)
            .filter(|name| !name.is_empty())
            .map(HeaderName::from_bytes)
            .collect();
        match names {
            Ok(names) if !names.is_empty() => {
                fields.extend(names);
                true
            }
            _ => false,
        }
    }
}

// RFC 9111 §1.2.2: 2^31 is what a cache takes for everything that it can't represent.
const MOST_SECONDS: u64 = 1 << 31;

pub(crate) fn delta_seconds(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = digits.iter().fold(0_u64, |sum, digit| (sum * 10 + u64::from(digit - b'0')).min(MOST_SECONDS));
    Some(seconds)
}

/// The members of a list of directives, over all its field lines.
struct Directives<'a> {
    lines: ValueIter<'a, HeaderValue>,
    rest: &'a [u8],
    /// Members that are still looked at, valid or not.
    left: usize,
}

impl<'a> Directives<'a> {
    fn of(headers: &'a HeaderMap) -> Self {
        Self::new(headers, header::CACHE_CONTROL)
    }

    fn new(headers: &'a HeaderMap, name: HeaderName) -> Self {
        Self { lines: headers.get_all(name).into_iter(), rest: &[], left: usize::MAX }
    }

    fn at_most(self, members: usize) -> Self {
        Self { left: members, ..self }
    }
}

impl<'a> Iterator for Directives<'a> {
    type Item = Directive<'a>;

    fn next(&mut self) -> Option<Directive<'a>> {
        loop {
            if self.rest.is_empty() {
                self.rest = self.lines.next()?.as_bytes();
            }
            self.left = self.left.checked_sub(1)?;
            let (member, rest) = split_member(self.rest);
            self.rest = rest;
            let member = member.trim_ascii();
            let (name, argument) = match member.iter().position(|&byte| byte == b'=') {
                None => (member, Argument::Absent),
                Some(equals) => (&member[..equals], argument(&member[equals + 1..])),
            };
            // `max-age =1` is not a directive at all: a name is a token, and no space may follow it.
            if !name.is_empty() && name.iter().all(|&byte| is_token(byte)) {
                return Some(Directive { name, argument });
            }
        }
    }
}

/// Splits at the first comma outside a quoted string. A quote that is never closed quotes nothing:
/// otherwise it would hide a `no-store` behind it.
pub(crate) fn split_member(list: &[u8]) -> (&[u8], &[u8]) {
    let mut quoted = false;
    let mut escaped = false;
    for (at, &byte) in list.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => return (&list[..at], &list[at + 1..]),
            _ => {}
        }
    }
    if !quoted {
        return (list, &[]);
    }
    match list.iter().position(|&byte| byte == b',') {
        Some(at) => (&list[..at], &list[at + 1..]),
        None => (list, &[]),
    }
}

/// RFC 9111 §5.2: recipients accept both the token and the quoted-string form.
fn argument(text: &[u8]) -> Argument<'_> {
    let Some(inside) = text.strip_prefix(b"\"") else {
        let token = !text.is_empty() && text.iter().all(|&byte| is_token(byte));
        return if token { Argument::Given(Cow::Borrowed(text)) } else { Argument::Malformed };
    };
    let Some(inside) = inside.strip_suffix(b"\"") else {
        return Argument::Malformed;
    };
    if !inside.iter().any(|&byte| byte == b'\\' || byte == b'"') {
        return Argument::Given(Cow::Borrowed(inside));
    }
    let mut unescaped = Vec::with_capacity(inside.len());
    let mut bytes = inside.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'\\' => match bytes.next() {
                Some(&escaped) => unescaped.push(escaped),
                None => return Argument::Malformed,
            },
            b'"' => return Argument::Malformed,
            _ => unescaped.push(byte),
        }
    }
    Argument::Given(Cow::Owned(unescaped))
}

/// RFC 9110 §5.6.2
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn response(lines: &[&'static str]) -> ResponseDirectives {
        ResponseDirectives::of(&field(header::CACHE_CONTROL, lines))
    }

    fn request(lines: &[&'static str]) -> RequestDirectives {
        RequestDirectives::of(&field(header::CACHE_CONTROL, lines))
    }

    fn field(name: HeaderName, lines: &[&'static str]) -> HeaderMap {
        lines.iter().map(|line| (name.clone(), HeaderValue::from_static(line))).collect()
    }

    #[test]
    fn max_age_in_all_its_spellings() {
        // RFC 9111 §1.2.2, §4.2.1, §5.2
        for (line, expected) in [
            ("max-age=3600", Some(3600)),
            ("MaX-aGe=3600", Some(3600)),
            ("max-age=003600", Some(3600)),
            ("max-age=\"3600\"", Some(3600)),
            ("max-age=\"36\\00\"", Some(3600)),
            ("foobar, max-age=3600", Some(3600)),
            ("max-age=1800, max-age=1", Some(1800)),
            ("max-age=1, max-age=1800", Some(1)),
            ("max-age=99999999999999999999999999", Some(1 << 31)),
            ("max-age=0", Some(0)),
            ("max-age=-100", Some(0)),
            ("max-age=a3600", Some(0)),
            ("max-age=3600a", Some(0)),
            ("max-age=3600.0", Some(0)),
            ("max-age='3600'", Some(0)),
            ("max-age= 3600", Some(0)),
            ("max-age=", Some(0)),
            ("max-age", Some(0)),
            ("max-age=\"3600", Some(0)),
            ("max-age =3600", None),
            ("extension=\"max-age=3600\", max-age=1", Some(1)),
            ("max-age=1, extension=\"max-age=3600\"", Some(1)),
            ("extension=\"a\\\", max-age=3600\"", None),
            ("", None),
            (",,  ,", None),
        ] {
            assert_eq!(response(&[line]).max_age, expected, "{line}");
        }
    }

    #[test]
    fn several_lines_are_one_list() {
        let told = response(&["max-age=3600", "s-maxage=1, public"]);
        assert_eq!((told.max_age, told.s_maxage, told.public), (Some(3600), Some(1), true));
    }

    #[test]
    fn an_unclosed_quote_does_not_hide_no_store() {
        let told = response(&["ext=\"oops, no-store, max-age=60"]);
        assert!(told.no_store);
    }

    #[test]
    fn qualified_private_and_no_cache_name_fields() {
        // RFC 9111 §5.2.2.4, §5.2.2.7
        let told = response(&["private=\"X-User, set-cookie\", no-cache=etag"]);
        assert!(!told.private && !told.no_cache);
        assert_eq!(told.unstored, ["x-user", "set-cookie", "etag"]);
    }

    #[test]
    fn what_is_not_a_list_of_fields_restricts_everything() {
        for line in ["private=\"\"", "private=\"a b\"", "private=", "private=\"x", "no-cache=\"a\", private"] {
            assert!(response(&[line]).private, "{line}");
        }
    }

    #[test]
    fn request_directives() {
        // RFC 9111 §5.2.1
        assert_eq!(request(&["max-stale"]).max_stale, Some(u64::MAX));
        assert_eq!(request(&["max-stale=5"]).max_stale, Some(5));
        assert_eq!(request(&["max-stale=x"]).max_stale, None);
        assert_eq!(request(&["min-fresh=5"]).min_fresh, Some(5));
        assert_eq!(request(&["max-age=x"]).max_age, Some(0));
        assert!(request(&["No-Cache"]).no_cache);
        assert!(request(&["only-if-cached"]).only_if_cached);
    }

    #[test]
    fn pragma_counts_only_without_cache_control() {
        // RFC 9111 §5.4
        let mut headers = field(header::PRAGMA, &["foo, No-Cache"]);
        assert!(RequestDirectives::of(&headers).no_cache);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=60"));
        assert!(!RequestDirectives::of(&headers).no_cache);
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_directives(lines in prop::collection::vec(prop::collection::vec(0x20_u8..0x7f, 0..80), 0..4)) {
            let headers: HeaderMap = lines
                .iter()
                .map(|line| (header::CACHE_CONTROL, HeaderValue::from_bytes(line).unwrap()))
                .collect();
            ResponseDirectives::of(&headers);
            RequestDirectives::of(&headers);
        }

        #[test]
        fn no_store_is_seen_wherever_it_stands(
            before in "[a-z]{1,8}(=[a-z0-9]{1,8})?",
            after in "[a-z]{1,8}(=\"[a-z ,=\\-]{0,16}\")?",
        ) {
            let line = format!("{before} ,\tno-STORE,{after}");
            let headers = HeaderMap::from_iter([(header::CACHE_CONTROL, HeaderValue::try_from(line).unwrap())]);
            prop_assert!(ResponseDirectives::of(&headers).no_store);
        }
    }
}
