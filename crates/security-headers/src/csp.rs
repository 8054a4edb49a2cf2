//! `Content-Security-Policy` (CSP Level 3).

mod builder;
mod directive;
mod source;

use http::HeaderValue;

pub use self::builder::{ContentSecurityPolicyBuilder, CspError};
pub use self::directive::{CspDirective, SandboxFlag};
pub use self::source::{CspSource, CspSourceText};
use crate::nonce::{CspNonce, PLACEHOLDER};

/// A Content Security Policy (CSP Level 3), created from text or with a [builder](Self::builder).
///
/// In text, any sequence of white space becomes one space, so that a policy may have several lines. The text
/// `'nonce-{nonce}'` is replaced by a new [nonce](CspNonce) for each response.
///
/// # Examples
///
/// ```
/// use rproxy_security_headers::ContentSecurityPolicy;
///
/// let policy = ContentSecurityPolicy::from(
///     "default-src 'self';
///      img-src *;",
/// );
/// assert_eq!(policy.header_value(), "default-src 'self'; img-src *;");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentSecurityPolicy {
    value: HeaderValue,
    has_nonce: bool,
}

impl ContentSecurityPolicy {
    /// Returns a builder for a policy that consists of typed directives and sources.
    ///
    /// The builder rejects policies that browsers would ignore.
    pub fn builder() -> ContentSecurityPolicyBuilder {
        ContentSecurityPolicyBuilder::default()
    }

    /// Returns the policy as a field value, with the placeholder `{nonce}` instead of a nonce.
    pub fn header_value(&self) -> &HeaderValue {
        &self.value
    }

    /// Returns whether the policy contains a placeholder for a nonce.
    pub fn has_nonce(&self) -> bool {
        self.has_nonce
    }
}

impl From<&str> for ContentSecurityPolicy {
    fn from(text: &str) -> Self {
        let is_separator = |c: char| c.is_whitespace() || c.is_control();
        let words: Vec<&str> = text.split(is_separator).filter(|word| !word.is_empty()).collect();
        // Always valid: text without control characters is a header value (RFC 9110 §5.5).
        let value = HeaderValue::from_bytes(words.join(" ").as_bytes()).unwrap_or(HeaderValue::from_static(""));
        Self::from(value)
    }
}

impl From<String> for ContentSecurityPolicy {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<HeaderValue> for ContentSecurityPolicy {
    fn from(value: HeaderValue) -> Self {
        let has_nonce = has_placeholder(&value);
        Self { value, has_nonce }
    }
}

pub(crate) fn has_placeholder(value: &HeaderValue) -> bool {
    value.as_bytes().windows(PLACEHOLDER.len()).any(|window| window == PLACEHOLDER.as_bytes())
}

/// Replaces the nonce placeholders in a policy with the nonce.
///
/// Without a nonce, the placeholders are removed, so that the policy allows less.
pub(crate) fn insert_nonce(policy: &HeaderValue, nonce: Option<&CspNonce>) -> HeaderValue {
    let source = nonce.map(|nonce| format!("'nonce-{nonce}'")).unwrap_or_default();
    let mut filled = Vec::with_capacity(policy.len() + source.len());
    let mut rest = policy.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        match rest.strip_prefix(PLACEHOLDER.as_bytes()) {
            Some(after) => {
                filled.extend_from_slice(source.as_bytes());
                rest = after;
            }
            None => {
                filled.push(byte);
                rest = after;
            }
        }
    }
    // Always valid: ASCII was inserted into a valid value.
    HeaderValue::try_from(filled).unwrap_or_else(|_| policy.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn replaces_every_nonce_placeholder_in_a_policy() {
        let nonce = CspNonce::new().unwrap();
        for (policy, has_nonce, filled, without) in [
            ("default-src 'self'", false, "default-src 'self'".to_owned(), "default-src 'self'"),
            ("script-src 'nonce-{nonce}'", true, format!("script-src 'nonce-{nonce}'"), "script-src "),
            (
                "script-src 'nonce-{nonce}' a; style-src 'nonce-{nonce}'",
                true,
                format!("script-src 'nonce-{nonce}' a; style-src 'nonce-{nonce}'"),
                "script-src  a; style-src ",
            ),
            ("script-src {nonce}", false, "script-src {nonce}".to_owned(), "script-src {nonce}"),
        ] {
            let policy = ContentSecurityPolicy::from(policy);
            assert_eq!(policy.has_nonce(), has_nonce);
            assert_eq!(insert_nonce(policy.header_value(), Some(&nonce)), filled);
            assert_eq!(insert_nonce(policy.header_value(), None), without);
        }
    }

    proptest! {
        #[test]
        fn normalises_white_space_in_csp_text_to_single_spaces(text in any::<String>()) {
            let words = |text: &str| -> Vec<String> {
                text.split(|c: char| c.is_whitespace() || c.is_control())
                    .filter(|word| !word.is_empty())
                    .map(str::to_owned)
                    .collect()
            };
            let policy = ContentSecurityPolicy::from(text.as_str());
            let sent = std::str::from_utf8(policy.header_value().as_bytes()).unwrap();
            prop_assert_eq!(words(sent), words(&text));
            prop_assert!(!sent.contains("  ") && sent.trim() == sent);
        }
    }
}
