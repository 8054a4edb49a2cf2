//! The decision whether a response can be stored (RFC 9111 §3).

use http::header::{self, HeaderName, SET_COOKIE};
use http::{HeaderMap, StatusCode};
use rproxy_core::credentials::{has_credentials, is_credential};

use crate::clock::Timestamp;
use crate::policy::content_type;
use crate::policy::freshness::{Basis, Freshness, StaleUse, is_heuristically_cacheable};
use crate::policy::range::StoredRange;
use crate::policy::response_directives::ResponseDirectives;
use crate::policy::tags::{TagKey, Tags};
use crate::policy::validators::Validators;
use crate::policy::vary::SelectingFields;
use crate::set_cookie::SetCookiePolicy;

/// The terms for storing a response, such as its freshness and selecting fields.
#[derive(Debug)]
pub(crate) struct StorageTerms {
    pub(crate) freshness: Freshness,
    pub(crate) selecting_fields: SelectingFields,
    /// The additional header fields that are excluded from storage.
    pub(crate) excluded_fields: Vec<HeaderName>,
    /// The range of a partial response (206).
    pub(crate) part: Option<StoredRange>,
    pub(crate) tags: Tags,
    /// Whether the request contained credentials.
    pub(crate) has_request_credentials: bool,
}

/// The reason that a response is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotStorable {
    Status,
    NoStore,
    Private,
    Authorization,
    /// The request had credentials, and the response does not explicitly permit reuse by a shared cache.
    Credentials,
    SetCookie,
    VaryStar,
    /// No rule permits storing the response, or the stored response could never be used.
    Useless,
    /// The response contains a value that is specific to its request, such as a nonce.
    RequestSpecific,
    /// The hook of the layer excludes the response.
    Excluded,
    /// The file extension of the path does not match the `Content-Type` of the response.
    TypeMismatch,
}

/// The request whose response may be stored.
#[derive(Clone, Copy)]
pub(crate) struct StorageRequest<'a> {
    pub(crate) origin: &'a str,
    pub(crate) path: &'a str,
    /// The number of cache-tag invalidations before the fetch started.
    pub(crate) tag_generation: u64,
    pub(crate) tag_key: TagKey,
    pub(crate) headers: &'a HeaderMap,
    /// Whether a layer authenticated the client.
    pub(crate) is_authenticated: bool,
    pub(crate) request_time: Timestamp,
    pub(crate) set_cookie: SetCookiePolicy,
    /// Whether the cache uses heuristic freshness for responses without a lifetime (RFC 9111 §4.2.2).
    pub(crate) heuristic_freshness: bool,
}

