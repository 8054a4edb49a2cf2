//! The opening handshake, both ways (RFC 6455 §4, RFC 8441).

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::{Method, Request, Version};
use hyper::ext::Protocol;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::refusal::{BadHandshake, Refusal};

/// What a request asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Asked {
    /// No other protocol.
    Nothing,
    /// A WebSocket, by `Upgrade`.
    WebSocket,
    /// A WebSocket, by extended CONNECT (RFC 8441 §4).
    ExtendedConnect,
    /// Something else, by `Upgrade`.
    OtherUpgrade,
    /// Something else, by extended CONNECT.
    OtherConnect,
}

impl Asked {
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        if request.method() == Method::CONNECT
            && let Some(protocol) = request.extensions().get::<Protocol>()
        {
            return match is_websocket(protocol) {
                true => Asked::ExtendedConnect,
                false => Asked::OtherConnect,
            };
        }
        match request.headers().contains_key(UPGRADE) {
            false => Asked::Nothing,
            // RFC 9110 §7.8: in HTTP/1.0 the field means nothing.
            true if request.version() < Version::HTTP_11 => Asked::OtherUpgrade,
            true if lists(request.headers(), UPGRADE, WEBSOCKET) => Asked::WebSocket,
            true => Asked::OtherUpgrade,
        }
    }
}

/// Checks what a client sent by HTTP/1.1, and says which `Sec-WebSocket-Accept` it expects.
///
/// RFC 6455 §4.2.1
pub(crate) fn check<B>(request: &Request<B>) -> Result<String, Refusal> {
    let headers = request.headers();
    if request.method() != Method::GET {
        return Err(Refusal::BadHandshake(BadHandshake::Method));
    }
    if request.version() != Version::HTTP_11 {
        return Err(Refusal::BadHandshake(BadHandshake::HttpVersion));
    }
    if !lists(headers, CONNECTION, "upgrade") {
        return Err(Refusal::BadHandshake(BadHandshake::Connection));
    }
    if single(headers, SEC_WEBSOCKET_VERSION) != Some(VERSION) {
        return Err(Refusal::UnsupportedVersion);
    }
    let key = single(headers, SEC_WEBSOCKET_KEY).filter(|key| is_key(key));
    let Some(key) = key else { return Err(Refusal::BadHandshake(BadHandshake::Key)) };
    // What would be its body would come out as the first frames.
    let empty = |length: &HeaderValue| length.as_bytes() == b"0";
    if headers.contains_key(TRANSFER_ENCODING) || !headers.get_all(CONTENT_LENGTH).iter().all(empty) {
        return Err(Refusal::BadHandshake(BadHandshake::Body));
    }
    Ok(derive_accept_key(key))
}

/// Checks what a client sent by HTTP/2. Whoever leaves the version out means the only one there is.
pub(crate) fn check_extended<B>(request: &Request<B>) -> Result<(), Refusal> {
    match request.headers().contains_key(SEC_WEBSOCKET_VERSION) {
        true if single(request.headers(), SEC_WEBSOCKET_VERSION) != Some(VERSION) => Err(Refusal::UnsupportedVersion),
        _ => Ok(()),
    }
}

/// Makes of an extended CONNECT the handshake of HTTP/1.1, and says which `Sec-WebSocket-Accept` is
/// the answer (RFC 8441 §5: between client and proxy there is no key).
pub(crate) fn to_http1<B>(request: &mut Request<B>) -> String {
    let key = generate_key();
    *request.method_mut() = Method::GET;
    *request.version_mut() = Version::HTTP_11;
    let headers = request.headers_mut();
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    if let Ok(value) = HeaderValue::from_str(&key) {
        headers.insert(SEC_WEBSOCKET_KEY, value);
    }
    derive_accept_key(key.as_bytes())
}

