//! Cache directives for this cache alone: targeted fields, RFC 9213.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use sfv::{BareItem, Dictionary, ListEntry, Parser};

use crate::cache_control::{Argument, Directive, ResponseDirectives};

/// The target list, RFC 9213 §2.2: what is said to this proxy by name, then what is said to any cache
/// that works for the origin.
const TARGETS: [HeaderName; 2] =
    [HeaderName::from_static("rproxy-cache-control"), HeaderName::from_static("cdn-cache-control")];

/// What the first of the targeted fields that is valid and not empty says. `None`: `Cache-Control` and
/// `Expires` count.
// RFC 9213 §2.2
pub(crate) fn directives(headers: &HeaderMap) -> Option<ResponseDirectives> {
    TARGETS.iter().find_map(|name| {
        let dictionary = dictionary(headers, name)?;
        let mut told = ResponseDirectives { targeted: true, ..ResponseDirectives::default() };
        for (name, member) in &dictionary {
            if let Some(argument) = argument(member) {
                told.heed(&Directive { name: name.as_str().as_bytes(), argument });
            }
        }
        Some(told)
    })
}

/// RFC 9213 §2.1: what can't be parsed is as if it were not there; several lines are one dictionary.
fn dictionary(headers: &HeaderMap, name: &HeaderName) -> Option<Dictionary> {
    let mut lines = headers.get_all(name).iter();
    let (first, second) = (lines.next()?, lines.next());
    let text = match second {
        None => Cow::Borrowed(first.as_bytes()),
        Some(_) => {
            let lines: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
            Cow::Owned(lines.join(&b", "[..]))
        }
    };
    Parser::new(&text).parse::<Dictionary>().ok().filter(|dictionary| !dictionary.is_empty())
}

/// `None`: the directive is not there, `no-store=?0`.
fn argument(member: &ListEntry) -> Option<Argument<'_>> {
    Some(match member {
        ListEntry::Item(item) => match &item.bare_item {
            BareItem::Boolean(false) => return None,
            BareItem::Boolean(true) => Argument::Absent,
            BareItem::Integer(seconds) => match u64::try_from(*seconds) {
                Ok(seconds) => Argument::Seconds(seconds),
                Err(_) => Argument::Malformed,
            },
            BareItem::String(list) => Argument::Fields(Cow::Borrowed(list.as_str().as_bytes())),
            BareItem::Token(field) => Argument::Fields(Cow::Borrowed(field.as_str().as_bytes())),
            _ => Argument::Malformed,
        },
        ListEntry::InnerList(list) => {
            let fields: Option<Vec<&str>> = list
                .items
                .iter()
                .map(|item| match &item.bare_item {
                    BareItem::String(field) => Some(field.as_str()),
                    BareItem::Token(field) => Some(field.as_str()),
                    _ => None,
                })
                .collect();
            fields.map_or(Argument::Malformed, |fields| Argument::Fields(Cow::Owned(fields.join(",").into_bytes())))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(lines: &[(&str, &str)]) -> Option<ResponseDirectives> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        directives(&headers)
    }

    #[test]
    fn lifetimes_are_integers() {
        // RFC 9213 §2.1
        for (line, expected) in [
            ("max-age=3600", Some(Some(3600))),
            ("foobar, max-age=3600", Some(Some(3600))),
            ("max-age=3600;param=1, foo=(a b)", Some(Some(3600))),
            ("max-age=1, max-age=60", Some(Some(60))),
            ("max-age=2147483648", Some(Some(1 << 31))),
            ("max-age=99999999999", Some(Some(1 << 31))),
            ("max-age=0", Some(Some(0))),
            ("max-age=-1", Some(Some(0))),
            ("max-age=1.5", Some(Some(0))),
            ("max-age=\"10000\"", Some(Some(0))),
            ("max-age", Some(Some(0))),
            ("public", Some(None)),
            // Not a dictionary: the field is ignored.
            ("max-age =100", None),
            ("max-age= 100", None),
            ("MaX-aGe=100", None),
            ("max-age=100, &&&&&", None),
            ("max-age=100,", None),
            ("max-age=9999999999999999", None),
            ("", None),
        ] {
            let found = told(&[("cdn-cache-control", line)]);
            assert_eq!(found.map(|told| told.max_age), expected, "{line}");
        }
    }

    #[test]
    fn flags_and_field_lists() {
        let flags = told(&[("cdn-cache-control", "no-store=?0, must-revalidate, private=\"a, b\"")]).unwrap();
        assert!(!flags.no_store && flags.must_revalidate && !flags.private);
        assert_eq!(flags.unstored, ["a", "b"]);
        let inner = told(&[("cdn-cache-control", "no-cache=(set-cookie \"x\")")]).unwrap();
        assert!(!inner.no_cache);
        assert_eq!(inner.unstored, ["set-cookie", "x"]);
        assert!(told(&[("cdn-cache-control", "private=1")]).unwrap().private, "no list of fields: all is private");
        assert!(told(&[("cdn-cache-control", "no-cache")]).unwrap().no_cache);
    }

    #[test]
    fn the_first_valid_target_counts() {
        // RFC 9213 §2.2
        let max_age = |lines: &[(&str, &str)]| told(lines).and_then(|told| told.max_age);
        let own = ("rproxy-cache-control", "max-age=1");
        let cdn = ("cdn-cache-control", "max-age=2");
        assert_eq!(max_age(&[cdn, own]), Some(1));
        assert_eq!(max_age(&[cdn, ("rproxy-cache-control", "&&")]), Some(2));
        assert_eq!(max_age(&[cdn, ("rproxy-cache-control", "")]), Some(2));
        assert_eq!(max_age(&[("cdn-cache-control", "public"), cdn]), Some(2), "lines are combined");
        assert_eq!(told(&[("cache-control", "max-age=3")]), None);
    }
}
