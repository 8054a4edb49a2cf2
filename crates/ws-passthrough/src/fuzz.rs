//! The fuzz targets of this crate; each function accepts any bytes and checks invariants.

use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{Request, Version};

use crate::WsOrigins;
use crate::frame_tracker::FrameTracker;
use crate::handshake::{self, UpgradeMethod, UpgradeRequest};
use crate::protocol_switch::ProtocolSwitch;
use crate::upgrade_protocols::UpgradeProtocols;

/// Checks that read boundaries do not change the parsed frames, and that parsing stops at a message boundary.
///
/// The first byte is the size of the chunks.
pub fn frames(bytes: &[u8]) {
    let Some((chunk_size, bytes)) = bytes.split_first() else { return };
    let mut whole = FrameTracker::new();
    whole.advance(bytes);
    let mut chunked = FrameTracker::new();
    for chunk in bytes.chunks(usize::from(*chunk_size).max(1)) {
        chunked.advance(chunk);
    }
    assert_eq!(format!("{whole:?}"), format!("{chunked:?}"));
    assert!(whole.has_close() || whole.close_code().is_none());

    let mut frames = FrameTracker::new();
    let middle = bytes.len() / 2;
    frames.advance(&bytes[..middle]);
    let parsed = frames.advance_to_boundary(&bytes[middle..]);
    assert!(parsed <= bytes.len() - middle);
    assert!(frames.is_at_boundary() || middle + parsed == bytes.len());
    if frames.is_at_boundary() && !frames.has_close() {
        // A Close that is inserted at a boundary is parsed as one.
        frames.advance(&[0x88, 2, 0x03, 0xe8]);
        assert_eq!(frames.close_code(), Some(1000));
    }
}

/// Checks the validation and the rewriting of WebSocket handshakes with any header fields.
///
/// - A handshake that is accepted has one key, and its `Sec-WebSocket-Accept` is accepted in a response.
/// - The rewritten request has `Upgrade` only if it is configured.
pub fn handshake(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let mut request = Request::new(());
    *request.version_mut() = if choice & 1 == 0 { Version::HTTP_11 } else { Version::HTTP_2 };
    *request.headers_mut() = fields(bytes);
    let allowed = "tls, postgres".parse::<UpgradeProtocols>().unwrap_or_default();
    let upgrade = UpgradeRequest::parse(&request, &allowed);
    let accept = handshake::check_http1(&request);
    let _ = handshake::check_extended_connect(&request);
    if let Ok(accept) = &accept {
        assert_eq!(request.headers().get_all(SEC_WEBSOCKET_KEY).iter().count(), 1);
        assert_eq!(accept.len(), 28);
        assert_ne!(upgrade, UpgradeRequest::WebSocket(UpgradeMethod::ExtendedConnect));
        let mut response = request.headers().clone();
        let switch = ProtocolSwitch::WebSocket { accept: accept.clone() };
        switch.rewrite_response(&mut response, UpgradeMethod::Upgrade);
        assert!(switch.is_accepted(&response, None));
    }
    let origins: Result<WsOrigins, _> = "https://a.example, https://*.b.example".parse();
    if let Ok(origins) = origins {
        let _ = origins.allow(&request);
    }
    let switch = ProtocolSwitch::WebSocket { accept: String::new() };
    let keep_fields = choice & 2 == 2;
    handshake::rewrite_request(&mut request, &switch, UpgradeMethod::Upgrade, keep_fields);
    let has_line = |name: HeaderName, text: &str| request.headers().get_all(name).iter().any(|line| line == text);
    assert_eq!(has_line(UPGRADE, "websocket"), keep_fields);
    assert_eq!(request.headers().get_all(UPGRADE).iter().count(), usize::from(keep_fields));
    let headers = request.headers_mut();
    handshake::remove_upgrade(headers);
    let mut options = headers.get_all(CONNECTION).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    assert!(options.all(|option| !option.trim_ascii().eq_ignore_ascii_case(b"upgrade")));
}

/// Checks that matching any origin against any valid list of origins does not panic.
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

/// Parses header fields, one field per line.
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
    fn frames_fuzz_target_passes_on_the_mutated_corpus() {
        run(CRATE, "frames", frames);
    }

    #[test]
    fn handshake_fuzz_target_passes_on_the_mutated_corpus() {
        run(CRATE, "handshake", super::handshake);
    }

    #[test]
    fn origins_fuzz_target_passes_on_the_mutated_corpus() {
        run(CRATE, "origins", origins);
    }
}
