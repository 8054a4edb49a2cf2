//! The outcome of the cache for a request, as a response extension and as a member of `Cache-Status` (RFC 9211).

use std::fmt;

use bytes::{BufMut, BytesMut};
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, StatusCode};

pub(crate) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// The outcome of the cache for a request, as a response extension. It is absent if the cache does not apply to the
/// request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CacheStatus {
    /// A fresh stored response was served.
    Hit,
    /// A stale stored response was served because the client or the origin allows it.
    Stale,
    /// A stale stored response was served because the origin failed.
    StaleIfError,
    /// A stored response was served after the origin validated it with a 304 response.
    Revalidated,
    /// The response to a concurrent request for the same resource was served (request coalescing).
    Coalesced,
    /// The request was forwarded to the inner service for the given reason.
    Forwarded(ForwardReason),
    /// A 504 response was generated: the request has `only-if-cached` and no usable response is stored. The response is
    /// 504.
    OnlyIfCached,
}

/// The reason that a request was forwarded: a value of the `fwd` parameter (RFC 9211 §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ForwardReason {
    /// The request cannot be served from the cache, for example because of `If-Match` or `no-store`.
    Bypass,
    /// Responses to requests with this method are never served from the cache.
    Method,
    /// No response is stored for this URI.
    UriMiss,
    /// Responses are stored for this URI, but none matches the request fields listed in `Vary`.
    VaryMiss,
    /// Only a part of the response is stored, and the request needs bytes outside of that part.
    Partial,
    /// The stored response is fresh, but the client's `Cache-Control` requires a newer one.
    Request,
    /// The stored response is stale and must be validated.
    Stale,
}

impl CacheStatus {
    /// Returns whether a stored or coalesced response was served without a request to the origin.
    ///
    /// A stale response can start a validation in the background, which many requests share.
    #[must_use]
    pub fn is_hit(self) -> bool {
        match self {
            Self::Hit | Self::Stale | Self::Coalesced => true,
            Self::StaleIfError | Self::Revalidated | Self::Forwarded(_) | Self::OnlyIfCached => false,
        }
    }

    /// Returns the name of this outcome for log lines and metric labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale | Self::StaleIfError => "stale",
            Self::Revalidated => "revalidated",
            // The name of the parameter in RFC 9211 §2.6.
            Self::Coalesced => "collapsed",
            Self::Forwarded(ForwardReason::Bypass | ForwardReason::Method) => "bypass",
            Self::Forwarded(ForwardReason::UriMiss | ForwardReason::VaryMiss | ForwardReason::Partial) => "miss",
            Self::Forwarded(ForwardReason::Request | ForwardReason::Stale) => "expired",
            Self::OnlyIfCached => "only-if-cached",
        }
    }
}

impl fmt::Display for CacheStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl ForwardReason {
    fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Partial => "partial",
            Self::Request => "request",
            Self::Stale => "stale",
        }
    }
}

/// A member of the `Cache-Status` field that describes this cache.
pub(crate) struct Member {
    text: BytesMut,
}

impl Member {
    fn new(parameter: &'static str) -> Self {
        let mut text = BytesMut::with_capacity(64);
        text.put_slice(b"rproxy; ");
        text.put_slice(parameter.as_bytes());
        Self { text }
    }

    pub(crate) fn hit() -> Self {
        Self::new("hit")
    }

    pub(crate) fn forwarded(reason: ForwardReason) -> Self {
        let mut member = Self::new("fwd=");
        member.text.put_slice(reason.as_str().as_bytes());
        member
    }

    /// Adds the status code of the origin's response, if the client gets a different one (RFC 9211 §2.3).
    pub(crate) fn forward_status(mut self, status: StatusCode) -> Self {
        self.text.put_slice(b"; fwd-status=");
        self.text.put_slice(status.as_str().as_bytes());
        self
    }

    pub(crate) fn ttl(mut self, ttl: i64) -> Self {
        self.text.put_slice(b"; ttl=");
        if ttl < 0 {
            self.text.put_u8(b'-');
        }
        put_number(&mut self.text, ttl.unsigned_abs());
        self
    }

    pub(crate) fn stored_if(mut self, is_stored: bool) -> Self {
        if is_stored {
            self.text.put_slice(b"; stored");
        }
        self
    }

    /// Adds the `collapsed` parameter: a concurrent request fetched the response (RFC 9211 §2.6).
    pub(crate) fn coalesced(mut self) -> Self {
        self.text.put_slice(b"; collapsed");
        self
    }

