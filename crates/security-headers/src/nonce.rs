//! Nonces (CSP Level 3 §2.3.1): which inline scripts and styles are the page's own.

use std::fmt;
use std::sync::Arc;

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Request extension: what `'nonce-{nonce}'` in the policy of the response will be, for the application to write into
/// its `<script nonce="...">` and `<style nonce="...">`. There only where a policy wants it.
///
/// 128 random bits from the operating system, in hexadecimal. A page that has it in it must not be stored
/// by caches inside of this layer: its next reader gets another policy. `rproxy-cache` does not store documents of requests
/// with a nonce; it knows them by a request extension, a `fn(&HeaderMap) -> bool` that this layer inserts beside the nonce.
#[derive(Clone, PartialEq, Eq)]
pub struct CspNonce(Arc<str>);

/// Stands in a policy for the source that the nonce becomes.
pub(crate) const PLACEHOLDER: &str = "'nonce-{nonce}'";

impl CspNonce {
    /// `None` where the operating system has no random numbers to give.
    pub(crate) fn new() -> Option<Self> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).ok()?;
        Some(Self(format!("{:032x}", u128::from_ne_bytes(random)).into()))
    }

    /// As the attribute carries it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Sets the request field `name` to the nonce.
    pub(crate) fn set_field(&self, headers: &mut HeaderMap, name: &HeaderName) {
        // Hexadecimal digits are always a header value.
        if let Ok(value) = HeaderValue::from_str(self.as_str()) {
            headers.insert(name, value);
        }
    }

    /// Removes the field `name` of a client, in any spelling that an application could take for it.
    pub(crate) fn strip_field(headers: &mut HeaderMap, name: &HeaderName) {
        let is_alike = |other: &HeaderName| {
            let same = |(byte, other): (u8, u8)| byte == other || byte == b'-' && !other.is_ascii_alphanumeric();
            other.as_str().len() == name.as_str().len() && name.as_str().bytes().zip(other.as_str().bytes()).all(same)
        };
        while let Some(alike) = headers.keys().find(|other| is_alike(other)).cloned() {
            headers.remove(alike);
        }
    }
}

impl fmt::Display for CspNonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whoever knows it in time may run scripts.
impl fmt::Debug for CspNonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CspNonce(...)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_new_and_fit_for_a_policy() {
        let (one, other) = (CspNonce::new().unwrap(), CspNonce::new().unwrap());
        assert_ne!(one, other);
        assert!(one.as_str().len() == 32 && one.as_str().bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert!(!format!("{one:?}").contains(one.as_str()));
    }

    #[test]
    fn strips_every_spelling_of_the_field_and_no_other() {
        let name = HeaderName::from_static("x-csp-nonce");
        let claims = ["x-csp-nonce", "x_csp_nonce", "x-csp_nonce", "x.csp-nonce"];
        let mut headers: HeaderMap =
            claims.iter().map(|claim| (claim.parse().unwrap(), HeaderValue::from_static("claimed"))).collect();
        headers.append("x-csp-nonce", HeaderValue::from_static("again"));
        headers.insert("x-csp-nonces", HeaderValue::from_static("other"));
        CspNonce::strip_field(&mut headers, &name);
        assert_eq!(headers.len(), 1);
        assert_eq!(headers["x-csp-nonces"], "other");
    }
}
