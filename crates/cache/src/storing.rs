//! Whether a response may be stored: RFC 9111 §3.

use http::header::{self, HeaderName, SET_COOKIE};
use http::{HeaderMap, StatusCode};

use crate::cache_control::ResponseDirectives;
use crate::clock::Timestamp;
use crate::content_type;
use crate::credentials::{has_credentials, is_credential};
use crate::freshness::{Basis, Freshness, Stale, is_heuristically_cacheable};
use crate::range::PartOf;
use crate::set_cookie::SetCookie;
use crate::tags::{TagKey, Tags};
use crate::validation::Validators;
use crate::vary::Selecting;

/// The terms on which a response is stored.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(crate) freshness: Freshness,
    pub(crate) selecting: Selecting,
    /// Fields that are not stored, beyond those that never are.
    pub(crate) unstored: Vec<HeaderName>,
    /// A 206: what it is a part of.
    pub(crate) part: Option<PartOf>,
    pub(crate) tags: Tags,
    /// Whether the request had credentials.
    pub(crate) is_personal: bool,
}

/// Why a response is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unstorable {
    Status,
    NoStore,
    Private,
    Authorization,
    /// The request carried credentials, and the response does not say that a shared cache may reuse it.
    Credentials,
    SetCookie,
    VaryAny,
    /// No rule makes it storable, or it could never be used.
    NoUse,
    /// It depends on something that this request alone was given.
    OneRequest,
    /// The path promises another kind of content.
    Disguised,
}

/// The exchange that ended in the response.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) origin: &'a str,
    pub(crate) path: &'a str,
    /// The last invalidation of tags before the origin was asked.
    pub(crate) tagged: u64,
    pub(crate) tag_key: TagKey,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) request_time: Timestamp,
    pub(crate) set_cookie: SetCookie,
    /// Whether a lifetime may be guessed: RFC 9111 §4.2.2.
    pub(crate) heuristic: bool,
}

impl Terms {
    /// For the response to a GET.
    pub(crate) fn for_response(
        request: Request<'_>,
        status: StatusCode,
        headers: &HeaderMap,
        response_time: Timestamp,
    ) -> Result<Self, Unstorable> {
        let mut directives = ResponseDirectives::of(headers);
        // 304 and 412 answer a condition, 416 a range: none stands for the resource.
        if status.is_informational() || matches!(status.as_u16(), 304 | 412 | 416) {
            return Err(Unstorable::Status);
        }
        // RFC 9111 §3.3
        let part = match status {
            StatusCode::PARTIAL_CONTENT => Some(PartOf::new(request.headers, headers).ok_or(Unstorable::Status)?),
            _ => None,
        };
        // RFC 9111 §5.2.2.3: who understands the status ignores the no-store beside must-understand.
        match (directives.must_understand, is_understood(status)) {
            (true, false) => return Err(Unstorable::Status),
            (true, true) => {}
            (false, _) if directives.no_store => return Err(Unstorable::NoStore),
            (false, _) => {}
        }
        if directives.private {
            return Err(Unstorable::Private);
        }
        let shared = directives.public || directives.s_maxage.is_some();
        // RFC 9111 §3.5
        if request.headers.contains_key(header::AUTHORIZATION) && !shared && !directives.must_revalidate {
            return Err(Unstorable::Authorization);
        }
        let selecting = Selecting::new(headers, request.headers).map_err(|_| Unstorable::VaryAny)?;

        let agrees = content_type::agrees(request.path, headers);
        // A guess must not make one user's page everybody's.
        let is_personal = has_credentials(request.headers);
        let varies_by_user = selecting.selectors().any(|(name, _)| is_credential(name));
        let may_guess = request.heuristic && agrees != Some(false);
        let heuristics = may_guess && (directives.public || !is_personal && !varies_by_user);
        let mut freshness =
            Freshness::new(status, headers, &directives, heuristics, request.request_time, response_time);
        // The origin approves each reuse by a 304 to the client's own request. But `Last-Modified`, and many an `ETag`,
        // are the same for the pages of two users, and then its word is not enough.
        if is_personal && !freshness.is_permitted {
            return Err(Unstorable::Credentials);
        }
        if is_personal && !shared && freshness.stale == Stale::Allowed {
            freshness.stale = Stale::OnlyInWindow;
        }
        if !freshness.basis.is_explicit() && agrees == Some(false) {
            return Err(Unstorable::Disguised);
        }
        let stale_at_birth = freshness.no_cache || freshness.ttl(freshness.initial_age) <= 0;
        // RFC 9111 §7.3. Of `Set-Cookie2` it says nothing, and nor does anyone since RFC 6265: a field like others.
        if headers.contains_key(SET_COOKIE) && !directives.unstored.contains(&SET_COOKIE) {
            let is_explicit = shared || (!stale_at_birth && freshness.basis.is_explicit());
            match request.set_cookie {
                SetCookie::Store => {}
                SetCookie::Strip if is_explicit => directives.unstored.push(SET_COOKIE),
                SetCookie::Strip | SetCookie::Refuse => return Err(Unstorable::SetCookie),
            }
        }
        // RFC 9111 §3
        if freshness.basis == Basis::Nothing && !directives.public && !is_heuristically_cacheable(status) {
            return Err(Unstorable::NoUse);
        }
        // A part is not validated, only asked for again.
        if part.is_some() && (stale_at_birth || !freshness.basis.is_explicit()) {
            return Err(Unstorable::NoUse);
        }
        let windows = match freshness.stale {
            Stale::Forbidden => 0,
            Stale::Allowed | Stale::OnlyInWindow => freshness.stale_while_revalidate.max(freshness.stale_if_error),
        };
        if stale_at_birth && windows == 0 && Validators::of(headers).is_empty() {
            return Err(Unstorable::NoUse);
        }
        let tags = Tags::of(headers, request.origin, request.tagged, request.tag_key);
        Ok(Self { freshness, selecting, unstored: directives.unstored, part, tags, is_personal })
    }
}

