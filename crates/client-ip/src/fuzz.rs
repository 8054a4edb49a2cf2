//! What the fuzzers call: any bytes, and what must hold of them.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};

use crate::resolve::{MAX_HOPS, resolve};
use crate::{Cidr, Source, TrustedProxies};

static TRUSTED: LazyLock<TrustedProxies> = LazyLock::new(|| "10.0.0.0/8, fd00::/8".parse().unwrap_or_default());

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// Whatever forwarding fields say, a stranger is who it is; of a trusted peer's word no more is believed than trusted
/// hops vouch for; and one trusted hop more changes nothing about the client.
pub fn forwarding_fields(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    let field = HeaderName::from_static("cf-connecting-ip");
    let x_forwarded_for = HeaderName::from_static("x-forwarded-for");
    for line in bytes.split(|byte| *byte == b'\n') {
        let Ok(value) = HeaderValue::from_bytes(line) else { continue };
        for name in [&x_forwarded_for, &FORWARDED, &field] {
            headers.append(name, value.clone());
        }
    }
    for source in [Source::XForwardedFor, Source::Forwarded, Source::Header(field), Source::None] {
        let of_stranger = resolve(STRANGER, &headers, &TRUSTED, &source);
        assert_eq!((of_stranger.client, of_stranger.trusted), (STRANGER, None));
        let of_peer = resolve(PEER, &headers, &TRUSTED, &source);
        let trusted = of_peer.trusted.unwrap_or_default();
        let hops = trusted.hops();
        assert!(hops.iter().skip(1).all(|hop| TRUSTED.contains(*hop)), "{hops:?}");
        assert_eq!(of_peer.client, hops.first().copied().unwrap_or(PEER));

        let (name, hop) = match source {
            Source::XForwardedFor => (&x_forwarded_for, "10.9.9.9"),
            Source::Forwarded => (&FORWARDED, "for=10.9.9.9"),
            _ => continue,
        };
        let mut longer = headers.clone();
        longer.append(name, HeaderValue::from_static(hop));
        if (1..MAX_HOPS).contains(&hops.len()) {
            assert_eq!(resolve(PEER, &longer, &TRUSTED, &source).client, of_peer.client);
        }
    }
}

/// A range that can be read can be written, and is the same.
pub fn cidr(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(cidr) = text.parse::<Cidr>() {
        assert_eq!(cidr.to_string().parse(), Ok(cidr));
    }
    let _ = text.parse::<TrustedProxies>();
}

#[cfg(test)]
mod tests {
    use super::*;
    use rproxy_seeds::run;

    const CRATE: &str = env!("CARGO_MANIFEST_DIR");

    #[test]
    fn forwarding_fields_hold_near_their_seeds() {
        run(CRATE, "forwarding_fields", forwarding_fields);
    }

    #[test]
    fn cidr_holds_near_its_seeds() {
        run(CRATE, "cidr", cidr);
    }
}
