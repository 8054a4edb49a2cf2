//! Functions for the fuzz targets: each checks invariants for arbitrary input bytes.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};

use crate::resolve::{MAX_HOPS, resolve};
use crate::{Cidr, ClientIpSource, TrustedProxies};

static TRUSTED: LazyLock<TrustedProxies> = LazyLock::new(|| "10.0.0.0/8, fd00::/8".parse().unwrap_or_default());

const TRUSTED_PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const UNTRUSTED_PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// Checks invariants of the client address for arbitrary values of the forwarding fields.
///
/// - An untrusted peer is the client.
/// - All hops of a trusted peer except the client are trusted.
/// - One more trusted hop does not change the client.
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
    for source in
        [ClientIpSource::XForwardedFor, ClientIpSource::Forwarded, ClientIpSource::Header(field), ClientIpSource::None]
    {
        let from_untrusted = resolve(UNTRUSTED_PEER, &headers, &TRUSTED, &source);
        assert_eq!((from_untrusted.client, from_untrusted.trusted), (UNTRUSTED_PEER, None));
        let from_trusted = resolve(TRUSTED_PEER, &headers, &TRUSTED, &source);
        let trusted = from_trusted.trusted.unwrap_or_default();
        let hops = trusted.hops();
        assert!(hops.iter().skip(1).all(|hop| TRUSTED.contains(*hop)), "{hops:?}");
        assert_eq!(from_trusted.client, hops.first().copied().unwrap_or(TRUSTED_PEER));

        let (name, hop) = match source {
            ClientIpSource::XForwardedFor => (&x_forwarded_for, "10.9.9.9"),
            ClientIpSource::Forwarded => (&FORWARDED, "for=10.9.9.9"),
            _ => continue,
        };
        let mut longer = headers.clone();
        longer.append(name, HeaderValue::from_static(hop));
        if (1..MAX_HOPS).contains(&hops.len()) {
            assert_eq!(resolve(TRUSTED_PEER, &longer, &TRUSTED, &source).client, from_trusted.client);
        }
    }
}

/// Checks that the text form of a parsed CIDR parses to the same CIDR.
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
    fn untrusted_fields_never_change_the_client_for_mutated_seeds() {
        run(CRATE, "forwarding_fields", forwarding_fields);
    }

    #[test]
    fn cidrs_round_trip_for_mutated_seeds() {
        run(CRATE, "cidr", cidr);
    }
}