    pub(crate) fn detail(mut self, detail: &'static str) -> Self {
        self.text.put_slice(b"; detail=");
        self.text.put_slice(detail.as_bytes());
        self
    }

    /// Returns the member as a `Cache-Status` field value.
    pub(crate) fn into_value(self) -> HeaderValue {
        value(self.text)
    }

    /// Returns a `Cache-Status` value that lists caches closer to the origin before this member.
    pub(crate) fn appended_to(self, others: Option<&HeaderValue>) -> HeaderValue {
        let Some(others) = others else {
            return self.into_value();
        };
        let mut list = BytesMut::with_capacity(others.len() + 2 + self.text.len());
        list.put_slice(others.as_bytes());
        list.put_slice(b", ");
        list.put_slice(&self.text);
        value(list)
    }
}

/// Adds the cache key to the last member of `Cache-Status`, which belongs to this cache (RFC 9211 §2.7).
pub(crate) fn append_key(headers: &mut HeaderMap, key: &str) {
    let values = headers.get_all(CACHE_STATUS).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>();
    if values.is_empty() {
        return;
    }
    let mut text = BytesMut::from(&*values.join(&b", "[..]));
    text.put_slice(b"; key=\"");
    for byte in key.bytes() {
        // RFC 9651 §4.1.6: a string contains visible ASCII and spaces only.
        match byte {
            b'"' | b'\\' => text.put_slice(&[b'\\', byte]),
            0x20..0x7f => text.put_u8(byte),
            _ => text.put_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    text.put_u8(b'"');
    headers.insert(CACHE_STATUS, value(text));
}

/// Formats a number as a field value, without allocating a `String`.
pub(crate) fn number_value(number: u64) -> HeaderValue {
    let mut text = BytesMut::with_capacity(20);
    put_number(&mut text, number);
    value(text)
}

fn value(text: BytesMut) -> HeaderValue {
    HeaderValue::from_maybe_shared(text.freeze()).unwrap_or(HeaderValue::from_static("rproxy"))
}

fn put_number(text: &mut BytesMut, mut number: u64) {
    let mut digits = [0_u8; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    text.put_slice(&digits[first..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_status_members_are_valid_structured_fields() {
        // RFC 9211 §2
        let others = HeaderValue::from_static("Origin; hit");
        for (member, others, expected) in [
            (Member::hit().ttl(376), None, "rproxy; hit; ttl=376"),
            (Member::hit().ttl(-412).detail("max-stale"), None, "rproxy; hit; ttl=-412; detail=max-stale"),
            (Member::forwarded(ForwardReason::UriMiss).stored_if(true), None, "rproxy; fwd=uri-miss; stored"),
            (
                Member::forwarded(ForwardReason::Stale).forward_status(StatusCode::NOT_MODIFIED),
                Some(&others),
                "Origin; hit, rproxy; fwd=stale; fwd-status=304",
            ),
            (Member::hit().ttl(i64::MIN), None, "rproxy; hit; ttl=-9223372036854775808"),
        ] {
            assert_eq!(member.appended_to(others), expected);
        }
    }

    #[test]
    fn cache_status_contains_the_cache_key_as_a_quoted_string() {
        // RFC 9211 §2.7
        let fields = |lines: &[&'static str]| {
            lines.iter().map(|line| (CACHE_STATUS, HeaderValue::from_static(line))).collect::<HeaderMap>()
        };
        for (before, key, after) in [
            (&["rproxy; hit"][..], "http://a/b?c", Some("rproxy; hit; key=\"http://a/b?c\"")),
            (&["A; hit", "rproxy; hit"], "http://a/\"\\", Some("A; hit, rproxy; hit; key=\"http://a/\\\"\\\\\"")),
            (&["rproxy; hit"], "http://a/\u{e9}", Some("rproxy; hit; key=\"http://a/%C3%A9\"")),
            (&[], "k", None),
        ] {
            let mut headers = fields(before);
            append_key(&mut headers, key);
            assert_eq!(headers.get(CACHE_STATUS).map(|value| value.to_str().unwrap()), after);
            assert!(headers.get_all(CACHE_STATUS).iter().count() <= 1);
        }
    }

    #[test]
    fn numeric_field_values_contain_all_digits() {
        for n in [0, 9, 10, 1_234_567_890, u64::MAX] {
            assert_eq!(number_value(n).to_str().unwrap(), n.to_string());
        }
    }
}
