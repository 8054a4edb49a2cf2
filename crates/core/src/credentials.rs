//! Request fields that can identify the client, for layers that treat the responses to such requests as private.

use http::HeaderMap;
use http::header::{self, HeaderName};

/// Whether a request contains credentials, so that its response may be specific to the client.
#[must_use]
pub fn has_credentials(request: &HeaderMap) -> bool {
    request.keys().any(is_credential)
}

/// Whether the name of a field indicates that its value is a credential.
///
/// `Cookie`, `Authorization` and `Proxy-Authorization` are known. There is no registry of other fields, so their names
/// are searched for words that such fields have in common: `X-Api-Key`, `X-Auth-Token`, `Remote-User`, `Client-Cert`. A
/// name that matches by accident only costs hits of responses without caching fields.
#[must_use]
pub fn is_credential(name: &HeaderName) -> bool {
    // These fields do not identify an account: all clients send them, or a proxy does.
    if *name == header::USER_AGENT || name.as_str().starts_with("sec-") || *name == CLIENT_IP {
        return false;
    }
    // RFC 9449 §4.1, and common names of session IDs. They are too short to search other names for them.
    if matches!(name.as_str(), "dpop" | "sid" | "x-sid") {
        return true;
    }
    let name = name.as_str().as_bytes();
    (0..name.len()).any(|start| starts_with_credential_word(&name[start..]))
}

/// Whether a part of a field name starts with a word that names of credentials have in common.
fn starts_with_credential_word(part: &[u8]) -> bool {
    // By the first letter, because all names of each request are searched.
    let words: &[&str] = match part.first() {
        Some(b'a') => &["auth", "account"],
        Some(b'b') => &["bearer"],
        Some(b'c') => &["cookie", "credential", "cert", "client-"],
        Some(b'e') => &["email"],
        Some(b'i') => &["identity"],
        Some(b'j') => &["jwt"],
        Some(b'k') => &["key"],
        Some(b'l') => &["login"],
        Some(b'p') => &["passw"],
        Some(b's') => &["session", "secret", "signature", "saml"],
        Some(b't') => &["token", "ticket", "tenant"],
        Some(b'u') => &["user"],
        _ => &[],
    };
    words.iter().any(|word| part.starts_with(word.as_bytes()))
}

const CLIENT_IP: HeaderName = HeaderName::from_static("true-client-ip");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognises_credential_fields_by_name() {
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
