//! `Set-Cookie` (RFC 6265bis): attributes that an application left out.

use http::HeaderValue;
use http::header::{Entry, HeaderMap, SET_COOKIE};

/// What is added to cookies that say nothing of it. What the application says stays.
///
/// ```
/// use rproxy_security_headers::{Cookies, SecurityHeadersLayer};
///
/// let layer = SecurityHeadersLayer::recommended().cookies(Cookies::hardened().http_only(true));
/// # let _ = layer;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Cookies {
    secure: bool,
    same_site: bool,
    http_only: bool,
}

impl Cookies {
    /// `Secure` over TLS, and `SameSite=Lax`, which most browsers take for granted.
    pub const fn hardened() -> Self {
        Self { secure: true, same_site: true, http_only: false }
    }

    /// Whether to add `Secure` to cookies that are set over TLS.
    pub const fn secure(self, add: bool) -> Self {
        Self { secure: add, ..self }
    }

    /// Whether to add `SameSite=Lax`.
    pub const fn same_site(self, add: bool) -> Self {
        Self { same_site: add, ..self }
    }

    /// Whether to add `HttpOnly`. Scripts of the page can't read such a cookie any more, and some have to: many
    /// frameworks hand out their token against forged requests in one.
    pub const fn http_only(self, add: bool) -> Self {
        Self { http_only: add, ..self }
    }

    pub(crate) fn apply(self, headers: &mut HeaderMap, is_https: bool) {
        // A map that can't be asked holds no cookie.
        if let Ok(Entry::Occupied(mut cookies)) = headers.try_entry(SET_COOKIE) {
            for cookie in cookies.iter_mut() {
                if let Some(hardened) = self.harden(cookie.as_bytes(), is_https) {
                    *cookie = hardened;
                }
            }
        }
    }

    /// The cookie with what it lacks; `None` if that is nothing.
    fn harden(self, cookie: &[u8], is_https: bool) -> Option<HeaderValue> {
        let has = |name: &str| {
            // RFC 6265bis §5.6: the first is the pair, the names of the others have no case.
            let mut attributes = cookie.split(|&byte| byte == b';').skip(1);
            attributes.any(|attribute| {
                let found = attribute.split(|&byte| byte == b'=').next().unwrap_or_default();
                found.trim_ascii().eq_ignore_ascii_case(name.as_bytes())
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
        // A value and words make a value.
        HeaderValue::from_bytes(&hardened).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_gets_what_it_lacks_and_keeps_what_it_says() {
        let all = Cookies::hardened().http_only(true);
        for (cookies, is_https, cookie, expected) in [
            (Cookies::hardened(), true, "a=b", Some("a=b; Secure; SameSite=Lax")),
            (Cookies::hardened(), false, "a=b; Path=/", Some("a=b; Path=/; SameSite=Lax")),
            (Cookies::hardened(), true, "a=b; secure; SAMESITE = None", None),
            (Cookies::hardened(), true, "secure=samesite", Some("secure=samesite; Secure; SameSite=Lax")),
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
    fn each_cookie_is_seen_to() {
        let mut headers = HeaderMap::new();
        for cookie in ["a=1", "b=2; SameSite=Strict", "c=\u{e9}"] {
            headers.append(SET_COOKIE, HeaderValue::from_bytes(cookie.as_bytes()).unwrap());
        }
        Cookies::hardened().apply(&mut headers, false);
        let cookies: Vec<_> = headers.get_all(SET_COOKIE).iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(cookies, [&b"a=1; SameSite=Lax"[..], b"b=2; SameSite=Strict", "c=\u{e9}; SameSite=Lax".as_bytes()]);
    }
}
