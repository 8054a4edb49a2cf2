//! The header fields that rules cannot change.

use http::HeaderName;
use http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, EXPECT, FORWARDED, HOST, IF_MATCH,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
    VIA,
};

/// Returns the reason why no rule can change this field of a message.
pub(crate) fn in_messages(name: &HeaderName) -> Option<&'static str> {
    const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
    const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
    if [CONTENT_LENGTH, TRANSFER_ENCODING, TRAILER].contains(name) {
        return Some("it frames the message, and is set from the content");
    }
    let is_of_connection = [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, UPGRADE, TE].contains(name);
    is_of_connection.then_some("it belongs to one connection, and is set for each connection")
}

/// Returns the reason why no rule can change this field of a request.
pub(crate) fn in_requests(name: &HeaderName) -> Option<&'static str> {
    if let Some(reason) = in_messages(name) {
        return Some(reason);
    }
    let text = name.as_str();
    if *name == HOST {
        return Some("it selects the site, the certificate and the cache key");
    }
    if *name == EXPECT {
        return Some("the server decides about 100 (Continue)");
    }
    let is_forwarding = [FORWARDED, VIA].contains(name)
        || text.starts_with("x-forwarded-")
        || ["x-real-ip", "x-request-id"].contains(&text);
    is_forwarding.then_some("the forwarding fields are set from the connection and the trusted proxies")
}

/// Returns the reason why no rule can add this field to a request.
pub(crate) fn added_to_requests(name: &HeaderName) -> Option<&'static str> {
    let conditions = [IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE];
    conditions
        .contains(name)
        .then_some("a client without this condition would get a 206, 304 or 412; it can be removed only")
}

/// Returns whether removal by prefix keeps this field, because the content cannot be decoded without it.
pub(crate) fn describes_content(name: &HeaderName) -> bool {
    [CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE].contains(name)
}
