//! CSP nonces (CSP Level 3 §2.3.1), which allow individual inline scripts and styles.

use std::fmt;
use std::sync::Arc;

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// The CSP nonce of a response, as a request extension.
///
/// The layer inserts it if a policy contains `'nonce-{nonce}'`, and replaces that text in the response's policy. The inner
/// service writes the nonce into its `<script nonce="...">` and `<style nonce="...">` elements. A nonce is 128 random bits
/// from the operating system, in hexadecimal.
///
/// Caches inside of this layer must not store pages that contain the nonce, because each response has a policy with a new
/// nonce. The layer therefore also inserts a `fn(&HeaderMap) -> bool` extension, which returns whether a response must not
/// be stored. `rproxy-cache` respects it.
#[derive(Clone, PartialEq, Eq)]
pub struct CspNonce(Arc<str>);

/// The placeholder in a policy to be replaced with the nonce source.
pub(crate) const PLACEHOLDER: &str = "'nonce-{nonce}'";

impl CspNonce {
    /// Creates a CSP nonce from 128 random bits. Returns `None` if the operating system provides no random numbers.
    pub(crate) fn new() -> Option<Self> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).ok()?;
        Some(Self(format!("{:032x}", u128::from_ne_bytes(random)).into()))
    }

    /// Returns the nonce as the value of the `nonce` attribute in HTML.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Sets the request header field `name` to the nonce.
    pub(crate) fn set_field(&self, headers: &mut HeaderMap, name: &HeaderName) {
        // Hexadecimal digits are always a valid header value.
        if let Ok(value) = HeaderValue::from_str(self.as_str()) {
            headers.insert(name, value);
        }
    }

    /// Removes the field `name` that the client sent, including spellings such as `X_CSP_Nonce`.
    pub(crate) fn strip_field(headers: &mut HeaderMap, name: &HeaderName) {
        while let Some(spelling) =
            headers.keys().find(|other| Self::is_spelling_of(other.as_str(), name.as_str())).cloned()
        {
            headers.remove(spelling);
        }
    }

    /// Returns whether applications with CGI-style names take the field `other` for the field `name`.
    #[inline]
    pub(crate) fn is_spelling_of(other: &str, name: &str) -> bool {
        let same = |(byte, other): (u8, u8)| byte == other || byte == b'-' && !other.is_ascii_alphanumeric();
        other.len() == name.len() && name.bytes().zip(other.bytes()).all(same)
    }
}

impl fmt::Display for CspNonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Omits the nonce from the debug output, because it authorizes scripts.
impl fmt::Debug for CspNonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CspNonce(...)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonces_are_unique_hexadecimal_numbers() {
        let (one, other) = (CspNonce::new().unwrap(), CspNonce::new().unwrap());
        assert_ne!(one, other);
        assert!(one.as_str().len() == 32 && one.as_str().bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert!(!format!("{one:?}").contains(one.as_str()));
    }

    #[test]
    fn strips_all_spellings_of_the_nonce_field_but_no_other_field() {
        let name = HeaderName::from_static("x-csp-nonce");
        let spoofed = ["x-csp-nonce", "x_csp_nonce", "x-csp_nonce", "x.csp-nonce"];
        let mut headers: HeaderMap =
            spoofed.iter().map(|name| (name.parse().unwrap(), HeaderValue::from_static("spoofed"))).collect();
        headers.append("x-csp-nonce", HeaderValue::from_static("again"));
        headers.insert("x-csp-nonces", HeaderValue::from_static("other"));
        CspNonce::strip_field(&mut headers, &name);
        assert_eq!(headers.len(), 1);
        assert_eq!(headers["x-csp-nonces"], "other");
    }
}
