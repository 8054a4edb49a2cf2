//! The answer to a handshake: whether protocols are switched, and to what (RFC 6455 §4.2.2, RFC 8441 §5, RFC 9110
//! §15.2.2).

use http::StatusCode;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, TRANSFER_ENCODING, UPGRADE,
};
use hyper::ext::Protocol;

use crate::handshake::{By, WEBSOCKET, lists, single};

/// What is to be switched to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Switch {
    /// To a WebSocket; this `Sec-WebSocket-Accept` is the answer to the key.
    WebSocket { accept: String },
    /// To [another protocol](crate::UpgradeProtocols).
    Other(Protocol),
}

impl Switch {
    pub(crate) fn protocol(&self) -> Protocol {
        match self {
            Switch::WebSocket { .. } => Protocol::from_static(WEBSOCKET),
            Switch::Other(protocol) => protocol.clone(),
        }
    }

    /// The protocol, if it is no WebSocket.
    pub(crate) fn into_other(self) -> Option<Protocol> {
        match self {
            Switch::WebSocket { .. } => None,
            Switch::Other(protocol) => Some(protocol),
        }
    }

    /// Whether a 101 with these fields says that this is what was switched to. Over HTTP/2 there are no such fields:
    /// the inner service says `by_http2` which protocol it is (RFC 8441 §5).
    pub(crate) fn is_accepted(&self, headers: &HeaderMap, by_http2: Option<&Protocol>) -> bool {
        let protocol = self.protocol();
        if by_http2.is_some_and(|said| said.as_str().eq_ignore_ascii_case(protocol.as_str())) {
            return true;
        }
        // RFC 6455 §4.1: what a client must check.
        lists(headers, UPGRADE, protocol.as_str())
            && match self {
                Switch::WebSocket { accept } => single(headers, SEC_WEBSOCKET_ACCEPT) == Some(accept.as_bytes()),
                Switch::Other(_) => true,
            }
    }

    /// Makes the fields of an upstream's 101 those of the answer to the client, and says which status it has.
    pub(crate) fn to_client(&self, headers: &mut HeaderMap, by: By) -> StatusCode {
        // RFC 9110 §8.6, RFC 9112 §6.1: not in a 1xx, nor in a 2xx to CONNECT.
        for name in [CONTENT_LENGTH, TRANSFER_ENCODING, HeaderName::from_static("keep-alive"), CONNECTION, UPGRADE] {
            headers.remove(name);
        }
        headers.remove(SEC_WEBSOCKET_ACCEPT);
        // RFC 8441 §5: a 200 that has no such fields.
        if by == By::ExtendedConnect {
            return StatusCode::OK;
        }
        // In Base64, it is a value.
        if let Switch::WebSocket { accept } = self
            && let Ok(accept) = HeaderValue::from_str(accept)
        {
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
        // So is the name of a protocol.
        if let Ok(protocol) = HeaderValue::from_str(self.protocol().as_str()) {
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(UPGRADE, protocol);
        }
        StatusCode::SWITCHING_PROTOCOLS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_to_our_key_is_accepted() {
        let accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
        let switch = Switch::WebSocket { accept: accept.to_owned() };
        for (upgrade, answer, expected) in [
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
            for value in answer {
                headers.append(SEC_WEBSOCKET_ACCEPT, value.parse().unwrap());
            }
            assert_eq!(switch.is_accepted(&headers, None), expected, "{upgrade:?} {answer:?}");
        }
    }

    #[test]
    fn another_protocol_is_accepted_where_it_is_named() {
        let switch = Switch::Other(Protocol::from_static("tcp"));
        for (upgrade, by_http2, expected) in [
            (Some("tcp"), None, true),
            (Some("TCP"), None, true),
            (Some("websocket"), None, false),
            (Some("tcp/2"), None, false),
            (None, None, false),
            (None, Some("tcp"), true),
            (None, Some("websocket"), false),
        ] {
            let headers = upgrade.map(|value| (UPGRADE, value.parse().unwrap())).into_iter().collect();
            let by_http2 = by_http2.map(Protocol::from_static);
            assert_eq!(switch.is_accepted(&headers, by_http2.as_ref()), expected, "{upgrade:?} {by_http2:?}");
        }
    }
}
