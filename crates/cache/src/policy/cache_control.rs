//! A parser of `Cache-Control` (RFC 9111 §5.2).

use std::borrow::Cow;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue, ValueIter};

/// A cache directive with its argument.
pub(crate) struct Directive<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) argument: Argument<'a>,
}

/// The argument of a cache directive.
pub(crate) enum Argument<'a> {
    Absent,
    /// The argument in `Cache-Control` as text: a number or a list of field names.
    Text(Cow<'a, [u8]>),
    /// The argument in a structured field as an integer.
    Seconds(u64),
    /// The argument in a structured field as a list of field names.
    FieldNames(Cow<'a, [u8]>),
    Malformed,
}

impl Directive<'_> {
    /// Returns the argument as a number of seconds (RFC 9111 §1.2.2).
    pub(crate) fn delta_seconds(&self) -> Option<u64> {
        match &self.argument {
            Argument::Text(digits) => delta_seconds(digits),
            Argument::Seconds(seconds) => Some((*seconds).min(MAX_SECONDS)),
            Argument::Absent | Argument::FieldNames(_) | Argument::Malformed => None,
        }
    }

    /// Adds the field names in the argument, as in `private="set-cookie"`, to `fields`. Returns `false` for the
    /// unqualified form.
    ///
    /// An invalid list counts as the unqualified form, which is more restrictive.
    pub(crate) fn qualify(&self, fields: &mut Vec<HeaderName>) -> bool {
        let (Argument::Text(list) | Argument::FieldNames(list)) = &self.argument else {
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

/// The substitute for a number of seconds that is too large (RFC 9111 §1.2.2).
const MAX_SECONDS: u64 = 1 << 31;

/// Parses a number of seconds that consists of digits only.
pub(crate) fn delta_seconds(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = digits.iter().fold(0_u64, |sum, digit| (sum * 10 + u64::from(digit - b'0')).min(MAX_SECONDS));
    Some(seconds)
}

/// An iterator over the cache directives in all values of a field.
pub(crate) struct Directives<'a> {
    values: ValueIter<'a, HeaderValue>,
    rest: &'a [u8],
    /// The maximum number of list members that remain to be read, including invalid members.
    remaining: usize,
}

impl<'a> Directives<'a> {
    pub(crate) fn new(headers: &'a HeaderMap, name: HeaderName) -> Self {
        Self { values: headers.get_all(name).into_iter(), rest: &[], remaining: usize::MAX }
    }

    /// Limits the number of list members that the iterator reads.
    pub(crate) fn at_most(self, members: usize) -> Self {
        Self { remaining: members, ..self }
    }
}

impl<'a> Iterator for Directives<'a> {
    type Item = Directive<'a>;

    fn next(&mut self) -> Option<Directive<'a>> {
        loop {
            if self.rest.is_empty() {
                self.rest = self.values.next()?.as_bytes();
            }
            self.remaining = self.remaining.checked_sub(1)?;
            let (member, rest) = split_member(self.rest);
            self.rest = rest;
            let member = member.trim_ascii();
            let (name, argument) = match member.iter().position(|&byte| byte == b'=') {
                None => (member, Argument::Absent),
                Some(equals) => (&member[..equals], argument(&member[equals + 1..])),
            };
            // `max-age =1` is no directive: a name is a token, and no space may follow it.
            if !name.is_empty() && name.iter().all(|&byte| is_token(byte)) {
                return Some(Directive { name, argument });
            }
        }
    }
}

/// Splits a list at the first comma outside of a quoted string.
///
/// A quote without a closing quote is an ordinary character. Otherwise, it would hide a `no-store` after it.
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

/// Parses a directive's argument, which is a token or a quoted string (RFC 9111 §5.2).
fn argument(text: &[u8]) -> Argument<'_> {
    let Some(inside) = text.strip_prefix(b"\"") else {
        let token = !text.is_empty() && text.iter().all(|&byte| is_token(byte));
        return if token { Argument::Text(Cow::Borrowed(text)) } else { Argument::Malformed };
    };
    let Some(inside) = inside.strip_suffix(b"\"") else {
        return Argument::Malformed;
    };
    if !inside.iter().any(|&byte| byte == b'\\' || byte == b'"') {
        return Argument::Text(Cow::Borrowed(inside));
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
    Argument::Text(Cow::Owned(unescaped))
}

/// Whether a byte is valid in a token (RFC 9110 §5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
