//! Parses and validates upgrade requests, and rewrites them for the inner service.
//!
//! RFC 6455 §4.2.1, RFC 8441, RFC 9110 §7.8

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{Method, Request, Version};
use hyper::ext::Protocol;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::protocol_switch::ProtocolSwitch;
use crate::rejection::{BadHandshake, WsRejection};
use crate::upgrade_protocols::UpgradeProtocols;

/// The upgrade that a request contains.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum UpgradeRequest {
    /// The request contains no upgrade.
    None,
    WebSocket(UpgradeMethod),
    /// An upgrade to an allowed protocol other than WebSocket.
    Allowed(Protocol, UpgradeMethod),
    /// An `Upgrade` to a protocol that is not allowed, or an invalid `Upgrade`.
    UnsupportedUpgrade,
    /// An extended CONNECT for a protocol that is not allowed.
    UnsupportedConnect,
}

/// The mechanism by which a request upgrades to another protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum UpgradeMethod {
    /// The `Upgrade` field of HTTP/1.1 (RFC 9110 §7.8).
    Upgrade,
    /// An extended CONNECT of HTTP/2 (RFC 8441 §4).
    ExtendedConnect,
}

impl UpgradeRequest {
    pub(crate) fn parse<B>(request: &Request<B>, allowed: &UpgradeProtocols) -> Self {
        if request.method() == Method::CONNECT
            && let Some(protocol) = request.extensions().get::<Protocol>()
        {
            let method = UpgradeMethod::ExtendedConnect;
            return match allowed.find(protocol.as_str().as_bytes()) {
                _ if protocol.as_str().eq_ignore_ascii_case(WEBSOCKET) => Self::WebSocket(method),
                Some(protocol) => Self::Allowed(protocol.clone(), method),
                None => Self::UnsupportedConnect,
            };
        }
        let headers = request.headers();
        match headers.contains_key(UPGRADE) {
            false => Self::None,
            // RFC 9110 §7.8: `Upgrade` is ignored in HTTP/1.0, and if `Connection` does not name it.
            true if request.version() < Version::HTTP_11 => Self::UnsupportedUpgrade,
            true if !has_member(headers, CONNECTION, "upgrade") => Self::UnsupportedUpgrade,
            true if has_member(headers, UPGRADE, WEBSOCKET) => Self::WebSocket(UpgradeMethod::Upgrade),
            true => match members(headers, &UPGRADE).find_map(|name| allowed.find(name)) {
                Some(protocol) if is_upgradable(request) => Self::Allowed(protocol.clone(), UpgradeMethod::Upgrade),
                _ => Self::UnsupportedUpgrade,
            },
        }
    }
}

/// Returns whether a request may upgrade to an allowed protocol other than WebSocket. If not, `Upgrade` is ignored,
/// which RFC 9110 §7.8 allows.
fn is_upgradable<B>(request: &Request<B>) -> bool {
    request.version() == Version::HTTP_11 && !has_content(request.headers())
}

/// Validates an HTTP/1.1 handshake (RFC 6455 §4.2.1), and returns the expected `Sec-WebSocket-Accept`.
pub(crate) fn check_http1<B>(request: &Request<B>) -> Result<String, WsRejection> {
    let headers = request.headers();
    if request.method() != Method::GET {
        return Err(WsRejection::BadHandshake(BadHandshake::Method));
    }
    if request.version() != Version::HTTP_11 {
        return Err(WsRejection::BadHandshake(BadHandshake::HttpVersion));
    }
    if single_value(headers, SEC_WEBSOCKET_VERSION) != Some(VERSION) {
        return Err(WsRejection::UnsupportedVersion);
    }
    let key = single_value(headers, SEC_WEBSOCKET_KEY).filter(|key| is_key(key));
    let Some(key) = key else { return Err(WsRejection::BadHandshake(BadHandshake::Key)) };
    // A body would be parsed as the first frames.
    if has_content(headers) {
        return Err(WsRejection::BadHandshake(BadHandshake::Body));
    }
    Ok(derive_accept_key(key))
}