/// Says "WebSocket" in the way that the inner service wants to be told.
pub(crate) fn announce<B>(request: &mut Request<B>, in_fields: bool) {
    request.extensions_mut().insert(Protocol::from_static(WEBSOCKET));
    let headers = request.headers_mut();
    forget_upgrade(headers);
    if in_fields {
        headers.insert(UPGRADE, HeaderValue::from_static(WEBSOCKET));
        headers.append(CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

/// Removes `Upgrade` and what belongs to it. The other connection options stay: whoever removes
/// the fields that they nominate is to know of them.
pub(crate) fn forget_upgrade(headers: &mut HeaderMap) {
    headers.remove(UPGRADE);
    headers.remove(HTTP2_SETTINGS);
    let kept: Vec<&[u8]> = members(headers, &CONNECTION)
        .filter(|option| !option.eq_ignore_ascii_case(b"upgrade") && !option.eq_ignore_ascii_case(b"http2-settings"))
        .collect();
    // Made of what was a value before, it is one.
    match HeaderValue::from_bytes(&kept.join(&b", "[..])) {
        Ok(options) if !options.is_empty() => headers.insert(CONNECTION, options),
        _ => headers.remove(CONNECTION),
    };
}

/// Whether a 101 is the answer to our handshake.
///
/// RFC 6455 §4.1: what a client must check.
pub(crate) fn is_accepted(headers: &HeaderMap, accept: &str) -> bool {
    lists(headers, UPGRADE, WEBSOCKET) && single(headers, SEC_WEBSOCKET_ACCEPT) == Some(accept.as_bytes())
}

/// Whether it is what this is all about.
pub(crate) fn is_websocket(protocol: &Protocol) -> bool {
    protocol.as_str().eq_ignore_ascii_case(WEBSOCKET)
}

/// Makes the fields of an upstream's 101 those of the answer to the client: with `accept` to one that asked by
/// HTTP/1.1.
pub(crate) fn to_client(headers: &mut HeaderMap, accept: Option<&str>) {
    // RFC 9110 §8.6, RFC 9112 §6.1: not in a 1xx, nor in a 2xx to CONNECT.
    for name in [CONTENT_LENGTH, TRANSFER_ENCODING, HeaderName::from_static("keep-alive"), CONNECTION, UPGRADE] {
        headers.remove(name);
    }
    headers.remove(SEC_WEBSOCKET_ACCEPT);
    // In Base64, it is a value.
    if let Some(Ok(accept)) = accept.map(HeaderValue::from_str) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static(WEBSOCKET));
    }
}

/// RFC 6455 §5.3: a masking key can't be foreseen.
pub(crate) fn masking_key() -> [u8; 4] {
    let random = BASE64.decode(generate_key()).unwrap_or_default();
    random.first_chunk().copied().unwrap_or_default()
}

fn is_key(key: &[u8]) -> bool {
    key.len() == 24 && BASE64.decode(key).is_ok_and(|bytes| bytes.len() == 16)
}

/// Whether one of a field's members, in any of its lines, is `token`.
fn lists(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    members(headers, &name).any(|member| member.eq_ignore_ascii_case(token.as_bytes()))
}

fn members<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let members = headers.get_all(name).into_iter().flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    members.map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// The value of a field that has exactly one line.
fn single(headers: &HeaderMap, name: HeaderName) -> Option<&[u8]> {
    let mut lines = headers.get_all(name).into_iter();
    let first = lines.next()?;
    lines.next().is_none().then(|| first.as_bytes().trim_ascii())
}

const WEBSOCKET: &str = "websocket";
const VERSION: &[u8] = b"13";
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Some clients make up 22 random characters rather than 16 random bytes, so that bits are left over.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    /// The handshake of RFC 6455 §1.2 with some fields replaced; an empty value leaves one out.
    fn handshake(changes: &[(&'static str, &str)]) -> Request<()> {
        let mut request = Request::get("/chat").body(()).unwrap();
        let usual = [
            ("upgrade", "websocket"),
            ("connection", "Upgrade"),
            ("sec-websocket-key", KEY),
            ("sec-websocket-version", "13"),
        ];
        for (name, value) in usual.iter().filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name)) {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        for (name, value) in changes.iter().filter(|(_, value)| !value.is_empty()) {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        request
    }

    #[test]
    fn a_handshake_is_checked_in_full() {
        let bad = |why| Err(Refusal::BadHandshake(why));
        let ok = || Ok("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned());
        for (changes, expected) in [
            (&[][..], ok()),
            (&[("upgrade", "WebSocket")], ok()),
            (&[("connection", "keep-alive, UPGRADE")], ok()),
            (&[("connection", "keep-alive"), ("connection", "x-hop ,upgrade")], ok()),
            (&[("content-length", "0")], ok()),
            (&[("connection", "")], bad(BadHandshake::Connection)),
            (&[("connection", "keep-alive")], bad(BadHandshake::Connection)),
            (&[("connection", "upgraded")], bad(BadHandshake::Connection)),
            (&[("sec-websocket-version", "")], Err(Refusal::UnsupportedVersion)),
            (&[("sec-websocket-version", "8")], Err(Refusal::UnsupportedVersion)),
            (&[("sec-websocket-version", "13, 8")], Err(Refusal::UnsupportedVersion)),
            (&[("sec-websocket-version", "013")], Err(Refusal::UnsupportedVersion)),
            (&[("sec-websocket-version", "13"), ("sec-websocket-version", "13")], Err(Refusal::UnsupportedVersion)),
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
            assert_eq!(check(&handshake(changes)), expected, "{changes:?}");
        }
        let mut post = handshake(&[]);
        *post.method_mut() = Method::POST;
        assert_eq!(check(&post), bad(BadHandshake::Method));
        let mut old = handshake(&[]);
        *old.version_mut() = Version::HTTP_10;
        assert_eq!(check(&old), bad(BadHandshake::HttpVersion));
    }

    #[test]
    fn a_key_with_bits_left_over_is_one() {
        let request = handshake(&[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZR==")]);
        assert!(check(&request).is_ok());
    }

    #[test]
    fn what_is_asked_for_is_told_apart() {
        let connect = |protocol| {
            let request = Request::connect("http://a/").extension(Protocol::from_static(protocol));
            request.body(()).unwrap()
        };
        for (request, expected) in [
            (handshake(&[]), Asked::WebSocket),
            (handshake(&[("upgrade", "h2c, websocket")]), Asked::WebSocket),
            (handshake(&[("upgrade", "h2c"), ("upgrade", "WEBSOCKET")]), Asked::WebSocket),
            (handshake(&[("upgrade", "websocket/13")]), Asked::OtherUpgrade),
            (handshake(&[("upgrade", "h2c")]), Asked::OtherUpgrade),
            (handshake(&[("upgrade", "TLS/1.0")]), Asked::OtherUpgrade),
            (handshake(&[("upgrade", "")]), Asked::Nothing),
            (Request::connect("a:1").body(()).unwrap(), Asked::Nothing),
            (connect("websocket"), Asked::ExtendedConnect),
            (connect("connect-udp"), Asked::OtherConnect),
        ] {
            assert_eq!(Asked::of(&request), expected, "{request:?}");
        }
    }

    #[test]
    fn an_upgrade_is_forgotten_and_other_connection_options_are_not() {
        for (connection, expected) in [
            ("Upgrade", None),
            ("upgrade, HTTP2-Settings", None),
            ("keep-alive, Upgrade,x-hop", Some("keep-alive, x-hop")),
            ("close", Some("close")),
        ] {
            let mut request = handshake(&[("connection", connection), ("http2-settings", "AAMAAABk")]);
            forget_upgrade(request.headers_mut());
            let headers = request.headers();
            assert_eq!(headers.get("connection").map(|value| value.to_str().unwrap()), expected, "{connection}");
            assert!(!headers.contains_key("upgrade") && !headers.contains_key("http2-settings"));
        }
    }

    #[test]
    fn only_the_answer_to_our_key_is_accepted() {
        let accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
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
            assert_eq!(is_accepted(&headers, accept), expected, "{upgrade:?} {answer:?}");
        }
    }

    #[test]
    fn an_extended_connect_becomes_a_handshake_that_passes_the_check() {
        let mut request = Request::connect("https://a/chat").version(Version::HTTP_2).body(()).unwrap();
        let accept = to_http1(&mut request);
        announce(&mut request, true);
        assert_eq!(check(&request), Ok(accept));
        assert_eq!(Asked::of(&request), Asked::WebSocket);
        for (version, expected) in [("", Ok(())), ("13", Ok(())), ("8", Err(Refusal::UnsupportedVersion))] {
            assert_eq!(check_extended(&handshake(&[("sec-websocket-version", version)])), expected);
        }
    }
}
