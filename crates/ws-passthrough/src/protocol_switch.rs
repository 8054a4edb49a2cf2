//! The protocol that a handshake requests, and the response that switches to it.
//!
//! RFC 6455 §4.2.2, RFC 8441 §5, RFC 9110 §15.2.2

use http::StatusCode;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, TRANSFER_ENCODING, UPGRADE,
};
use hyper::ext::Protocol;

use crate::handshake::{UpgradeMethod, WEBSOCKET, has_member, single_value};

/// The protocol that an upgraded connection switches to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ProtocolSwitch {
    /// WebSocket, with the expected value of `Sec-WebSocket-Accept`.
    WebSocket { accept: String },
    /// An [allowed protocol](crate::UpgradeProtocols) other than WebSocket.
    Other(Protocol),
}

impl ProtocolSwitch {
    pub(crate) fn protocol(&self) -> Protocol {
        match self {
            Self::WebSocket { .. } => Protocol::from_static(WEBSOCKET),
            Self::Other(protocol) => protocol.clone(),
        }
    }

    /// Returns the protocol, or `None` if it is WebSocket.
    pub(crate) fn into_other(self) -> Option<Protocol> {
        match self {
            Self::WebSocket { .. } => None,
            Self::Other(protocol) => Some(protocol),
        }
    }

    /// Returns whether a 101 response with these fields switches to the requested protocol.
    ///
    /// HTTP/2 has no such fields, so the inner service reports the protocol as an extension: `http2_protocol` (RFC 8441
    /// §5).
    pub(crate) fn is_accepted(&self, headers: &HeaderMap, http2_protocol: Option<&Protocol>) -> bool {
        let protocol = self.protocol();
        if http2_protocol.is_some_and(|reported| reported.as_str().eq_ignore_ascii_case(protocol.as_str())) {
            return true;
        }
        // RFC 6455 §4.1: a client must check both fields.
        has_member(headers, UPGRADE, protocol.as_str())
            && match self {
                Self::WebSocket { accept } => single_value(headers, SEC_WEBSOCKET_ACCEPT) == Some(accept.as_bytes()),
                Self::Other(_) => true,
            }
    }

    /// Rewrites the fields of a 101 response for the client, and returns the response status for the client.
    pub(crate) fn rewrite_response(&self, headers: &mut HeaderMap, method: UpgradeMethod) -> StatusCode {
        // RFC 9110 §8.6, RFC 9112 §6.1: the framing fields are not allowed in a 1xx, and in a 2xx to CONNECT.
        for name in [CONTENT_LENGTH, TRANSFER_ENCODING, HeaderName::from_static("keep-alive"), CONNECTION] {
            headers.remove(name);
        }
        // RFC 8441 §5: the response is a 200 without these fields.
        if method == UpgradeMethod::ExtendedConnect {
            headers.remove(UPGRADE);
            headers.remove(SEC_WEBSOCKET_ACCEPT);
            return StatusCode::OK;
        }
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        match self {
            Self::WebSocket { accept } => set_value(headers, SEC_WEBSOCKET_ACCEPT, accept),
            Self::Other(_) => {
                headers.remove(SEC_WEBSOCKET_ACCEPT);
            }
        }
        set_value(headers, UPGRADE, self.protocol().as_str());
        StatusCode::SWITCHING_PROTOCOLS
    }
}

/// Sets a field, unless it has this value. A received field keeps the letter case of its name.
fn set_value(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if single_value(headers, name.clone()) == Some(value.as_bytes()) {
        return;
    }
    // Always valid: Base64, or a protocol name, which is a token.
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_only_the_expected_sec_websocket_accept() {
        let accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
        let switch = ProtocolSwitch::WebSocket { accept: accept.to_owned() };
        for (upgrade, accept_fields, expected) in [
            (Some("websocket"), &[accept][..], true),
            (Some("WebSocket"), &[accept], true),
            (Some("h2c"), &[accept], false),
            (None, &[accept], false),
            (Some("websocket"), &[], false),
            (Some("websocket"), &["S3pPLMBiTxaQ9kYGzzhZRbK+xOo="], false),
            (Some("websocket"), &[accept, accept], false),
        ] {
            let mut headers = HeaderMap::new();
            headers.extend(upgrade.map(|value| (UPGRADE, value.parse().unwrap())));
            for value in accept_fields {
                headers.append(SEC_WEBSOCKET_ACCEPT, value.parse().unwrap());
            }
            assert_eq!(switch.is_accepted(&headers, None), expected, "{upgrade:?} {accept_fields:?}");
        }
    }

    #[test]
    fn accepts_an_upgrade_response_only_if_it_names_the_requested_protocol() {
        let switch = ProtocolSwitch::Other(Protocol::from_static("tcp"));
        for (upgrade, http2_protocol, expected) in [
            (Some("tcp"), None, true),
            (Some("TCP"), None, true),
            (Some("websocket"), None, false),
            (Some("tcp/2"), None, false),
            (None, None, false),
            (None, Some("tcp"), true),
            (None, Some("websocket"), false),
        ] {
            let headers = upgrade.map(|value| (UPGRADE, value.parse().unwrap())).into_iter().collect();
            let http2_protocol = http2_protocol.map(Protocol::from_static);
            assert_eq!(
                switch.is_accepted(&headers, http2_protocol.as_ref()),
                expected,
                "{upgrade:?} {http2_protocol:?}"
            );
        }
    }
}