/// Validates a WebSocket handshake over HTTP/2 (RFC 8441 §5). `Sec-WebSocket-Version` may be missing.
pub(crate) fn check_extended_connect<B>(request: &Request<B>) -> Result<(), WsRejection> {
    match request.headers().contains_key(SEC_WEBSOCKET_VERSION) {
        true if single_value(request.headers(), SEC_WEBSOCKET_VERSION) != Some(VERSION) => {
            Err(WsRejection::UnsupportedVersion)
        }
        // RFC 9110 §9.3.6: a CONNECT has no content.
        _ if has_content(request.headers()) => Err(WsRejection::BadHandshake(BadHandshake::Body)),
        _ => Ok(()),
    }
}

/// Adds the `Sec-WebSocket-Key` and the version that an extended CONNECT lacks (RFC 8441 §5).
///
/// Returns the expected `Sec-WebSocket-Accept`.
pub(crate) fn add_key(headers: &mut HeaderMap) -> String {
    let key = generate_key();
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    if let Ok(value) = HeaderValue::from_str(&key) {
        headers.insert(SEC_WEBSOCKET_KEY, value);
    }
    derive_accept_key(key.as_bytes())
}

/// Rewrites an upgrade request for the inner service: HTTP/1.1, with the protocol in an extension.
///
/// `keep_fields` adds `Connection` and `Upgrade`.
pub(crate) fn rewrite_request<B>(
    request: &mut Request<B>,
    switch: &ProtocolSwitch,
    method: UpgradeMethod,
    keep_fields: bool,
) {
    let protocol = switch.protocol();
    let headers = request.headers_mut();
    remove_upgrade(headers);
    if let Ok(name) = HeaderValue::from_str(protocol.as_str())
        && keep_fields
    {
        headers.insert(UPGRADE, name);
        headers.append(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    request.extensions_mut().insert(protocol);
    if method == UpgradeMethod::ExtendedConnect {
        *request.method_mut() = Method::GET;
        *request.version_mut() = Version::HTTP_11;
    }
}

/// Removes `Upgrade` and `HTTP2-Settings`, and their options in `Connection`.
///
/// Other connection options are kept for the layer that removes the fields they nominate.
pub(crate) fn remove_upgrade(headers: &mut HeaderMap) {
    headers.remove(UPGRADE);
    headers.remove(HTTP2_SETTINGS);
    let kept: Vec<&[u8]> = members(headers, &CONNECTION)
        .filter(|option| !option.eq_ignore_ascii_case(b"upgrade") && !option.eq_ignore_ascii_case(b"http2-settings"))
        .collect();
    // Always valid: it consists of parts of a valid value.
    match HeaderValue::from_bytes(&kept.join(&b", "[..])) {
        Ok(options) if !options.is_empty() => headers.insert(CONNECTION, options),
        _ => headers.remove(CONNECTION),
    };
}

/// Returns a random masking key (RFC 6455 §5.3).
pub(crate) fn masking_key() -> [u8; 4] {
    let random = BASE64.decode(generate_key()).unwrap_or_default();
    random.first_chunk().copied().unwrap_or_default()
}

fn is_key(key: &[u8]) -> bool {
    key.len() == 24 && BASE64.decode(key).is_ok_and(|bytes| bytes.len() == 16)
}

/// Returns whether the request has content (RFC 9112 §6.3).
fn has_content(headers: &HeaderMap) -> bool {
    let is_zero = |length: &HeaderValue| length.as_bytes() == b"0";
    headers.contains_key(TRANSFER_ENCODING) || !headers.get_all(CONTENT_LENGTH).iter().all(is_zero)
}

/// Returns whether a comma-separated field contains the member `token`, ignoring case.
pub(crate) fn has_member(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    members(headers, &name).any(|member| member.eq_ignore_ascii_case(token.as_bytes()))
}

fn members<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let members = headers.get_all(name).into_iter().flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    members.take(MAX_MEMBERS).map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// The maximum number of list members that are read from a field.
const MAX_MEMBERS: usize = 64;

/// Returns the value of a header field if the request has exactly one such field.
pub(crate) fn single_value(headers: &HeaderMap, name: HeaderName) -> Option<&[u8]> {
    let mut lines = headers.get_all(name).into_iter();
    let first = lines.next()?;
    lines.next().is_none().then(|| first.as_bytes().trim_ascii())
}

/// The protocol name of WebSocket in `Upgrade` and `:protocol`.
pub(crate) const WEBSOCKET: &str = "websocket";
const VERSION: &[u8] = b"13";
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// A Base64 decoder that accepts nonzero trailing bits.
///
/// Some clients send 22 random characters instead of 16 random bytes.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    /// Returns the WebSocket handshake of RFC 6455 §1.2 with some changed fields. An empty value removes a field.
    fn handshake(changes: &[(&'static str, &str)]) -> Request<()> {
        let mut request = Request::get("/chat").body(()).unwrap();
        let defaults = [
            ("upgrade", "websocket"),
            ("connection", "Upgrade"),
            ("sec-websocket-key", KEY),
            ("sec-websocket-version", "13"),
        ];
        for (name, value) in defaults.iter().filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name)) {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        for (name, value) in changes.iter().filter(|(_, value)| !value.is_empty()) {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        request
    }

    #[test]
    fn rejects_invalid_websocket_handshakes() {
        let bad = |error| Err(WsRejection::BadHandshake(error));
        let ok = || Ok("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned());
        for (changes, expected) in [
            (&[][..], ok()),
            (&[("upgrade", "WebSocket")], ok()),
            (&[("connection", "keep-alive, UPGRADE")], ok()),
            (&[("connection", "keep-alive"), ("connection", "x-hop ,upgrade")], ok()),
            (&[("content-length", "0")], ok()),
            (&[("sec-websocket-version", "")], Err(WsRejection::UnsupportedVersion)),
            (&[("sec-websocket-version", "8")], Err(WsRejection::UnsupportedVersion)),
            (&[("sec-websocket-version", "13, 8")], Err(WsRejection::UnsupportedVersion)),
            (&[("sec-websocket-version", "013")], Err(WsRejection::UnsupportedVersion)),
            (&[("sec-websocket-version", "13"), ("sec-websocket-version", "13")], Err(WsRejection::UnsupportedVersion)),
            (&[("sec-websocket-key", "")], bad(BadHandshake::Key)),
            (&[("sec-websocket-key", "c2hvcnQ=")], bad(BadHandshake::Key)),
            (&[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ")], bad(BadHandshake::Key)),
            (&[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZSEh")], bad(BadHandshake::Key)),
            (&[("sec-websocket-key", "dGhlIHNhbXBsZSBub25j*Q==")], bad(BadHandshake::Key)),
            (&[("sec-websocket-key", KEY), ("sec-websocket-key", KEY)], bad(BadHandshake::Key)),
            (&[("content-length", "1")], bad(BadHandshake::Body)),
            (&[("content-length", "0"), ("content-length", "5")], bad(BadHandshake::Body)),
            (&[("transfer-encoding", "chunked")], bad(BadHandshake::Body)),
        ] {
            assert_eq!(check_http1(&handshake(changes)), expected, "{changes:?}");
        }
        let mut post = handshake(&[]);
        *post.method_mut() = Method::POST;
        assert_eq!(check_http1(&post), bad(BadHandshake::Method));
        let mut old = handshake(&[]);
        *old.version_mut() = Version::HTTP_10;
        assert_eq!(check_http1(&old), bad(BadHandshake::HttpVersion));
    }

    #[test]
    fn accepts_a_websocket_key_with_nonzero_trailing_bits() {
        let request = handshake(&[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZR==")]);
        assert!(check_http1(&request).is_ok());
    }

    #[test]
    fn detects_upgrade_requests_and_their_protocol() {
        let connect = |protocol| {
            let request = Request::connect("http://a/").extension(Protocol::from_static(protocol));
            request.body(()).unwrap()
        };
        let tcp = |method| UpgradeRequest::Allowed(Protocol::from_static("tcp"), method);
        for (request, expected) in [
            (handshake(&[]), UpgradeRequest::WebSocket(UpgradeMethod::Upgrade)),
            (handshake(&[("upgrade", "h2c, websocket")]), UpgradeRequest::WebSocket(UpgradeMethod::Upgrade)),
            (
                handshake(&[("upgrade", "h2c"), ("upgrade", "WEBSOCKET")]),
                UpgradeRequest::WebSocket(UpgradeMethod::Upgrade),
            ),
            (handshake(&[("upgrade", "tcp, websocket")]), UpgradeRequest::WebSocket(UpgradeMethod::Upgrade)),
            (handshake(&[("upgrade", "websocket/13")]), UpgradeRequest::UnsupportedUpgrade),
            (handshake(&[("connection", "")]), UpgradeRequest::UnsupportedUpgrade),
            (handshake(&[("connection", "keep-alive")]), UpgradeRequest::UnsupportedUpgrade),
            (handshake(&[("connection", "upgraded")]), UpgradeRequest::UnsupportedUpgrade),
            (handshake(&[("upgrade", "h2c")]), UpgradeRequest::UnsupportedUpgrade),
            (handshake(&[("upgrade", "TLS/1.0")]), UpgradeRequest::UnsupportedUpgrade),
            (handshake(&[("upgrade", "h2c, TCP")]), tcp(UpgradeMethod::Upgrade)),
            (handshake(&[("upgrade", "tcp"), ("connection", "keep-alive")]), UpgradeRequest::UnsupportedUpgrade),
            (handshake(&[("upgrade", "tcp"), ("content-length", "1")]), UpgradeRequest::UnsupportedUpgrade),
            (handshake(&[("upgrade", "tcp"), ("transfer-encoding", "chunked")]), UpgradeRequest::UnsupportedUpgrade),
            (handshake(&[("upgrade", "")]), UpgradeRequest::None),
            (Request::connect("a:1").body(()).unwrap(), UpgradeRequest::None),
            (connect("websocket"), UpgradeRequest::WebSocket(UpgradeMethod::ExtendedConnect)),
            (connect("tcp"), tcp(UpgradeMethod::ExtendedConnect)),
            (connect("connect-udp"), UpgradeRequest::UnsupportedConnect),
        ] {
            assert_eq!(UpgradeRequest::parse(&request, &"tcp".parse().unwrap()), expected, "{request:?}");
        }
        assert_eq!(
            UpgradeRequest::parse(&handshake(&[("upgrade", "tcp")]), &UpgradeProtocols::default()),
            UpgradeRequest::UnsupportedUpgrade
        );
    }

    #[test]
    fn remove_upgrade_keeps_the_other_connection_options() {
        for (connection, expected) in [
            ("Upgrade", None),
            ("upgrade, HTTP2-Settings", None),
            ("keep-alive, Upgrade,x-hop", Some("keep-alive, x-hop")),
            ("close", Some("close")),
        ] {
            let mut request = handshake(&[("connection", connection), ("http2-settings", "AAMAAABk")]);
            remove_upgrade(request.headers_mut());
            let headers = request.headers();
            assert_eq!(headers.get("connection").map(|value| value.to_str().unwrap()), expected, "{connection}");
            assert!(!headers.contains_key("upgrade") && !headers.contains_key("http2-settings"));
        }
    }

    #[test]
    fn rewrites_extended_connect_to_a_valid_http1_handshake() {
        let mut request = Request::connect("https://a/chat").version(Version::HTTP_2).body(()).unwrap();
        let accept = add_key(request.headers_mut());
        let switch = ProtocolSwitch::WebSocket { accept: accept.clone() };
        rewrite_request(&mut request, &switch, UpgradeMethod::ExtendedConnect, true);
        assert_eq!(check_http1(&request), Ok(accept));
        assert_eq!(
            UpgradeRequest::parse(&request, &UpgradeProtocols::default()),
            UpgradeRequest::WebSocket(UpgradeMethod::Upgrade)
        );
        for (version, expected) in [("", Ok(())), ("13", Ok(())), ("8", Err(WsRejection::UnsupportedVersion))] {
            assert_eq!(check_extended_connect(&handshake(&[("sec-websocket-version", version)])), expected);
        }
        let body = handshake(&[("content-length", "5")]);
        assert_eq!(check_extended_connect(&body), Err(WsRejection::BadHandshake(BadHandshake::Body)));
    }
}
