//! The request to switch protocols, as it came and as it goes on (RFC 6455 §4.2.1, RFC 8441, RFC 9110 §7.8).

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

use crate::protocols::UpgradeProtocols;
use crate::refusal::{BadHandshake, Refusal};
use crate::switch::Switch;

/// What a request asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Asked {
    /// No other protocol.
    Nothing,
    /// A WebSocket.
    WebSocket(By),
    /// Another protocol that is allowed.
    Allowed(Protocol, By),
    /// One that is not, by `Upgrade`.
    OtherUpgrade,
    /// One that is not, by extended CONNECT.
    OtherConnect,
}

/// How a request asks for another protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum By {
    /// RFC 9110 §7.8
    Upgrade,
    /// RFC 8441 §4
    ExtendedConnect,
}

impl Asked {
    pub(crate) fn of<B>(request: &Request<B>, allowed: &UpgradeProtocols) -> Self {
        if request.method() == Method::CONNECT
            && let Some(protocol) = request.extensions().get::<Protocol>()
        {
            let by = By::ExtendedConnect;
            return match allowed.find(protocol.as_str().as_bytes()) {
                _ if protocol.as_str().eq_ignore_ascii_case(WEBSOCKET) => Asked::WebSocket(by),
                Some(protocol) => Asked::Allowed(protocol.clone(), by),
                None => Asked::OtherConnect,
            };
        }
        let headers = request.headers();
        match headers.contains_key(UPGRADE) {
            false => Asked::Nothing,
            // RFC 9110 §7.8: in HTTP/1.0, and where Connection does not name it, the field means nothing.
            true if request.version() < Version::HTTP_11 => Asked::OtherUpgrade,
            true if !lists(headers, CONNECTION, "upgrade") => Asked::OtherUpgrade,
            true if lists(headers, UPGRADE, WEBSOCKET) => Asked::WebSocket(By::Upgrade),
            true => match members(headers, &UPGRADE).find_map(|name| allowed.find(name)) {
                Some(protocol) if may_switch(request) => Asked::Allowed(protocol.clone(), By::Upgrade),
                _ => Asked::OtherUpgrade,
            },
        }
    }
}

/// Whether a request other than a WebSocket's handshake may switch protocols at all. If not, `Upgrade` is ignored, as
/// RFC 9110 §7.8 allows.
fn may_switch<B>(request: &Request<B>) -> bool {
    request.version() == Version::HTTP_11 && !announces_content(request.headers())
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
    if single(headers, SEC_WEBSOCKET_VERSION) != Some(VERSION) {
        return Err(Refusal::UnsupportedVersion);
    }
    let key = single(headers, SEC_WEBSOCKET_KEY).filter(|key| is_key(key));
    let Some(key) = key else { return Err(Refusal::BadHandshake(BadHandshake::Key)) };
    // What would be its body would come out as the first frames.
    if announces_content(headers) {
        return Err(Refusal::BadHandshake(BadHandshake::Body));
    }
    Ok(derive_accept_key(key))
}

/// Checks what a client sent by HTTP/2. Whoever leaves the version out means the only one there is.
pub(crate) fn check_extended<B>(request: &Request<B>) -> Result<(), Refusal> {
    match request.headers().contains_key(SEC_WEBSOCKET_VERSION) {
        true if single(request.headers(), SEC_WEBSOCKET_VERSION) != Some(VERSION) => Err(Refusal::UnsupportedVersion),
        // RFC 9110 §9.3.6: a CONNECT has no content.
        _ if announces_content(request.headers()) => Err(Refusal::BadHandshake(BadHandshake::Body)),
        _ => Ok(()),
    }
}

/// Gives a WebSocket's extended CONNECT what a handshake of HTTP/1.1 has, and says which `Sec-WebSocket-Accept` is the
/// answer (RFC 8441 §5: between client and proxy there is no key).
pub(crate) fn add_key(headers: &mut HeaderMap) -> String {
    let key = generate_key();
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    if let Ok(value) = HeaderValue::from_str(&key) {
        headers.insert(SEC_WEBSOCKET_KEY, value);
    }
    derive_accept_key(key.as_bytes())
}