/// The statuses whose caching requirements are met here.
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
    ) -> Result<Terms, Unstorable> {
        terms_with(SetCookie::Strip, path, request, status, response)
    }

    fn terms_with(
        set_cookie: SetCookie,
        path: &str,
        request: &[(&str, &str)],
        status: u16,
        response: &[(&str, &str)],
    ) -> Result<Terms, Unstorable> {
        let now = Timestamp::from(UNIX_EPOCH + Duration::from_secs(NOW));
        let headers = &map(request);
        let request = Request {
            origin: "http://a.example",
            tagged: 0,
            tag_key: TagKey::random(),
            path,
            headers,
            request_time: now,
            set_cookie,
            heuristic: true,
        };
        Terms::for_response(request, StatusCode::from_u16(status).unwrap(), &map(response), now)
    }

    fn refusal(request: &[(&str, &str)], status: u16, response: &[(&str, &str)]) -> Option<Unstorable> {
        terms("/", request, status, response).err()
    }

    #[test]
    fn directives_decide() {
        // RFC 9111 §3, §5.2.2
        for (cache_control, expected) in [
            ("max-age=60", None),
            ("s-maxage=60", None),
            ("max-age=60, no-store", Some(Unstorable::NoStore)),
            ("max-age=60, No-StOrE", Some(Unstorable::NoStore)),
            ("private, max-age=60", Some(Unstorable::Private)),
            ("public, private, max-age=60", Some(Unstorable::Private)),
            ("private=\"x\", max-age=60", None),
            ("must-understand, no-store, max-age=60", None),
            ("max-age=0", Some(Unstorable::NoUse)),
            ("max-age=60, no-cache", Some(Unstorable::NoUse)),
            ("max-age=0, stale-if-error=60", None),
            ("max-age=0, stale-while-revalidate=60", None),
        ] {
            assert_eq!(refusal(&[], 200, &[("cache-control", cache_control)]), expected, "{cache_control}");
        }
        let validatable = [("cache-control", "no-cache"), ("etag", "\"a\"")];
        assert_eq!(refusal(&[], 200, &validatable), None, "stored to be validated");
    }

    #[test]
    fn any_final_status_with_explicit_freshness_is_stored() {
        // RFC 9111 §3
        for status in [200, 203, 204, 299, 301, 302, 303, 307, 308, 400, 404, 410, 499, 500, 502, 503, 504, 599] {
            assert_eq!(refusal(&[], status, &[FRESH]), None, "{status}");
        }
        for status in [206, 304, 412, 416] {
            assert_eq!(refusal(&[], status, &[FRESH]), Some(Unstorable::Status), "{status}");
        }
        let (range, part) = (("range", "bytes=0-1"), ("content-range", "bytes 0-1/9"));
        assert_eq!(refusal(&[range], 206, &[FRESH, part]), None);
        assert_eq!(refusal(&[range], 206, &[MODIFIED, part]), Some(Unstorable::NoUse));
        assert_eq!(refusal(&[], 206, &[FRESH, part]), Some(Unstorable::Status));
        // RFC 9111 §5.2.2.3
        let must_understand = [("cache-control", "must-understand, max-age=60")];
        assert_eq!(refusal(&[], 599, &must_understand), Some(Unstorable::Status));
        assert_eq!(refusal(&[], 404, &must_understand), None);
    }

    #[test]
    fn without_explicit_freshness_only_some_statuses_are() {
        // RFC 9111 §4.2.2
        for status in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501] {
            assert_eq!(refusal(&[], status, &[MODIFIED]), None, "{status}");
        }
        for status in [201, 202, 302, 403, 500, 502, 503, 504, 599] {
            assert_eq!(refusal(&[], status, &[MODIFIED]), Some(Unstorable::NoUse), "{status}");
        }
        assert_eq!(refusal(&[], 599, &[MODIFIED, ("cache-control", "public")]), None);
        assert_eq!(refusal(&[], 200, &[]), Some(Unstorable::NoUse));
    }

    #[test]
    fn responses_to_authorized_requests_need_permission() {
        // RFC 9111 §3.5
        let request = [("authorization", "Basic eDp5")];
        assert_eq!(refusal(&request, 200, &[FRESH]), Some(Unstorable::Authorization));
        for cache_control in ["public, max-age=60", "s-maxage=60", "must-revalidate, max-age=60"] {
            assert_eq!(refusal(&request, 200, &[("cache-control", cache_control)]), None, "{cache_control}");
        }
    }

    #[test]
    fn a_cookie_is_never_stored_and_what_comes_with_it_only_if_the_lifetime_is_explicit() {
        // RFC 9111 §7.3
        let cookie = ("set-cookie", "a=b");
        assert_eq!(refusal(&[], 200, &[MODIFIED, cookie]), Some(Unstorable::SetCookie));
        for validated in ["max-age=0", "no-cache", "max-age=60, no-cache"] {
            let fields = [("cache-control", validated), ("etag", "\"a\""), cookie];
            assert_eq!(refusal(&[], 200, &fields), Some(Unstorable::SetCookie), "{validated}");
        }
        for cache_control in
            ["max-age=60", "public, max-age=60", "public", "s-maxage=60", "max-age=60, no-cache=\"set-cookie\""]
        {
            let terms = terms("/", &[], 200, &[("cache-control", cache_control), MODIFIED, cookie]).unwrap();
            assert_eq!(terms.unstored, ["set-cookie"], "{cache_control}");
        }
    }

    #[test]
    fn who_answers_for_the_application_decides_about_its_cookies() {
        // RFC 9111 §7.3
        let cookie = ("set-cookie", "a=b");
        for (policy, fields, expected) in [
            (SetCookie::Store, &[FRESH, cookie][..], Ok(vec![])),
            (SetCookie::Store, &[MODIFIED, cookie], Ok(vec![])),
            (SetCookie::Store, &[("cache-control", "private"), cookie], Err(Unstorable::Private)),
            (SetCookie::Store, &[FRESH, ("cache-control", "no-cache=\"set-cookie\""), cookie], Ok(vec!["set-cookie"])),
            (SetCookie::Refuse, &[FRESH, cookie], Err(Unstorable::SetCookie)),
            (SetCookie::Refuse, &[("cache-control", "public, s-maxage=60"), cookie], Err(Unstorable::SetCookie)),
            (SetCookie::Refuse, &[FRESH, ("cache-control", "private=\"set-cookie\""), cookie], Ok(vec!["set-cookie"])),
            (SetCookie::Strip, &[FRESH, ("set-cookie2", "a=b")], Ok(vec![])),
        ] {
            let unstored = terms_with(policy, "/", &[], 200, fields).map(|terms| terms.unstored);
            let expected = expected.map(|names| names.into_iter().map(HeaderName::from_static).collect::<Vec<_>>());
            assert_eq!(unstored, expected, "{policy:?} {fields:?}");
        }
    }

    #[test]
    fn vary_star_is_not_stored() {
        // RFC 9111 §4.1
        assert_eq!(refusal(&[], 200, &[FRESH, ("vary", "a, *")]), Some(Unstorable::VaryAny));
    }

    #[test]
    fn a_page_in_the_disguise_of_a_stylesheet_is_not_stored() {
        let html = ("content-type", "text/html");
        let refused = |fields: &[(&str, &str)]| terms("/account/x.css", &[], 200, fields).err();
        assert_eq!(refused(&[html, MODIFIED]), Some(Unstorable::Disguised));
        assert_eq!(refused(&[html, ("etag", "\"a\"")]), Some(Unstorable::Disguised));
        assert_eq!(refused(&[html, FRESH]), None, "the application said so itself");
        assert_eq!(refused(&[("content-type", "text/css"), MODIFIED]), None);
    }

    #[test]
    fn nothing_is_guessed_about_responses_to_credentials() {
        let lifetime = |request: &[(&str, &str)], fields: &[(&str, &str)]| {
            terms("/x.css", request, 200, fields).map(|terms| terms.freshness.freshness_lifetime)
        };
        let css = ("content-type", "text/css");
        assert_eq!(lifetime(&[], &[MODIFIED, css]), Ok(360));
        for credential in [("cookie", "session=1"), ("x-api-key", "1"), ("proxy-authorization", "Basic eDp5")] {
            assert_eq!(lifetime(&[credential], &[MODIFIED, css]), Err(Unstorable::Credentials), "{credential:?}");
            assert_eq!(lifetime(&[credential], &[MODIFIED, css, ("cache-control", "public")]), Ok(360));
        }
        for vary in ["cookie", "accept, authorization"] {
            assert_eq!(lifetime(&[], &[MODIFIED, css, ("vary", vary)]), Ok(0), "{vary}: only after validation");
        }
    }
}
