//! What the cache did, for logs and metrics and as a `Cache-Status` member (RFC 9211).

use std::fmt;

use bytes::{BufMut, BytesMut};
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, StatusCode};

pub(crate) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Response extension: what the cache did with the request. Absent where the cache does not apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CacheStatus {
    /// Answered from the store, fresh.
    Hit,
    /// Answered from the store though stale: the client or the origin allowed it, or the origin could
    /// not be reached.
    Stale,
    /// Answered from the store after the origin confirmed it with a 304.
    Revalidated,
    /// Answered by the inner service, together with another request for the same.
    Collapsed,
    /// Answered by the inner service, for this reason.
    Forwarded(Forwarded),
    /// `only-if-cached`, and nothing usable is stored: a 504.
    OnlyIfCached,
}

/// Why a request was forwarded: the `fwd` values of RFC 9211 §2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Forwarded {
    /// The request is not one for a cache: it has content, a precondition for the origin, or
    /// `no-store`.
    Bypass,
    /// The method is not served from a cache.
    Method,
    /// Nothing is stored under this URI.
    UriMiss,
    /// Something is stored, but none of it for these request fields.
    VaryMiss,
    /// Only a part is stored, and other bytes or all of them are asked for.
    Partial,
    /// The stored response is fresh, but the client wants a newer one.
    Request,
    /// The stored response is stale.
    Stale,
}

impl CacheStatus {
    /// A word for a log line or a metric's label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Revalidated => "revalidated",
            Self::Collapsed => "collapsed",
            Self::Forwarded(Forwarded::Bypass | Forwarded::Method) => "bypass",
            Self::Forwarded(Forwarded::UriMiss | Forwarded::VaryMiss | Forwarded::Partial) => "miss",
            Self::Forwarded(Forwarded::Request | Forwarded::Stale) => "expired",
            Self::OnlyIfCached => "only-if-cached",
        }
    }
}

impl fmt::Display for CacheStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Forwarded {
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

/// One member of the `Cache-Status` list, behind those of caches nearer to the origin.
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

    pub(crate) fn forwarded(reason: Forwarded) -> Self {
        let mut member = Self::new("fwd=");
        member.text.put_slice(reason.as_str().as_bytes());
        member
    }

    /// RFC 9211 §2.3: what the origin answered, where that is not what the client gets.
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

    pub(crate) fn stored_if(mut self, stored: bool) -> Self {
        if stored {
            self.text.put_slice(b"; stored");
        }
        self
    }

    /// RFC 9211 §2.6: another request brought the answer.
    pub(crate) fn collapsed(mut self) -> Self {
        self.text.put_slice(b"; collapsed");
        self
    }

    pub(crate) fn detail(mut self, detail: &'static str) -> Self {
        self.text.put_slice(b"; detail=");
        self.text.put_slice(detail.as_bytes());
        self
    }

    /// The field value, behind the members that caches nearer to the origin have left.
    pub(crate) fn after(self, nearer: Option<&HeaderValue>) -> HeaderValue {
        let text = match nearer {
            None => self.text,
            Some(nearer) => {
                let mut list = BytesMut::with_capacity(nearer.len() + 2 + self.text.len());
                list.put_slice(nearer.as_bytes());
                list.put_slice(b", ");
                list.put_slice(&self.text);
                list
            }
        };
        value(text)
    }
}

/// Adds the key to the last member, which is ours: RFC 9211 §2.7.
pub(crate) fn tell_key(headers: &mut HeaderMap, key: &str) {
    let lines = headers.get_all(CACHE_STATUS).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>();
    if lines.is_empty() {
        return;
    }
    let mut text = BytesMut::from(&*lines.join(&b", "[..]));
    text.put_slice(b"; key=\"");
    for byte in key.bytes() {
        // RFC 9651 §4.1.6: a string has no other than visible ASCII in it.
        match byte {
            b'"' | b'\\' => text.put_slice(&[b'\\', byte]),
            0x20..0x7f => text.put_u8(byte),
            _ => text.put_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    text.put_u8(b'"');
    headers.insert(CACHE_STATUS, value(text));
}

/// A number as a field value, without the detour over a `String`.
pub(crate) fn number(number: u64) -> HeaderValue {
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
    fn members_are_structured_fields() {
        // RFC 9211 §2
        let nearer = HeaderValue::from_static("Origin; hit");
        for (member, nearer, expected) in [
            (Member::hit().ttl(376), None, "rproxy; hit; ttl=376"),
            (Member::hit().ttl(-412).detail("max-stale"), None, "rproxy; hit; ttl=-412; detail=max-stale"),
            (Member::forwarded(Forwarded::UriMiss).stored_if(true), None, "rproxy; fwd=uri-miss; stored"),
            (
                Member::forwarded(Forwarded::Stale).forward_status(StatusCode::NOT_MODIFIED),
                Some(&nearer),
                "Origin; hit, rproxy; fwd=stale; fwd-status=304",
            ),
            (Member::hit().ttl(i64::MIN), None, "rproxy; hit; ttl=-9223372036854775808"),
        ] {
            assert_eq!(member.after(nearer), expected);
        }
    }

    #[test]
    fn the_key_goes_into_our_member_as_a_string() {
        // RFC 9211 §2.7
        let lines = |lines: &[&'static str]| {
            lines.iter().map(|line| (CACHE_STATUS, HeaderValue::from_static(line))).collect::<HeaderMap>()
        };
        for (before, key, after) in [
            (&["rproxy; hit"][..], "http://a/b?c", Some("rproxy; hit; key=\"http://a/b?c\"")),
            (&["A; hit", "rproxy; hit"], "http://a/\"\\", Some("A; hit, rproxy; hit; key=\"http://a/\\\"\\\\\"")),
            (&["rproxy; hit"], "http://a/\u{e9}", Some("rproxy; hit; key=\"http://a/%C3%A9\"")),
            (&[], "k", None),
        ] {
            let mut headers = lines(before);
            tell_key(&mut headers, key);
            assert_eq!(headers.get(CACHE_STATUS).map(|value| value.to_str().unwrap()), after);
            assert!(headers.get_all(CACHE_STATUS).iter().count() <= 1);
        }
    }

    #[test]
    fn numbers_are_written_whole() {
        for n in [0, 9, 10, 1_234_567_890, u64::MAX] {
            assert_eq!(number(n).to_str().unwrap(), n.to_string());
        }
    }
}
