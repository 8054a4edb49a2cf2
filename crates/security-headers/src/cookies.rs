//! Adds missing security attributes to `Set-Cookie` (RFC 6265bis).

use http::HeaderValue;
use http::header::{Entry, HeaderMap, SET_COOKIE};

/// The security attributes to add to cookies that lack them.
///
/// Attributes that the inner service set are not changed.
///
/// # Examples
///
/// ```
/// use rproxy_security_headers::{CookieAttributes, SecurityHeadersLayer};
///
/// let layer = SecurityHeadersLayer::recommended().cookies(CookieAttributes::hardened().http_only(true));
/// # let _ = layer;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct CookieAttributes {
    secure: bool,
    same_site: bool,
    http_only: bool,
}

impl CookieAttributes {
    /// Creates a set of `Secure`, for cookies set over TLS, and `SameSite=Lax`, the default of most browsers.
    pub const fn hardened() -> Self {
        Self { secure: true, same_site: true, http_only: false }
    }

    /// Sets whether to add `Secure` to cookies that are set over TLS.
    pub const fn secure(self, add: bool) -> Self {
        Self { secure: add, ..self }
    }

    /// Sets whether to add `SameSite=Lax` to cookies without `SameSite`.
    pub const fn same_site(self, add: bool) -> Self {
        Self { same_site: add, ..self }
    }

    /// Sets whether to add `HttpOnly`, which hides a cookie from scripts of the page.
    ///
    /// It breaks scripts that read a cookie. Many frameworks send their CSRF token in one.
    pub const fn http_only(self, add: bool) -> Self {
        Self { http_only: add, ..self }
    }

    pub(crate) fn apply(self, headers: &mut HeaderMap, is_https: bool) {
        // `try_entry` fails only if the map is full.
        if let Ok(Entry::Occupied(mut cookies)) = headers.try_entry(SET_COOKIE) {
            for cookie in cookies.iter_mut() {
                if let Some(hardened) = self.harden(cookie.as_bytes(), is_https) {
                    *cookie = hardened;
                }
            }
        }
    }

    /// Returns the cookie with the missing attributes added, or `None` if no attribute is missing.
    fn harden(self, cookie: &[u8], is_https: bool) -> Option<HeaderValue> {
        let has = |name: &str| {
            // RFC 6265bis §5.6: the first part is the name and value; attribute names are case-insensitive.
            let mut attributes = cookie.split(|&byte| byte == b';').skip(1);
            attributes.any(|attribute| {
                let attribute_name = attribute.split(|&byte| byte == b'=').next().unwrap_or_default();
                attribute_name.trim_ascii().eq_ignore_ascii_case(name.as_bytes())
            })
        };
        let added = [
            (self.secure && is_https && !has("secure"), "; Secure"),
            (self.http_only && !has("httponly"), "; HttpOnly"),
            (self.same_site && !has("samesite"), "; SameSite=Lax"),
        ];
        if !added.iter().any(|(add, _)| *add) {
            return None;
        }
        let mut hardened = cookie.trim_ascii_end().to_vec();
        for (_, attribute) in added.iter().filter(|(add, _)| *add) {
            hardened.extend_from_slice(attribute.as_bytes());
        }
        // Always valid: ASCII was appended to a valid value.
        HeaderValue::from_bytes(&hardened).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_missing_cookie_attributes_and_keeps_existing_ones() {
        let all = CookieAttributes::hardened().http_only(true);
        for (cookies, is_https, cookie, expected) in [
            (CookieAttributes::hardened(), true, "a=b", Some("a=b; Secure; SameSite=Lax")),
            (CookieAttributes::hardened(), false, "a=b; Path=/", Some("a=b; Path=/; SameSite=Lax")),
            (CookieAttributes::hardened(), true, "a=b; secure; SAMESITE = None", None),
            (CookieAttributes::hardened(), true, "secure=samesite", Some("secure=samesite; Secure; SameSite=Lax")),
            (all, true, "a=b; Secure", Some("a=b; Secure; HttpOnly; SameSite=Lax")),
            (all, true, "a=b;httponly;Secure;SameSite=Strict", None),
            (all.secure(false).same_site(false), true, "a=b", Some("a=b; HttpOnly")),
            (all, true, "a=\"x\"; Path=/secure", Some("a=\"x\"; Path=/secure; Secure; HttpOnly; SameSite=Lax")),
        ] {
            let hardened = cookies.harden(cookie.as_bytes(), is_https);
            assert_eq!(hardened, expected.map(HeaderValue::from_static), "{cookie}");
        }
    }

    #[test]
    fn adds_attributes_to_every_cookie_of_a_response() {
        let mut headers = HeaderMap::new();
        for cookie in ["a=1", "b=2; SameSite=Strict", "c=\u{e9}"] {
            headers.append(SET_COOKIE, HeaderValue::from_bytes(cookie.as_bytes()).unwrap());
        }
        CookieAttributes::hardened().apply(&mut headers, false);
        let cookies: Vec<_> = headers.get_all(SET_COOKIE).iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(cookies, [&b"a=1; SameSite=Lax"[..], b"b=2; SameSite=Strict", "c=\u{e9}; SameSite=Lax".as_bytes()]);
    }
}
