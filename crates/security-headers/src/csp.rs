//! `Content-Security-Policy`, as text that is fit for a header.

use http::HeaderValue;

/// A policy (CSP Level 3 §2.2), made from text. It may be written over several lines: white space
/// of any kind and length is one space in the header.
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
pub struct ContentSecurityPolicy(HeaderValue);

impl ContentSecurityPolicy {
    /// As a header carries it.
    pub fn header_value(&self) -> &HeaderValue {
        &self.0
    }
}

impl From<&str> for ContentSecurityPolicy {
    fn from(text: &str) -> Self {
        let is_gap = |c: char| c.is_whitespace() || c.is_control();
        let words: Vec<&str> = text.split(is_gap).filter(|word| !word.is_empty()).collect();
        // Without control characters, any bytes are a header value (RFC 9110 §5.5).
        Self(HeaderValue::from_bytes(words.join(" ").as_bytes()).unwrap_or(HeaderValue::from_static("")))
    }
}

impl From<String> for ContentSecurityPolicy {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<HeaderValue> for ContentSecurityPolicy {
    fn from(value: HeaderValue) -> Self {
        Self(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_keeps_its_words_and_nothing_else(text in any::<String>()) {
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
