//! The request ID, which identifies a request in the logs of the proxy and the backend.

use std::fmt;
use std::time::SystemTime;

use http::{HeaderMap, HeaderValue, Request};
use rproxy_client_ip::TrustedPeer;
use uuid::{Builder, Uuid};

use crate::names::X_REQUEST_ID;
use crate::nearest::last_member;

/// The `X-Request-Id` that the backend received, as a response extension.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// Creates a request ID that sorts by time (UUIDv7, RFC 9562 §5.7).
    pub fn generate() -> Self {
        let mut text = [0; 36];
        uuid_v7().hyphenated().encode_lower(&mut text);
        // Always valid: hexadecimal digits and hyphens.
        Self(HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("-")))
    }

    /// Returns the request ID of a request, if it is valid and was sent by a [trusted peer](TrustedPeer).
    pub fn of_request<B>(request: &Request<B>) -> Option<Self> {
        request.extensions().get::<TrustedPeer>()?;
        Self::of_trusted(request.headers())
    }

    /// Returns the request ID in the header fields of a trusted peer, if it is valid.
    pub(crate) fn of_trusted(headers: &HeaderMap) -> Option<Self> {
        last_member(headers, &X_REQUEST_ID).as_ref().and_then(Self::from_trusted)
    }

    /// Accepts the request ID of a trusted peer if it consists of at most 128 visible ASCII characters.
    pub(crate) fn from_trusted(value: &HeaderValue) -> Option<Self> {
        let is_valid = value.len() <= MAX_LEN && !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_graphic);
        is_valid.then(|| Self(value.clone()))
    }

    /// Returns the request ID as a field value.
    pub fn header_value(&self) -> &HeaderValue {
        &self.0
    }

    /// Returns the request ID as text.
    pub fn as_str(&self) -> &str {
        // Always valid: both constructors ensure visible ASCII.
        self.0.to_str().unwrap_or("-")
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestId({})", self.as_str())
    }
}

const MAX_LEN: usize = 128;

/// Creates a UUIDv7: a timestamp in milliseconds and random bits (RFC 9562 §5.7).
///
/// Unlike `Uuid::now_v7`, it has no counter, which would need a lock that all threads share.
pub(crate) fn uuid_v7() -> Uuid {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let random = Uuid::new_v4();
    let [_, _, _, _, _, _, random @ ..] = random.as_bytes();
    Builder::from_unix_timestamp_millis(since_epoch.as_millis() as u64, random).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::{Variant, Version};

    #[test]
    fn generated_request_ids_are_unique_version_7_uuids_with_the_current_time() {
        let before = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64;
        let ids: Vec<_> = (0..100).map(|_| Uuid::try_parse(RequestId::generate().as_str()).unwrap()).collect();
        let after = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64;
        for (index, id) in ids.iter().enumerate() {
            assert_eq!((id.get_version(), id.get_variant()), (Some(Version::SortRand), Variant::RFC4122));
            let millis = id.as_u64_pair().0 >> 16;
            assert!((before..=after).contains(&millis), "{id}");
            assert!(!ids[..index].contains(id), "{id}");
        }
    }
}
