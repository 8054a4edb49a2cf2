//! Targeted cache control (RFC 9213): fields that apply only to this cache or to shared caches of the origin.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use sfv::{BareItem, Dictionary, ListEntry, Parser};

use crate::policy::cache_control::{Argument, Directive};

/// The target list (RFC 9213 §2.2): the field for this proxy first, then `CDN-Cache-Control`.
const TARGETS: [HeaderName; 2] =
    [HeaderName::from_static("rproxy-cache-control"), HeaderName::from_static("cdn-cache-control")];

/// Calls `apply` for each directive of the first targeted field that is valid and not empty.
///
/// Returns `false` if there is none, so that `Cache-Control` and `Expires` apply.
// RFC 9213 §2.2
pub(crate) fn for_each_directive(headers: &HeaderMap, mut apply: impl FnMut(&Directive<'_>)) -> bool {
    let Some(dictionary) = TARGETS.iter().find_map(|name| dictionary(headers, name)) else {
        return false;
    };
    for (name, member) in &dictionary {
        if let Some(argument) = argument(member) {
            apply(&Directive { name: name.as_str().as_bytes(), argument });
        }
    }
    true
}

/// Parses a targeted field as a structured dictionary. RFC 9213 §2.1: a field that cannot be parsed is ignored.
fn dictionary(headers: &HeaderMap, name: &HeaderName) -> Option<Dictionary> {
    let mut values = headers.get_all(name).iter();
    let (first, second) = (values.next()?, values.next());
    let text = match second {
        None => Cow::Borrowed(first.as_bytes()),
        Some(_) => {
            let values: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
            Cow::Owned(values.join(&b", "[..]))
        }
    };
    Parser::new(&text).parse::<Dictionary>().ok().filter(|dictionary| !dictionary.is_empty())
}

/// Returns the argument of a directive, or `None` for a disabled directive such as `no-store=?0`.
fn argument(member: &ListEntry) -> Option<Argument<'_>> {
    Some(match member {
        ListEntry::Item(item) => match &item.bare_item {
            BareItem::Boolean(false) => return None,
            BareItem::Boolean(true) => Argument::Absent,
            BareItem::Integer(seconds) => match u64::try_from(*seconds) {
                Ok(seconds) => Argument::Seconds(seconds),
                Err(_) => Argument::Malformed,
            },
            BareItem::String(list) => Argument::FieldNames(Cow::Borrowed(list.as_str().as_bytes())),
            BareItem::Token(field) => Argument::FieldNames(Cow::Borrowed(field.as_str().as_bytes())),
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
            let names = |fields: Vec<&str>| Argument::FieldNames(Cow::Owned(fields.join(",").into_bytes()));
            fields.map_or(Argument::Malformed, names)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::response_directives::ResponseDirectives;

    fn targeted(lines: &[(&str, &str)]) -> Option<ResponseDirectives> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        Some(ResponseDirectives::from_headers(&headers)).filter(|directives| directives.is_targeted)
    }

    #[test]
    fn parses_lifetimes_in_targeted_fields_as_integers() {
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
            let found = targeted(&[("cdn-cache-control", line)]);
            assert_eq!(found.map(|directives| directives.max_age), expected, "{line}");
        }
    }

    #[test]
    fn parses_flags_and_field_names_in_targeted_fields() {
        let flags = targeted(&[("cdn-cache-control", "no-store=?0, must-revalidate, private=\"a, b\"")]).unwrap();
        assert!(!flags.no_store && flags.must_revalidate && !flags.private);
        assert_eq!(flags.excluded_fields, ["a", "b"]);
        let inner = targeted(&[("cdn-cache-control", "no-cache=(set-cookie \"x\")")]).unwrap();
        assert!(!inner.no_cache);
        assert_eq!(inner.excluded_fields, ["set-cookie", "x"]);
        assert!(targeted(&[("cdn-cache-control", "private=1")]).unwrap().private, "the argument is no list of fields");
        assert!(targeted(&[("cdn-cache-control", "no-cache")]).unwrap().no_cache);
    }

    #[test]
    fn only_the_first_valid_targeted_field_applies() {
        // RFC 9213 §2.2
        let max_age = |lines: &[(&str, &str)]| targeted(lines).and_then(|directives| directives.max_age);
        let own = ("rproxy-cache-control", "max-age=1");
        let cdn = ("cdn-cache-control", "max-age=2");
        assert_eq!(max_age(&[cdn, own]), Some(1));
        assert_eq!(max_age(&[cdn, ("rproxy-cache-control", "&&")]), Some(2));
        assert_eq!(max_age(&[cdn, ("rproxy-cache-control", "")]), Some(2));
        assert_eq!(max_age(&[("cdn-cache-control", "public"), cdn]), Some(2), "values are combined");
        assert_eq!(targeted(&[("cache-control", "max-age=3")]), None);
    }
}
