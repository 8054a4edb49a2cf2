//! What the fuzzers call: any bytes, and what must hold of them.

use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{Request, Version};

use crate::WsOrigins;
use crate::frames::FrameTracker;
use crate::handshake::{self, Asked, By};
use crate::protocols::UpgradeProtocols;
use crate::switch::Switch;

/// However the bytes of a tunnel come in, the same frames and messages are seen in them; and what comes before a boundary
/// is at one.
pub fn frames(bytes: &[u8]) {
    let Some((piece, bytes)) = bytes.split_first() else { return };
    let mut whole = FrameTracker::new();
    whole.advance(bytes);
    let mut cut = FrameTracker::new();
    for part in bytes.chunks(usize::from(*piece).max(1)) {
        cut.advance(part);
    }
    assert_eq!(format!("{whole:?}"), format!("{cut:?}"));
    assert!(whole.closed() || whole.close_code().is_none());

    let mut rest = FrameTracker::new();
    let middle = bytes.len() / 2;
    rest.advance(&bytes[..middle]);
    let taken = rest.advance_to_boundary(&bytes[middle..]);
    assert!(taken <= bytes.len() - middle);
    assert!(rest.at_boundary() || middle + taken == bytes.len());
    if rest.at_boundary() && !rest.closed() {
        // A Close that is put in here is read as one.
        rest.advance(&[0x88, 2, 0x03, 0xe8]);
        assert_eq!(rest.close_code(), Some(1000));
    }
}

/// A handshake is refused, or has what RFC 6455 §4.2.1 wants; afterwards nothing of the switch is left but what the
/// proxy itself puts there.
pub fn handshake(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let mut request = Request::new(());
    *request.version_mut() = if choice & 1 == 0 { Version::HTTP_11 } else { Version::HTTP_2 };
    *request.headers_mut() = fields(bytes);
    let allowed = "tls, postgres".parse::<UpgradeProtocols>().unwrap_or_default();
    let asked = Asked::of(&request, &allowed);
    let checked = handshake::check(&request);
    let _ = handshake::check_extended(&request);
    if let Ok(accept) = &checked {
        assert_eq!(request.headers().get_all(SEC_WEBSOCKET_KEY).iter().count(), 1);
        assert_eq!(accept.len(), 28);
        assert_ne!(asked, Asked::WebSocket(By::ExtendedConnect));
        let mut answer = request.headers().clone();
        let switch = Switch::WebSocket { accept: accept.clone() };
        switch.to_client(&mut answer, By::Upgrade);
        assert!(switch.is_accepted(&answer, None));
    }
    let origins: Result<WsOrigins, _> = "https://a.example, https://*.b.example".parse();
    if let Ok(origins) = origins {
        let _ = origins.allow(&request);
    }
    let switch = Switch::WebSocket { accept: String::new() };
    handshake::announce(&mut request, &switch, By::Upgrade, choice & 2 == 2);
    let is = |name: HeaderName, word: &str| request.headers().get_all(name).iter().any(|line| line == word);
    assert_eq!(is(UPGRADE, "websocket"), choice & 2 == 2);
    assert_eq!(request.headers().get_all(UPGRADE).iter().count(), usize::from(choice & 2 == 2));
    let headers = request.headers_mut();
    handshake::forget_upgrade(headers);
    let mut options = headers.get_all(CONNECTION).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    assert!(options.all(|option| !option.trim_ascii().eq_ignore_ascii_case(b"upgrade")));
}

/// A list of origins is refused, or can be asked.
pub fn origins(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let (list, origin) = text.split_once('\n').unwrap_or((text, "https://a.example"));
    let Ok(origins) = list.parse::<WsOrigins>() else { return };
    let mut request = Request::new(());
    if let Ok(origin) = HeaderValue::from_str(origin) {
        request.headers_mut().insert("origin", origin);
        let _ = origins.allow(&request);
    }
}

/// A field on each line.
fn fields(bytes: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = (&line[..colon], line.get(colon + 1..).unwrap_or_default().trim_ascii());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use rproxy_seeds::run;

    const CRATE: &str = env!("CARGO_MANIFEST_DIR");

    #[test]
    fn frames_hold_near_their_seeds() {
        run(CRATE, "frames", frames);
    }

    #[test]
    fn handshake_holds_near_its_seeds() {
        run(CRATE, "handshake", super::handshake);
    }

    #[test]
    fn origins_hold_near_their_seeds() {
        run(CRATE, "origins", origins);
    }
}