/// Says what is to be switched to in the way that the inner service wants to be told: by HTTP/1.1, whatever the client
/// used, with an extension, and `in_fields`, too, if need be.
pub(crate) fn announce<B>(request: &mut Request<B>, switch: &Switch, by: By, in_fields: bool) {
    let protocol = switch.protocol();
    let headers = request.headers_mut();
    forget_upgrade(headers);
    if let Ok(name) = HeaderValue::from_str(protocol.as_str())
        && in_fields
    {
        headers.insert(UPGRADE, name);
        headers.append(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    request.extensions_mut().insert(protocol);
    if by == By::ExtendedConnect {
        *request.method_mut() = Method::GET;
        *request.version_mut() = Version::HTTP_11;
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

/// RFC 6455 §5.3: a masking key can't be foreseen.
pub(crate) fn masking_key() -> [u8; 4] {
    let random = BASE64.decode(generate_key()).unwrap_or_default();
    random.first_chunk().copied().unwrap_or_default()
}

fn is_key(key: &[u8]) -> bool {
    key.len() == 24 && BASE64.decode(key).is_ok_and(|bytes| bytes.len() == 16)
}

/// RFC 9112 §6.3
fn announces_content(headers: &HeaderMap) -> bool {
    let is_none = |length: &HeaderValue| length.as_bytes() == b"0";
    headers.contains_key(TRANSFER_ENCODING) || !headers.get_all(CONTENT_LENGTH).iter().all(is_none)
}

/// Whether one of a field's members, in any of its lines, is `token`.
pub(crate) fn lists(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    members(headers, &name).any(|member| member.eq_ignore_ascii_case(token.as_bytes()))
}

fn members<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let members = headers.get_all(name).into_iter().flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    members.take(MAX_MEMBERS).map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// Members of a list that are read. Clients send a few, and could send thousands.
const MAX_MEMBERS: usize = 64;

/// The value of a field that has exactly one line.
pub(crate) fn single(headers: &HeaderMap, name: HeaderName) -> Option<&[u8]> {
    let mut lines = headers.get_all(name).into_iter();
    let first = lines.next()?;
    lines.next().is_none().then(|| first.as_bytes().trim_ascii())
}

/// The name of the protocol, in `Upgrade` and `:protocol`.
pub(crate) const WEBSOCKET: &str = "websocket";
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
        let tcp = |by| Asked::Allowed(Protocol::from_static("tcp"), by);
        for (request, expected) in [
            (handshake(&[]), Asked::WebSocket(By::Upgrade)),
            (handshake(&[("upgrade", "h2c, websocket")]), Asked::WebSocket(By::Upgrade)),
            (handshake(&[("upgrade", "h2c"), ("upgrade", "WEBSOCKET")]), Asked::WebSocket(By::Upgrade)),
            (handshake(&[("upgrade", "tcp, websocket")]), Asked::WebSocket(By::Upgrade)),
            (handshake(&[("upgrade", "websocket/13")]), Asked::OtherUpgrade),
            (handshake(&[("connection", "")]), Asked::OtherUpgrade),
            (handshake(&[("connection", "keep-alive")]), Asked::OtherUpgrade),
            (handshake(&[("connection", "upgraded")]), Asked::OtherUpgrade),
            (handshake(&[("upgrade", "h2c")]), Asked::OtherUpgrade),
            (handshake(&[("upgrade", "TLS/1.0")]), Asked::OtherUpgrade),
            (handshake(&[("upgrade", "h2c, TCP")]), tcp(By::Upgrade)),
            (handshake(&[("upgrade", "tcp"), ("connection", "keep-alive")]), Asked::OtherUpgrade),
            (handshake(&[("upgrade", "tcp"), ("content-length", "1")]), Asked::OtherUpgrade),
            (handshake(&[("upgrade", "tcp"), ("transfer-encoding", "chunked")]), Asked::OtherUpgrade),
            (handshake(&[("upgrade", "")]), Asked::Nothing),
            (Request::connect("a:1").body(()).unwrap(), Asked::Nothing),
            (connect("websocket"), Asked::WebSocket(By::ExtendedConnect)),
            (connect("tcp"), tcp(By::ExtendedConnect)),
            (connect("connect-udp"), Asked::OtherConnect),
        ] {
            assert_eq!(Asked::of(&request, &"tcp".parse().unwrap()), expected, "{request:?}");
        }
        assert_eq!(Asked::of(&handshake(&[("upgrade", "tcp")]), &UpgradeProtocols::default()), Asked::OtherUpgrade);
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
    fn an_extended_connect_becomes_a_handshake_that_passes_the_check() {
        let mut request = Request::connect("https://a/chat").version(Version::HTTP_2).body(()).unwrap();
        let accept = add_key(request.headers_mut());
        let switch = Switch::WebSocket { accept: accept.clone() };
        announce(&mut request, &switch, By::ExtendedConnect, true);
        assert_eq!(check(&request), Ok(accept));
        assert_eq!(Asked::of(&request, &UpgradeProtocols::default()), Asked::WebSocket(By::Upgrade));
        for (version, expected) in [("", Ok(())), ("13", Ok(())), ("8", Err(Refusal::UnsupportedVersion))] {
            assert_eq!(check_extended(&handshake(&[("sec-websocket-version", version)])), expected);
        }
        let body = handshake(&[("content-length", "5")]);
        assert_eq!(check_extended(&body), Err(Refusal::BadHandshake(BadHandshake::Body)));
    }
}