impl StorageTerms {
    /// Returns the terms for storing the response to a GET request, or the reason that it is not storable.
    pub(crate) fn for_response(
        request: StorageRequest<'_>,
        status: StatusCode,
        headers: &HeaderMap,
        response_time: Timestamp,
    ) -> Result<Self, NotStorable> {
        let mut directives = ResponseDirectives::from_headers(headers);
        // 304 and 412 answer a condition, and 416 a range. They do not represent the resource.
        if status.is_informational() || matches!(status.as_u16(), 304 | 412 | 416) {
            return Err(NotStorable::Status);
        }
        // RFC 9111 §3.3
        let part = match status {
            StatusCode::PARTIAL_CONTENT => Some(StoredRange::new(request.headers, headers).ok_or(NotStorable::Status)?),
            _ => None,
        };
        // RFC 9111 §5.2.2.3: a cache that understands the status ignores `no-store` beside `must-understand`.
        match (directives.must_understand, is_understood(status)) {
            (true, false) => return Err(NotStorable::Status),
            (true, true) => {}
            (false, _) if directives.no_store => return Err(NotStorable::NoStore),
            (false, _) => {}
        }
        if directives.private {
            return Err(NotStorable::Private);
        }
        let is_shared_explicitly = directives.public || directives.s_maxage.is_some();
        // RFC 9111 §3.5
        let is_authenticated = request.is_authenticated || request.headers.contains_key(header::AUTHORIZATION);
        if is_authenticated && !is_shared_explicitly && !directives.must_revalidate {
            return Err(NotStorable::Authorization);
        }
        let selecting_fields = SelectingFields::new(headers, request.headers).map_err(|_| NotStorable::VaryStar)?;

        let matches_extension = content_type::matches_extension(request.path, headers);
        // An estimated lifetime must not share the page of one user with all.
        let has_request_credentials = request.is_authenticated || has_credentials(request.headers);
        let varies_by_credentials = selecting_fields.fields().any(|(name, _)| is_credential(name));
        let allows_guess = request.heuristic_freshness && matches_extension != Some(false);
        let allows_heuristic =
            allows_guess && (directives.public || !has_request_credentials && !varies_by_credentials);
        let mut freshness =
            Freshness::new(status, headers, &directives, allows_heuristic, request.request_time, response_time);
        // Each use would be validated with the request of the client. But `Last-Modified`, and many an `ETag`, is the
        // same for the pages of two users.
        if has_request_credentials && !freshness.is_permitted {
            return Err(NotStorable::Credentials);
        }
        if has_request_credentials && !is_shared_explicitly && freshness.stale_use == StaleUse::Allowed {
            freshness.stale_use = StaleUse::OnlyInWindow;
        }
        if !freshness.basis.is_explicit() && matches_extension == Some(false) {
            return Err(NotStorable::TypeMismatch);
        }
        let is_stale_on_arrival = freshness.no_cache || freshness.ttl(freshness.initial_age) <= 0;
        // RFC 9111 §7.3. `Set-Cookie2` is obsolete since RFC 6265, and is a field like any other.
        if headers.contains_key(SET_COOKIE) && !directives.excluded_fields.contains(&SET_COOKIE) {
            let is_explicit = is_shared_explicitly || (!is_stale_on_arrival && freshness.basis.is_explicit());
            match request.set_cookie {
                SetCookiePolicy::Store => {}
                SetCookiePolicy::Strip if is_explicit => directives.excluded_fields.push(SET_COOKIE),
                SetCookiePolicy::Strip | SetCookiePolicy::DoNotStore => return Err(NotStorable::SetCookie),
            }
        }
        // RFC 9111 §3
        if freshness.basis == Basis::Missing && !directives.public && !is_heuristically_cacheable(status) {
            return Err(NotStorable::Useless);
        }
        // A part is not validated by a 304, only requested again.
        if part.is_some() && (is_stale_on_arrival || !freshness.basis.is_explicit()) {
            return Err(NotStorable::Useless);
        }
        let windows = match freshness.stale_use {
            StaleUse::Forbidden => 0,
            StaleUse::Allowed | StaleUse::OnlyInWindow => {
                freshness.stale_while_revalidate.max(freshness.stale_if_error)
            }
        };
        if is_stale_on_arrival && windows == 0 && Validators::from_headers(headers).is_empty() {
            return Err(NotStorable::Useless);
        }
        let tags = Tags::from_headers(headers, request.origin, request.tag_generation, request.tag_key);
        let excluded_fields = directives.excluded_fields;
        Ok(Self { freshness, selecting_fields, excluded_fields, part, tags, has_request_credentials })
    }
}

