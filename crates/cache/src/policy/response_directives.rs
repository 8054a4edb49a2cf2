//! The cache directives of a response (RFC 9111 §5.2.2), or of a targeted field (RFC 9213).

use http::HeaderMap;
use http::header::{self, HeaderName};

use crate::policy::cache_control::{Directive, Directives};
use crate::policy::targeted;

/// The cache directives that apply to a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResponseDirectives {
    /// Whether the directives are from a targeted field, so that `Expires` is ignored (RFC 9213 §2.2).
    pub(crate) is_targeted: bool,
    pub(crate) no_store: bool,
    pub(crate) no_cache: bool,
    pub(crate) private: bool,
    pub(crate) public: bool,
    pub(crate) must_revalidate: bool,
    pub(crate) proxy_revalidate: bool,
    pub(crate) must_understand: bool,
    /// The `immutable` directive (RFC 8246).
    pub(crate) immutable: bool,
    /// The value of `max-age` in seconds. An invalid argument counts as 0, which makes the response stale (RFC 9111
    /// §4.2.1).
    pub(crate) max_age: Option<u64>,
    pub(crate) s_maxage: Option<u64>,
    pub(crate) stale_while_revalidate: Option<u64>,
    pub(crate) stale_if_error: Option<u64>,
    /// The header fields that `private="..."` and `no-cache="..."` exclude from storage.
    pub(crate) excluded_fields: Vec<HeaderName>,
}

impl ResponseDirectives {
    /// Parses the directives of a targeted field if present, and of `Cache-Control` otherwise.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Self {
        let mut directives = Self::default();
        directives.is_targeted = targeted::for_each_directive(headers, |directive| directives.apply(directive));
        if !directives.is_targeted {
            Directives::new(headers, header::CACHE_CONTROL).for_each(|directive| directives.apply(&directive));
        }
        directives
    }

    fn apply(&mut self, directive: &Directive<'_>) {
        let is = |name: &[u8]| directive.name.eq_ignore_ascii_case(name);
        if is(b"max-age") {
            // RFC 9111 §4.2.1: the first of several values counts.
            self.max_age.get_or_insert(directive.delta_seconds().unwrap_or(0));
        } else if is(b"s-maxage") {
            self.s_maxage.get_or_insert(directive.delta_seconds().unwrap_or(0));
        } else if is(b"no-store") {
            self.no_store = true;
        } else if is(b"no-cache") {
            self.no_cache |= !directive.qualify(&mut self.excluded_fields);
        } else if is(b"private") {
            self.private |= !directive.qualify(&mut self.excluded_fields);
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

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn response(lines: &[&'static str]) -> ResponseDirectives {
        let field = |line: &&'static str| (header::CACHE_CONTROL, HeaderValue::from_static(line));
        ResponseDirectives::from_headers(&lines.iter().map(field).collect())
    }

    #[test]
    fn parses_max_age_as_seconds() {
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
    fn combines_cache_control_field_lines() {
        let directives = response(&["max-age=3600", "s-maxage=1, public"]);
        assert_eq!((directives.max_age, directives.s_maxage, directives.public), (Some(3600), Some(1), true));
    }

    #[test]
    fn unclosed_quote_does_not_hide_no_store() {
        let directives = response(&["ext=\"oops, no-store, max-age=60"]);
        assert!(directives.no_store);
    }

    #[test]
    fn parses_field_names_of_qualified_private_and_no_cache() {
        // RFC 9111 §5.2.2.4, §5.2.2.7
        let directives = response(&["private=\"X-User, set-cookie\", no-cache=etag"]);
        assert!(!directives.private && !directives.no_cache);
        assert_eq!(directives.excluded_fields, ["x-user", "set-cookie", "etag"]);
    }

    #[test]
    fn directive_with_an_invalid_field_list_applies_to_the_whole_response() {
        for line in ["private=\"\"", "private=\"a b\"", "private=", "private=\"x", "no-cache=\"a\", private"] {
            assert!(response(&[line]).private, "{line}");
        }
    }

    proptest! {
        #[test]
        fn parsing_response_directives_never_panics(lines in prop::collection::vec(prop::collection::vec(0x20_u8..0x7f, 0..80), 0..4)) {
            let headers: HeaderMap = lines
                .iter()
                .map(|line| (header::CACHE_CONTROL, HeaderValue::from_bytes(line).unwrap()))
                .collect();
            ResponseDirectives::from_headers(&headers);
        }

        #[test]
        fn finds_no_store_at_any_position_of_cache_control(
            before in "[a-z]{1,8}(=[a-z0-9]{1,8})?",
            after in "[a-z]{1,8}(=\"[a-z ,=\\-]{0,16}\")?",
        ) {
            let line = format!("{before} ,\tno-STORE,{after}");
            let headers = HeaderMap::from_iter([(header::CACHE_CONTROL, HeaderValue::try_from(line).unwrap())]);
            prop_assert!(ResponseDirectives::from_headers(&headers).no_store);
        }
    }
}
