//! Functions for the fuzz targets: each checks invariants for arbitrary input bytes.

use std::net::{IpAddr, Ipv4Addr};

use http::header::{AUTHORIZATION, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE};
use http::{Method, Request};
use rproxy_client_ip::{ClientIp, PeerAddr, TrustedPeer};

use crate::config::Config;
use crate::forwarded::Forwarded;
use crate::via::Via;
use crate::{forwarding_fields, hop_by_hop, max_forwards};

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// Checks the header fields that a backend receives if the peer sends arbitrary header fields.
///
/// - It gets the proxy's forwarding fields, and no others.
/// - It gets no hop-by-hop fields.
/// - It gets `Host` and `Authorization` unchanged, except for the default port in `Host`.
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
    let config = Config {
        forwarded: (choice & 2 == 2).then(Forwarded::default),
        via: Via::new("rproxy").filter(|_| choice & 4 == 4),
        ..Config::default()
    };
    let before = request.headers().clone();

    hop_by_hop::remove(request.headers_mut(), |_| {});
    let once = request.headers().clone();
    hop_by_hop::remove(request.headers_mut(), |_| {});
    assert_eq!(request.headers(), &once, "removing hop-by-hop fields twice must equal removing them once");
    if forwarding_fields::rebuild(&mut request, &config).is_err() {
        return;
    }
    let after = request.headers();

    let values = |name: &str| after.get_all(name).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>();
    assert_eq!(values("x-forwarded-for"), [b"192.0.2.1"]);
    assert_eq!(values("x-real-ip"), [b"192.0.2.1"]);
    for name in ["x-forwarded-proto", "x-forwarded-port", "x-request-id"] {
        assert_eq!(values(name).len(), 1, "{name}");
    }
    assert_eq!(values("forwarded").len(), usize::from(config.forwarded.is_some()));
    for name in ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "proxy"] {
        assert!(!after.contains_key(name), "{name}");
    }
    assert!(after.get(EXPECT).is_none_or(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue")));
    assert!(after.get(TE).is_none_or(|te| te == "trailers"));
    for name in [HOST, AUTHORIZATION] {
        // The scheme that a trusted peer reports decides about the default port in `Host`.
        assert!(name == HOST && is_trusted || before.get_all(&name).iter().eq(after.get_all(&name).iter()), "{name}");
    }
    let allowed_suffixes = ["for", "proto", "host", "port"];
    for name in after.keys().map(HeaderName::as_str) {
        // The canonical spelling, which CGI-style backends see.
        let canonical: String =
            name.chars().map(|char| if char.is_ascii_alphanumeric() { char } else { '-' }).collect();
        if let Some(suffix) = canonical.strip_prefix("x-forwarded-") {
            assert!(name == canonical && allowed_suffixes.contains(&suffix), "{name}");
        }
        assert!(canonical == name || !["x-real-ip", "x-request-id", "forwarded"].contains(&&*canonical), "{name}");
    }
}

/// Checks that the response to a TRACE request does not contain `Authorization`.
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

/// Parses header fields, one per line.
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
    fn backend_receives_only_forwarding_fields_of_the_proxy_for_mutated_seeds() {
        run(CRATE, "request_fields", request_fields);
    }

    #[test]
    fn trace_response_contains_no_credentials_for_mutated_seeds() {
        run(CRATE, "max_forwards", super::max_forwards);
    }
}
