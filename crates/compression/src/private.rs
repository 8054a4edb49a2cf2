//! Recognises responses that are for one user, whose compressed size can disclose a secret (BREACH).

use std::time::SystemTime;

use http::header::{AUTHORIZATION, CACHE_CONTROL, EXPIRES, SET_COOKIE, VARY};
use http::{HeaderMap, HeaderName, Request, Response};
use rproxy_core::credentials::{has_credentials, is_credential};
use rproxy_core::{Authenticated, PublicContent};

/// The credentials of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Credentials {
    #[default]
    None,
    /// A cookie, a key of an API, a client certificate, or another field that can identify the client.
    Field,
    /// `Authorization`, or a layer has authenticated the client.
    Authorization,
}

impl Credentials {
    /// Returns the strongest credentials of a request.
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        let headers = request.headers();
        if headers.contains_key(AUTHORIZATION) || request.extensions().get::<Authenticated>().is_some() {
            return Self::Authorization;
        }
        if has_credentials(headers) { Self::Field } else { Self::None }
    }
}

/// Returns whether a response to a request with these credentials can contain data of its user.
///
/// The answer is yes unless the response says that other users get the same content.
pub(crate) fn is_private<B>(credentials: Credentials, response: &Response<B>) -> bool {
    response.extensions().get::<PublicContent>().is_none() && is_private_by_fields(credentials, response.headers())
}

fn is_private_by_fields(credentials: Credentials, headers: &HeaderMap) -> bool {
    let (mut is_public, mut is_for_one_user) = (credentials == Credentials::None, false);
    for (name, value) in headers {
        match *name {
            SET_COOKIE => is_for_one_user = true,
            VARY => is_for_one_user |= members(value.as_bytes()).any(names_credentials),
            CACHE_CONTROL => {
                for directive in members(value.as_bytes()) {
                    is_for_one_user |= is_named(directive, b"private") || is_named(directive, b"no-store");
                    is_public |= is_shared(directive, credentials);
                }
            }
            EXPIRES => is_public |= credentials == Credentials::Field && is_later(value.as_bytes()),
            _ => {}
        }
    }
    is_for_one_user || !is_public
}

fn members(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

/// Returns whether a member of `Vary` selects responses by user.
fn names_credentials(member: &[u8]) -> bool {
    member == b"*" || HeaderName::from_bytes(member).is_ok_and(|name| is_credential(&name))
}

/// Returns whether a date is in the future.
fn is_later(date: &[u8]) -> bool {
    let date = std::str::from_utf8(date).ok().and_then(|date| httpdate::parse_http_date(date).ok());
    date.is_some_and(|date| date > SystemTime::now())
}

/// Returns whether a cache directive allows a shared cache to send the response to other users (RFC 9111 §3 and §3.5).
fn is_shared(directive: &[u8], credentials: Credentials) -> bool {
    let is_positive = |name| argument(directive, name).is_some_and(|seconds| seconds.iter().any(|&byte| byte != b'0'));
    is_named(directive, b"public")
        || is_named(directive, b"immutable")
        || is_positive(b"s-maxage")
        || credentials == Credentials::Authorization && is_named(directive, b"must-revalidate")
        || credentials == Credentials::Field && is_positive(b"max-age")
}

/// Returns whether a cache directive has this name. Its argument is not considered.
fn is_named(directive: &[u8], name: &[u8]) -> bool {
    let length = directive.iter().position(|&byte| byte == b'=').unwrap_or(directive.len());
    directive[..length].trim_ascii_end().eq_ignore_ascii_case(name)
}

/// Returns the argument of a cache directive with this name, if it is a number.
fn argument<'a>(directive: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let at = directive.iter().position(|&byte| byte == b'=')?;
    let is_number = |text: &&[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    // A quoted number is invalid, and caches accept it.
    let unquoted = |text: &'a [u8]| text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(text);
    is_named(directive, name).then(|| unquoted(directive[at + 1..].trim_ascii())).filter(is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn response_to_a_request_with_credentials_is_private_unless_it_is_shared() {
        use Credentials::{Authorization, Field, None};
        for (fields, is_private_for) in [
            (&[][..], &[Field, Authorization][..]),
            (&[("cache-control", "no-cache")], &[Field, Authorization]),
            (&[("cache-control", "max-age=0, must-revalidate")], &[Field]),
            (&[("cache-control", "max-age=\"60\"")], &[Authorization]),
            (&[("expires", "Fri, 01 Jan 2100 00:00:00 GMT")], &[Authorization]),
            (&[("expires", "Thu, 01 Jan 1970 00:00:00 GMT")], &[Field, Authorization]),
            (&[("expires", "0")], &[Field, Authorization]),
            (&[("cache-control", "max-age=x")], &[Field, Authorization]),
            (&[("cache-control", "max-age=60")], &[Authorization]),
            (&[("cache-control", "Public, max-age=0")], &[]),
            (&[("cache-control", "no-cache"), ("cache-control", "s-maxage = 60")], &[]),
            (&[("cache-control", "s-maxage=00")], &[Field, Authorization]),
            (&[("cache-control", "immutable")], &[]),
            (&[("vary", "accept-encoding, origin")], &[Field, Authorization]),
            (&[("vary", "accept-encoding, Cookie"), ("cache-control", "public")], &[None, Field, Authorization]),
            (&[("vary", "x-api-key"), ("cache-control", "public")], &[None, Field, Authorization]),
            (&[("vary", "*")], &[None, Field, Authorization]),
            (&[("cache-control", "private=\"set-cookie\"")], &[None, Field, Authorization]),
            (&[("cache-control", "public, no-store")], &[None, Field, Authorization]),
            (&[("set-cookie", "a=1"), ("cache-control", "public")], &[None, Field, Authorization]),
        ] {
            for credentials in [None, Field, Authorization] {
                let expected = is_private_for.contains(&credentials);
                assert_eq!(is_private_by_fields(credentials, &headers(fields)), expected, "{credentials:?} {fields:?}");
            }
        }
    }

    #[test]
    fn authenticated_request_has_credentials() {
        let mut request = Request::new(());
        assert_eq!(Credentials::of(&request), Credentials::None);
        request.headers_mut().insert("cookie", "a=1".parse().unwrap());
        assert_eq!(Credentials::of(&request), Credentials::Field);
        let of = |name: &str| Credentials::of(&Request::builder().header(name, "1").body(()).unwrap());
        assert_eq!(
            (of("x-api-key"), of("client-cert"), of("accept")),
            (Credentials::Field, Credentials::Field, Credentials::None)
        );
        request.extensions_mut().insert(Authenticated::new());
        assert_eq!(Credentials::of(&request), Credentials::Authorization);
        let request = Request::builder().header("authorization", "Bearer a").body(()).unwrap();
        assert_eq!(Credentials::of(&request), Credentials::Authorization);
    }

    #[test]
    fn content_that_is_the_same_for_all_clients_is_not_private() {
        let mut response = Response::new(());
        assert!(is_private(Credentials::Field, &response));
        response.extensions_mut().insert(PublicContent);
        assert!(!is_private(Credentials::Field, &response));
    }
}
