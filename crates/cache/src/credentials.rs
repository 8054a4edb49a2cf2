//! Which request fields may tell the origin who the client is.

use http::HeaderMap;
use http::header::{self, HeaderName};

/// Whether a request carries credentials: the response to it may be for this client alone.
pub(crate) fn has_credentials(request: &HeaderMap) -> bool {
    request.keys().any(is_credential)
}

/// Whether the field `name` may carry a credential, by its name.
///
/// `Cookie`, `Authorization` and `Proxy-Authorization` do. For all others there is no registry, and so their names are
/// searched for the words that such fields have in common: `X-Api-Key`, `X-Auth-Token`, `Remote-User`, `Client-Cert`.
/// A name that matches by accident costs hits of responses that say nothing about caching, and nothing else.
pub(crate) fn is_credential(name: &HeaderName) -> bool {
    const WORDS: [&str; 21] = [
        "auth",
        "cookie",
        "token",
        "key",
        "session",
        "secret",
        "user",
        "email",
        "login",
        "passw",
        "credential",
        "cert",
        "signature",
        "jwt",
        "saml",
        "bearer",
        "ticket",
        "identity",
        "account",
        "tenant",
        "client-",
    ];
    // Fields that clients send to everybody, and those of proxies, which say nothing of an account.
    if *name == header::USER_AGENT || name.as_str().starts_with("sec-") || *name == CLIENT_IP {
        return false;
    }
    // RFC 9449 §4.1, and the usual names of session ids: too short to search other names for them.
    if matches!(name.as_str(), "dpop" | "sid" | "x-sid") {
        return true;
    }
    WORDS.iter().any(|word| name.as_str().contains(word))
}

const CLIENT_IP: HeaderName = HeaderName::from_static("true-client-ip");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_known_by_their_names() {
        for name in [
            "authorization",
            "proxy-authorization",
            "cookie",
            "x-api-key",
            "apikey",
            "ocp-apim-subscription-key",
            "x-auth-token",
            "x-access-token",
            "x-session-id",
            "x-amz-security-token",
            "remote-user",
            "x-forwarded-user",
            "x-forwarded-email",
            "x-auth-request-groups",
            "client-cert",
            "x-ssl-client-dn",
            "x-goog-iap-jwt-assertion",
            "dpop",
            "sid",
            "x-sid",
        ] {
            assert!(is_credential(&HeaderName::from_static(name)), "{name}");
        }
        for name in [
            "host",
            "accept",
            "accept-encoding",
            "accept-language",
            "user-agent",
            "referer",
            "origin",
            "range",
            "if-none-match",
            "cache-control",
            "connection",
            "sec-fetch-user",
            "sec-ch-ua",
            "sec-websocket-key",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-real-ip",
            "x-request-id",
            "true-client-ip",
            "forwarded",
            "via",
            "traceparent",
            "dnt",
            "priority",
            "upgrade-insecure-requests",
        ] {
            assert!(!is_credential(&HeaderName::from_static(name)), "{name}");
        }
    }
}
