//! The cache directives of a request (RFC 9111 §5.2.1).

use http::HeaderMap;
use http::header;

use crate::policy::cache_control::{Argument, Directives};

/// The cache directives of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestDirectives {
    pub(crate) no_store: bool,
    pub(crate) no_cache: bool,
    pub(crate) only_if_cached: bool,
    pub(crate) max_age: Option<u64>,
    /// The staleness that the client accepts (`max-stale`), unlimited without an argument.
    pub(crate) max_stale: Option<u64>,
    pub(crate) min_fresh: Option<u64>,
    pub(crate) stale_if_error: Option<u64>,
}

impl RequestDirectives {
    /// Removes the directives that a fresh response may not satisfy: `no-cache`, `max-age`, `min-fresh`.
    pub(crate) fn without_freshness_demands(self) -> Self {
        Self { no_cache: false, max_age: None, min_fresh: None, ..self }
    }

    /// Parses the cache directives of a request. The number of directives is limited, as each is compared with all
    /// known names.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Self {
        const MAX: usize = 32;
        let mut directives = Self::default();
        if !headers.contains_key(header::CACHE_CONTROL) {
            // RFC 9111 §5.4: without Cache-Control, `Pragma: no-cache` has the meaning of `Cache-Control: no-cache`.
            directives.no_cache = Directives::new(headers, header::PRAGMA)
                .at_most(MAX)
                .any(|directive| directive.name.eq_ignore_ascii_case(b"no-cache"));
            return directives;
        }
        for directive in Directives::new(headers, header::CACHE_CONTROL).at_most(MAX) {
            let name = directive.name;
            if name.eq_ignore_ascii_case(b"no-cache") {
                directives.no_cache = true;
            } else if name.eq_ignore_ascii_case(b"no-store") {
                directives.no_store = true;
            } else if name.eq_ignore_ascii_case(b"only-if-cached") {
                directives.only_if_cached = true;
            } else if name.eq_ignore_ascii_case(b"max-age") {
                directives.max_age.get_or_insert(directive.delta_seconds().unwrap_or(0));
            } else if name.eq_ignore_ascii_case(b"max-stale") {
                let limit = match directive.argument {
                    Argument::Absent => Some(u64::MAX),
                    _ => directive.delta_seconds(),
                };
                directives.max_stale = directives.max_stale.or(limit);
            } else if name.eq_ignore_ascii_case(b"min-fresh") {
                directives.min_fresh = directives.min_fresh.or(directive.delta_seconds());
            } else if name.eq_ignore_ascii_case(b"stale-if-error") {
                directives.stale_if_error = directives.stale_if_error.or(directive.delta_seconds());
            }
        }
        directives
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::HeaderName;

    use super::*;

    fn request(lines: &[&'static str]) -> RequestDirectives {
        RequestDirectives::from_headers(&field(header::CACHE_CONTROL, lines))
    }

    fn field(name: HeaderName, lines: &[&'static str]) -> HeaderMap {
        lines.iter().map(|line| (name.clone(), HeaderValue::from_static(line))).collect()
    }

    #[test]
    fn parses_arguments_of_request_directives() {
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
    fn honours_pragma_only_without_cache_control() {
        // RFC 9111 §5.4
        let mut headers = field(header::PRAGMA, &["foo, No-Cache"]);
        assert!(RequestDirectives::from_headers(&headers).no_cache);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=60"));
        assert!(!RequestDirectives::from_headers(&headers).no_cache);
    }
}