/// Whether this cache implements the caching requirements of a status code.
fn is_understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200 | 203 | 204 | 206 | 300..=303 | 307 | 308 | 400..=411 | 413..=415 | 417 | 421 | 422 | 426 | 428 | 429 | 431 | 451 | 500..=505 | 511
    )
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use http::HeaderValue;

    use super::*;

    // Sun, 06 Nov 1994 08:49:37 GMT
    const NOW: u64 = 784_111_777;
    const MODIFIED: (&str, &str) = ("last-modified", "Sun, 06 Nov 1994 07:49:37 GMT");
    const FRESH: (&str, &str) = ("cache-control", "max-age=60");

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        map
    }

    fn terms(
        path: &str,
        request: &[(&str, &str)],
        status: u16,
        response: &[(&str, &str)],
    ) -> Result<StorageTerms, NotStorable> {
        terms_with(SetCookiePolicy::Strip, path, request, status, response)
    }

    fn terms_with(
        set_cookie: SetCookiePolicy,
        path: &str,
        request: &[(&str, &str)],
        status: u16,
        response: &[(&str, &str)],
    ) -> Result<StorageTerms, NotStorable> {
        let now = Timestamp::from(UNIX_EPOCH + Duration::from_secs(NOW));
        let headers = &map(request);
        let request = StorageRequest {
            origin: "http://a.example",
            tag_generation: 0,
            tag_key: TagKey::random(),
            path,
            headers,
            is_authenticated: false,
            request_time: now,
            set_cookie,
            heuristic_freshness: true,
        };
        StorageTerms::for_response(request, StatusCode::from_u16(status).unwrap(), &map(response), now)
    }

    fn rejection(request: &[(&str, &str)], status: u16, response: &[(&str, &str)]) -> Option<NotStorable> {
        terms("/", request, status, response).err()
    }

    #[test]
    fn storability_honours_response_directives() {
        // RFC 9111 §3, §5.2.2
        for (cache_control, expected) in [
            ("max-age=60", None),
            ("s-maxage=60", None),
            ("max-age=60, no-store", Some(NotStorable::NoStore)),
            ("max-age=60, No-StOrE", Some(NotStorable::NoStore)),
            ("private, max-age=60", Some(NotStorable::Private)),
            ("public, private, max-age=60", Some(NotStorable::Private)),
            ("private=\"x\", max-age=60", None),
            ("must-understand, no-store, max-age=60", None),
            ("max-age=0", Some(NotStorable::Useless)),
            ("max-age=60, no-cache", Some(NotStorable::Useless)),
            ("max-age=0, stale-if-error=60", None),
            ("max-age=0, stale-while-revalidate=60", None),
        ] {
            assert_eq!(rejection(&[], 200, &[("cache-control", cache_control)]), expected, "{cache_control}");
        }
        let validatable = [("cache-control", "no-cache"), ("etag", "\"a\"")];
        assert_eq!(rejection(&[], 200, &validatable), None, "stored to be validated");
    }

    #[test]
    fn stores_responses_of_all_supported_status_codes_with_explicit_freshness() {
        // RFC 9111 §3
        for status in [200, 203, 204, 299, 301, 302, 303, 307, 308, 400, 404, 410, 499, 500, 502, 503, 504, 599] {
            assert_eq!(rejection(&[], status, &[FRESH]), None, "{status}");
        }
        for status in [206, 304, 412, 416] {
            assert_eq!(rejection(&[], status, &[FRESH]), Some(NotStorable::Status), "{status}");
        }
        let (range, part) = (("range", "bytes=0-1"), ("content-range", "bytes 0-1/9"));
        assert_eq!(rejection(&[range], 206, &[FRESH, part]), None);
        assert_eq!(rejection(&[range], 206, &[MODIFIED, part]), Some(NotStorable::Useless));
        assert_eq!(rejection(&[], 206, &[FRESH, part]), Some(NotStorable::Status));
        // RFC 9111 §5.2.2.3
        let must_understand = [("cache-control", "must-understand, max-age=60")];
        assert_eq!(rejection(&[], 599, &must_understand), Some(NotStorable::Status));
        assert_eq!(rejection(&[], 404, &must_understand), None);
    }

    #[test]
    fn stores_responses_without_explicit_freshness_only_if_heuristically_cacheable() {
        // RFC 9111 §4.2.2
        for status in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501] {
            assert_eq!(rejection(&[], status, &[MODIFIED]), None, "{status}");
        }
        for status in [201, 202, 302, 403, 500, 502, 503, 504, 599] {
            assert_eq!(rejection(&[], status, &[MODIFIED]), Some(NotStorable::Useless), "{status}");
        }
        assert_eq!(rejection(&[], 599, &[MODIFIED, ("cache-control", "public")]), None);
        assert_eq!(rejection(&[], 200, &[]), Some(NotStorable::Useless));
    }

    #[test]
    fn stores_responses_to_authorized_requests_only_with_explicit_permission() {
        // RFC 9111 §3.5
        let request = [("authorization", "Basic eDp5")];
        assert_eq!(rejection(&request, 200, &[FRESH]), Some(NotStorable::Authorization));
        for cache_control in ["public, max-age=60", "s-maxage=60", "must-revalidate, max-age=60"] {
            assert_eq!(rejection(&request, 200, &[("cache-control", cache_control)]), None, "{cache_control}");
        }
    }

    #[test]
    fn strips_set_cookie_from_responses_with_explicit_freshness() {
        // RFC 9111 §7.3
        let cookie = ("set-cookie", "a=b");
        assert_eq!(rejection(&[], 200, &[MODIFIED, cookie]), Some(NotStorable::SetCookie));
        for validated in ["max-age=0", "no-cache", "max-age=60, no-cache"] {
            let fields = [("cache-control", validated), ("etag", "\"a\""), cookie];
            assert_eq!(rejection(&[], 200, &fields), Some(NotStorable::SetCookie), "{validated}");
        }
        for cache_control in
            ["max-age=60", "public, max-age=60", "public", "s-maxage=60", "max-age=60, no-cache=\"set-cookie\""]
        {
            let terms = terms("/", &[], 200, &[("cache-control", cache_control), MODIFIED, cookie]).unwrap();
            assert_eq!(terms.excluded_fields, ["set-cookie"], "{cache_control}");
        }
    }

    #[test]
    fn set_cookie_policy_applies_to_storable_responses() {
        // RFC 9111 §7.3
        let cookie = ("set-cookie", "a=b");
        for (policy, fields, expected) in [
            (SetCookiePolicy::Store, &[FRESH, cookie][..], Ok(vec![])),
            (SetCookiePolicy::Store, &[MODIFIED, cookie], Ok(vec![])),
            (SetCookiePolicy::Store, &[("cache-control", "private"), cookie], Err(NotStorable::Private)),
            (
                SetCookiePolicy::Store,
                &[FRESH, ("cache-control", "no-cache=\"set-cookie\""), cookie],
                Ok(vec!["set-cookie"]),
            ),
            (SetCookiePolicy::DoNotStore, &[FRESH, cookie], Err(NotStorable::SetCookie)),
            (
                SetCookiePolicy::DoNotStore,
                &[("cache-control", "public, s-maxage=60"), cookie],
                Err(NotStorable::SetCookie),
            ),
            (
                SetCookiePolicy::DoNotStore,
                &[FRESH, ("cache-control", "private=\"set-cookie\""), cookie],
                Ok(vec!["set-cookie"]),
            ),
            (SetCookiePolicy::Strip, &[FRESH, ("set-cookie2", "a=b")], Ok(vec![])),
        ] {
            let excluded = terms_with(policy, "/", &[], 200, fields).map(|terms| terms.excluded_fields);
            let expected = expected.map(|names| names.into_iter().map(HeaderName::from_static).collect::<Vec<_>>());
            assert_eq!(excluded, expected, "{policy:?} {fields:?}");
        }
    }

    #[test]
    fn does_not_store_responses_with_vary_star() {
        // RFC 9111 §4.1
        assert_eq!(rejection(&[], 200, &[FRESH, ("vary", "a, *")]), Some(NotStorable::VaryStar));
    }

    #[test]
    fn does_not_store_html_under_a_css_path_without_explicit_freshness() {
        let html = ("content-type", "text/html");
        let rejection = |fields: &[(&str, &str)]| terms("/account/x.css", &[], 200, fields).err();
        assert_eq!(rejection(&[html, MODIFIED]), Some(NotStorable::TypeMismatch));
        assert_eq!(rejection(&[html, ("etag", "\"a\"")]), Some(NotStorable::TypeMismatch));
        assert_eq!(rejection(&[html, FRESH]), None, "the application said so itself");
        assert_eq!(rejection(&[("content-type", "text/css"), MODIFIED]), None);
    }

    #[test]
    fn heuristic_freshness_excludes_requests_with_credentials() {
        let lifetime = |request: &[(&str, &str)], fields: &[(&str, &str)]| {
            terms("/x.css", request, 200, fields).map(|terms| terms.freshness.freshness_lifetime)
        };
        let css = ("content-type", "text/css");
        assert_eq!(lifetime(&[], &[MODIFIED, css]), Ok(360));
        for credential in [("cookie", "session=1"), ("x-api-key", "1"), ("proxy-authorization", "Basic eDp5")] {
            assert_eq!(lifetime(&[credential], &[MODIFIED, css]), Err(NotStorable::Credentials), "{credential:?}");
            assert_eq!(lifetime(&[credential], &[MODIFIED, css, ("cache-control", "public")]), Ok(360));
        }
        for vary in ["cookie", "accept, authorization"] {
            assert_eq!(lifetime(&[], &[MODIFIED, css, ("vary", vary)]), Ok(0), "{vary}: only after validation");
        }
    }
}
