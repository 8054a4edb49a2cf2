//! The name of one request, from its entry to the last log line.

use std::fmt;

use http::HeaderValue;
use uuid::Uuid;

/// Response extension: the `X-Request-Id` that the upstream was sent.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// A new one, which sorts by time (UUIDv7, RFC 9562 §5.7).
    pub(crate) fn new() -> Self {
        let mut text = [0; 36];
        Uuid::now_v7().hyphenated().encode_lower(&mut text);
        // Hexadecimal digits and hyphens are always a header value.
        Self(HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("-")))
    }

    /// What a trusted peer calls the request, if that is fit to be passed on and logged.
    pub(crate) fn from_trusted(value: &HeaderValue) -> Option<Self> {
        let is_fit = value.len() <= LONGEST && !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_graphic);
        is_fit.then(|| Self(value.clone()))
    }

    /// As a header carries it.
    pub fn header_value(&self) -> &HeaderValue {
        &self.0
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        // Visible ASCII, by both constructors.
        self.0.to_str().unwrap_or("-")
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestId({})", self.as_str())
    }
}

const LONGEST: usize = 128;
