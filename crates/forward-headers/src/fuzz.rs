//! What the fuzzers call: any bytes, and what must hold of them.

use std::net::{IpAddr, Ipv4Addr};

use http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue, TE};
use http::{Method, Request};
use rproxy_client_ip::{ClientIp, PeerAddr, TrustedPeer};

use crate::forwarded::Forwarded;
use crate::layer::Settings;
use crate::via::Via;
use crate::{forwarding, hop_by_hop, max_forwards};

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// Whatever a peer says, the backend gets the proxy's own forwarding fields and no others, and nothing that is about the
/// connection; what is for the backend arrives.
pub fn request_fields(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let mut request = Request::new(());
    *request.headers_mut() = fields(bytes);
    request.extensions_mut().insert(PeerAddr((PEER, 1234).into()));
    request.extensions_mut().insert(ClientIp(PEER));
    let is_trusted = choice & 1 == 1;
    if is_trusted {
        request.extensions_mut().insert(TrustedPeer::default());
    }
    let settings = Settings {
        forwarded: (choice & 2 == 2).then(Forwarded::default),
        via: Via::new("rproxy").filter(|_| choice & 4 == 4),
        ..Settings::default()
    };
    let before = request.headers().clone();

    let seen = hop_by_hop::remove(request.headers_mut());
    let once = request.headers().clone();
    hop_by_hop::remove(request.headers_mut());
    assert_eq!(request.headers(), &once, "removing twice is removing once");
    if forwarding::rebuild(&mut request, &settings, seen).is_err() {
        return;
    }
    let after = request.headers();

    let only = |name: &str| after.get_all(name).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>();
    assert_eq!(only("x-forwarded-for"), [b"192.0.2.1"]);
    assert_eq!(only("x-real-ip"), [b"192.0.2.1"]);
    for name in ["x-forwarded-proto", "x-forwarded-port", "x-request-id"] {
        assert_eq!(only(name).len(), 1, "{name}");
    }
    assert_eq!(only("forwarded").len(), usize::from(settings.forwarded.is_some()));
    for name in ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "proxy", "expect"] {
        assert!(!after.contains_key(name), "{name}");
    }
    assert!(after.get(TE).is_none_or(|te| te == "trailers"));
    for name in [HOST, AUTHORIZATION] {
        // A trusted peer names the scheme by which the port of `Host` may go.
        assert!(name == HOST && is_trusted || before.get_all(&name).iter().eq(after.get_all(&name).iter()), "{name}");
    }
    let ours = ["for", "proto", "host", "port"];
    for name in after.keys().map(HeaderName::as_str) {
        // As programs that make variables of them see it.
        let seen: String = name.chars().map(|char| if char.is_ascii_alphanumeric() { char } else { '-' }).collect();
        if let Some(what) = seen.strip_prefix("x-forwarded-") {
            assert!(name == seen && ours.contains(&what), "{name}");
        }
        assert!(seen == name || !["x-real-ip", "x-request-id", "forwarded"].contains(&&*seen), "{name}");
    }
}

/// The answer to a TRACE names no secret, and a count goes down.
pub fn max_forwards(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let mut request = Request::new(());
    *request.method_mut() = if choice & 1 == 0 { Method::TRACE } else { Method::OPTIONS };
    *request.headers_mut() = fields(bytes);
    request.headers_mut().insert(AUTHORIZATION, HeaderValue::from_static("Basic c2VjcmV0"));
    if let max_forwards::Recipient::Trace(text) = max_forwards::count_down(&mut request) {
        assert!(!text.contains("c2VjcmV0"));
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
    fn request_fields_hold_near_their_seeds() {
        run(CRATE, "request_fields", request_fields);
    }

    #[test]
    fn max_forwards_holds_near_its_seeds() {
        run(CRATE, "max_forwards", super::max_forwards);
    }
}
