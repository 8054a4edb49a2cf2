//! Recognises responses that are for one user, whose compressed size can disclose a secret (BREACH).

use http::header::{AUTHORIZATION, CACHE_CONTROL, COOKIE, SET_COOKIE, VARY};
use http::{HeaderMap, Request};
use rproxy_core::Authenticated;

/// The credentials of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Credentials {
    #[default]
    None,
    Cookie,
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
        if headers.contains_key(COOKIE) { Self::Cookie } else { Self::None }
    }
}

/// Returns whether a response to a request with these credentials can contain data of its user.
///
/// The answer is yes unless the response says that other users get the same content.
pub(crate) fn is_private(credentials: Credentials, headers: &HeaderMap) -> bool {
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
    let names: [&[u8]; 3] = [b"*", b"cookie", b"authorization"];
    names.iter().any(|name| member.eq_ignore_ascii_case(name))
}

/// Returns whether a cache directive allows a shared cache to send the response to other users (RFC 9111 §3 and §3.5).
fn is_shared(directive: &[u8], credentials: Credentials) -> bool {
    let is_positive = |name| argument(directive, name).is_some_and(|seconds| seconds.iter().any(|&byte| byte != b'0'));
    is_named(directive, b"public")
        || is_named(directive, b"immutable")
        || is_positive(b"s-maxage")
        || credentials == Credentials::Cookie && is_positive(b"max-age")
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
    is_named(directive, name).then(|| directive[at + 1..].trim_ascii()).filter(is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn response_to_a_request_with_credentials_is_private_unless_it_is_shared() {
        use Credentials::{Authorization, Cookie, None};
        for (fields, is_private_for) in [
            (&[][..], &[Cookie, Authorization][..]),
            (&[("cache-control", "no-cache")], &[Cookie, Authorization]),
            (&[("cache-control", "max-age=0, must-revalidate")], &[Cookie, Authorization]),
            (&[("cache-control", "max-age=x")], &[Cookie, Authorization]),
            (&[("cache-control", "max-age=60")], &[Authorization]),
            (&[("cache-control", "Public, max-age=0")], &[]),
            (&[("cache-control", "no-cache"), ("cache-control", "s-maxage = 60")], &[]),
            (&[("cache-control", "s-maxage=00")], &[Cookie, Authorization]),
            (&[("cache-control", "immutable")], &[]),
            (&[("vary", "accept-encoding, origin")], &[Cookie, Authorization]),
            (&[("vary", "accept-encoding, Cookie"), ("cache-control", "public")], &[None, Cookie, Authorization]),
            (&[("vary", "*")], &[None, Cookie, Authorization]),
            (&[("cache-control", "private=\"set-cookie\"")], &[None, Cookie, Authorization]),
            (&[("cache-control", "public, no-store")], &[None, Cookie, Authorization]),
            (&[("set-cookie", "a=1"), ("cache-control", "public")], &[None, Cookie, Authorization]),
        ] {
            for credentials in [None, Cookie, Authorization] {
                let expected = is_private_for.contains(&credentials);
                assert_eq!(is_private(credentials, &headers(fields)), expected, "{credentials:?} {fields:?}");
            }
        }
    }

    #[test]
    fn authenticated_request_has_credentials() {
        let mut request = Request::new(());
        assert_eq!(Credentials::of(&request), Credentials::None);
        request.headers_mut().insert("cookie", "a=1".parse().unwrap());
        assert_eq!(Credentials::of(&request), Credentials::Cookie);
        request.extensions_mut().insert(Authenticated::new());
        assert_eq!(Credentials::of(&request), Credentials::Authorization);
        let request = Request::builder().header("authorization", "Bearer a").body(()).unwrap();
        assert_eq!(Credentials::of(&request), Credentials::Authorization);
    }
}
