//! Determines the client's address from the TCP peer address and the forwarding fields.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};

use crate::extensions::TrustedPeer;
use crate::forwarded;
use crate::hops::{self, Hop};
use crate::trusted_proxies::TrustedProxies;

/// The header field in which trusted proxies report the client's address.
///
/// It parses from the name of the field, or from `none`.
///
/// # Examples
///
/// ```
/// use rproxy_client_ip::ClientIpSource;
///
/// assert_eq!("Forwarded".parse(), Ok(ClientIpSource::Forwarded));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientIpSource {
    /// `X-Forwarded-For`, a list of addresses.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239), a list of elements whose `for` parameter is an address.
    Forwarded,
    /// A header field that contains only the client's address, such as `CF-Connecting-IP`.
    Header(HeaderName),
    /// No header field: the TCP peer is always the client.
    None,
}

impl FromStr for ClientIpSource {
    type Err = ClientIpSourceError;

    fn from_str(name: &str) -> Result<Self, ClientIpSourceError> {
        if name.eq_ignore_ascii_case("none") {
            return Ok(Self::None);
        }
        match HeaderName::from_bytes(name.as_bytes()) {
            Ok(name) if name == X_FORWARDED_FOR => Ok(Self::XForwardedFor),
            Ok(name) if name == FORWARDED => Ok(Self::Forwarded),
            Ok(name) => Ok(Self::Header(name)),
            Err(_) => Err(ClientIpSourceError(name.to_owned())),
        }
    }
}

impl fmt::Display for ClientIpSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
            Self::Header(name) => name.as_str(),
            Self::None => "none",
        })
    }
}

/// The error for text that cannot be parsed as a [`ClientIpSource`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad client IP source {0:?}: not a header field name")]
pub struct ClientIpSourceError(String);

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The client's address, and the forwarding data that a trusted peer reported.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) client: IpAddr,
    /// The forwarding data that the peer reported, or `None` if the peer is not trusted.
    pub(crate) trusted: Option<TrustedPeer>,
}

/// Determines the client's address from the TCP peer and the forwarding fields.
///
/// `peer` must be in canonical form: IPv4 if it was IPv4-mapped.
pub(crate) fn resolve(
    peer: IpAddr,
    headers: &HeaderMap,
    trusted: &TrustedProxies,
    source: &ClientIpSource,
) -> Resolved {
    if !trusted.contains(peer) {
        return Resolved { client: peer, trusted: None };
    }
    let mut reported = match source {
        ClientIpSource::XForwardedFor => walk(hops::from_list(headers, &X_FORWARDED_FOR), trusted),
        ClientIpSource::Forwarded => walk(forwarded::hops(headers), trusted),
        ClientIpSource::Header(name) => walk(hops::from_list(headers, name).take(1), trusted),
        ClientIpSource::None => TrustedPeer::default(),
    };
    reported.hops.reverse();
    reported.lacks_client = reported.hops.is_empty() && *source != ClientIpSource::None;
    Resolved { client: reported.hops.first().copied().unwrap_or(peer), trusted: Some(reported) }
}

/// Collects the hops from right to left, up to and including the first untrusted hop: the client.
///
/// Each element was written by the hop to its right, so the last element that is collected was written by a trusted hop as
/// well. The scheme and host of the element nearest to the client are used.
fn walk<'a>(nearest_first: impl Iterator<Item = Hop<'a>>, trusted: &TrustedProxies) -> TrustedPeer {
    let mut reported = TrustedPeer::default();
    for hop in nearest_first.take(MAX_HOPS) {
        if hop.scheme.is_some() {
            reported.scheme = hop.scheme;
        }
        if let Some(host) = hop.host.and_then(|host| HeaderValue::from_bytes(&host).ok()) {
            reported.host = Some(host);
        }
        let Some(address) = hop.address else { break };
        reported.hops.push(address);
        if !trusted.contains(address) {
            break;
        }
    }
    reported
}

/// The maximum number of hops that are read from the forwarding fields of a request.
///
/// Without it, a client could fill its request head with trusted addresses, each of which costs time and is forwarded.
pub(crate) const MAX_HOPS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use http::uri::Scheme;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    fn xff(lines: &[String]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        headers
    }

    #[test]
    fn client_is_the_first_untrusted_hop_from_the_right() {
        let trusted: TrustedProxies = "10.0.0.0/8, fd00::/8".parse().unwrap();
        for (peer, line, client, hops) in [
            ("192.0.2.1", "6.6.6.6", "192.0.2.1", None),
            ("10.0.0.1", "", "10.0.0.1", Some(&[][..])),
            ("10.0.0.1", "192.0.2.1", "192.0.2.1", Some(&["192.0.2.1"][..])),
            ("10.0.0.1", "6.6.6.6, 192.0.2.1", "192.0.2.1", Some(&["192.0.2.1"])),
            ("10.0.0.1", "192.0.2.1, 10.0.0.2", "192.0.2.1", Some(&["192.0.2.1", "10.0.0.2"])),
            ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3", Some(&["10.0.0.3", "10.0.0.2"])),
            ("10.0.0.1", "192.0.2.1, garbage, 10.0.0.2", "10.0.0.2", Some(&["10.0.0.2"])),
            ("fd00::1", "2001:db8::7", "2001:db8::7", Some(&["2001:db8::7"])),
        ] {
            let headers = if line.is_empty() { HeaderMap::new() } else { xff(&[line.into()]) };
            let resolved = resolve(peer.parse().unwrap(), &headers, &trusted, &ClientIpSource::XForwardedFor);
            assert_eq!(resolved.client, client.parse::<IpAddr>().unwrap(), "{peer} {line}");
            let expected = hops.map(|hops| hops.iter().map(|hop| hop.parse().unwrap()).collect::<Vec<IpAddr>>());
            assert_eq!(resolved.trusted.map(|trusted| trusted.hops), expected, "{peer} {line}");
        }
    }

    #[test]
    fn reports_a_missing_client_address_if_the_source_field_has_no_address() {
        let trusted: TrustedProxies = "10.0.0.0/8".parse().unwrap();
        for (source, line, expected) in [
            ("x-forwarded-for", "192.0.2.1", false),
            ("x-forwarded-for", "unknown", true),
            ("forwarded", "192.0.2.1", true),
            ("cf-connecting-ip", "192.0.2.1", true),
            ("none", "192.0.2.1", false),
        ] {
            let resolved =
                resolve("10.0.0.1".parse().unwrap(), &xff(&[line.into()]), &trusted, &source.parse().unwrap());
            assert_eq!(resolved.trusted.unwrap().lacks_client(), expected, "{source} {line}");
        }
    }

    #[test]
    fn examines_at_most_64_trusted_hops() {
        let trusted: TrustedProxies = "10.0.0.0/8".parse().unwrap();
        let line = "10.0.0.1,".repeat(3000) + "10.0.0.2";
        let resolved = resolve("10.0.0.3".parse().unwrap(), &xff(&[line]), &trusted, &ClientIpSource::XForwardedFor);
        assert_eq!(resolved.client, "10.0.0.1".parse::<IpAddr>().unwrap());
        assert_eq!(resolved.trusted.unwrap().hops.len(), MAX_HOPS);
    }

    #[test]
    fn uses_scheme_and_host_of_the_forwarded_element_nearest_to_the_client() {
        let trusted: TrustedProxies = "10.0.0.0/8".parse().unwrap();
        for (line, scheme, host) in [
            ("for=192.0.2.7;proto=https;host=a.example", Some(Scheme::HTTPS), Some("a.example")),
            ("for=192.0.2.7;Proto=\"HTTP\";host=\"a.example:81\"", Some(Scheme::HTTP), Some("a.example:81")),
            // The first proxy describes the client's request, the second one describes the first proxy's.
            ("for=192.0.2.7;proto=https;host=a, for=10.0.0.2;proto=http;host=b", Some(Scheme::HTTPS), Some("a")),
            ("for=192.0.2.7, for=10.0.0.2;proto=https;host=b", Some(Scheme::HTTPS), Some("b")),
            // The client wrote the elements to the left of its address.
            ("for=6.6.6.6;proto=https;host=evil, for=192.0.2.7", None, None),
            ("for=6.6.6.6;proto=https;host=evil, for=192.0.2.7;proto=http", Some(Scheme::HTTP), None),
            ("for=_hidden;proto=https", Some(Scheme::HTTPS), None),
            ("for=192.0.2.7;proto=gopher", None, None),
            ("for=192.0.2.7;proto=https;proto=http", None, None),
            ("for=192.0.2.7;proto=https;host=a, for=10.0.0.2;proto=http;host=b;x", None, None),
            (
                "for=192.0.2.7;proto=https;host=a, garbage, for=10.0.0.2;proto=http;host=b",
                Some(Scheme::HTTP),
                Some("b"),
            ),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(FORWARDED, line.parse().unwrap());
            let resolved = resolve("10.0.0.1".parse().unwrap(), &headers, &trusted, &ClientIpSource::Forwarded);
            let peer = resolved.trusted.unwrap();
            assert_eq!(peer.forwarded_scheme(), scheme.as_ref(), "{line}");
            assert_eq!(peer.forwarded_host().map(|host| host.to_str().unwrap()), host, "{line}");
        }
    }

    #[test]
    fn single_address_field_is_read_as_one_hop() {
        let trusted: TrustedProxies = "cloudflare".parse().unwrap();
        let source = ClientIpSource::Header(HeaderName::from_static("cf-connecting-ip"));
        let mut headers = HeaderMap::new();
        headers.insert("cf-connecting-ip", "192.0.2.7".parse().unwrap());
        headers.insert("x-forwarded-for", "6.6.6.6".parse().unwrap());
        let resolved = resolve("104.16.0.1".parse().unwrap(), &headers, &trusted, &source);
        assert_eq!(resolved.client, "192.0.2.7".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn client_ip_source_round_trips_through_its_field_name() {
        for (name, source) in [
            ("X-Forwarded-For", ClientIpSource::XForwardedFor),
            ("forwarded", ClientIpSource::Forwarded),
            ("CF-Connecting-IP", ClientIpSource::Header(HeaderName::from_static("cf-connecting-ip"))),
            ("None", ClientIpSource::None),
        ] {
            assert_eq!(name.parse::<ClientIpSource>().unwrap(), source);
            assert_eq!(source.to_string(), name.to_ascii_lowercase());
        }
        assert!("two words".parse::<ClientIpSource>().unwrap_err().to_string().contains("\"two words\""));
    }

    /// Generates the list elements of a client and a chain of trusted proxies, in several notations.
    fn chain(source: &ClientIpSource, hops: &[(u32, u8)]) -> Vec<String> {
        let client = (CLIENT, 0);
        let hops = hops.iter().map(|(hop, style)| (u32::from(Ipv4Addr::new(10, 0, 0, 0)) | (hop & 0xff_ffff), *style));
        std::iter::once(client)
            .chain(hops)
            .map(|(hop, style)| {
                let address = Ipv4Addr::from_bits(hop);
                match (source, style % 6) {
                    (ClientIpSource::Forwarded, 0) => format!("for={address}"),
                    (ClientIpSource::Forwarded, 1) => format!("For=\"{address}:4711\";proto=https"),
                    (ClientIpSource::Forwarded, 2) => format!("by=_us; for=\"[::ffff:{address}]\""),
                    (ClientIpSource::Forwarded, 3) => format!("host=\"a\\\",for=6.6.6.6;\\\\\";for={address}"),
                    (ClientIpSource::Forwarded, 4) => format!("for=\"{address}\";host=\"\""),
                    (ClientIpSource::Forwarded, _) => format!("proto=http;for={address};x=\"\\\\\\\"\""),
                    (_, 1) => format!("{address}:4711"),
                    (_, 2) => format!("::ffff:{address}"),
                    (_, 3) => format!("[::ffff:{address}]:4711"),
                    (_, 4) => format!("  {address}\t"),
                    _ => address.to_string(),
                }
            })
            .collect()
    }

    const CLIENT: u32 = u32::from_be_bytes([192, 0, 2, 33]);

    /// Generates field values that contain many delimiters of lists and quoted-strings.
    fn garbage() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![
            4 => proptest::sample::select(&b"\",;\\=,\" []:_"[..]),
            2 => proptest::sample::select(&b"for=10.0.0.1"[..]),
            1 => any::<u8>().prop_filter("allowed in a field value", |byte| *byte >= b' ' && *byte != 0x7f),
        ];
        proptest::collection::vec(byte, 0..200)
    }

    proptest! {
        #[test]
        fn list_elements_left_of_the_client_never_change_the_result(
            garbage in proptest::collection::vec(garbage(), 0..3),
            hops in proptest::collection::vec(any::<(u32, u8)>(), 0..MAX_HOPS - 1),
            lines in proptest::collection::vec(any::<bool>(), MAX_HOPS),
            forwarded in any::<bool>(),
        ) {
            let source = if forwarded { ClientIpSource::Forwarded } else { ClientIpSource::XForwardedFor };
            let trusted: TrustedProxies = "10.0.0.0/8".parse().unwrap();
            let mut values = garbage;
            for (element, new_line) in chain(&source, &hops).into_iter().zip(lines.into_iter().cycle()) {
                match values.last_mut() {
                    Some(line) if !new_line => line.extend_from_slice(format!(", {element}").as_bytes()),
                    _ => values.push(element.into_bytes()),
                }
            }
            let mut headers = HeaderMap::new();
            for value in &values {
                headers.append(source.to_string().parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value).unwrap());
            }
            let resolved = resolve("10.1.1.1".parse().unwrap(), &headers, &trusted, &source);
            prop_assert_eq!(resolved.client, IpAddr::from(Ipv4Addr::from_bits(CLIENT)));
            prop_assert_eq!(resolved.trusted.unwrap().hops.len(), hops.len() + 1);
        }

        #[test]
        fn untrusted_peer_is_client_regardless_of_forwarding_fields(lines in proptest::collection::vec(garbage(), 0..3)) {
            let trusted: TrustedProxies = "10.0.0.0/8".parse().unwrap();
            for source in [ClientIpSource::XForwardedFor, ClientIpSource::Forwarded, ClientIpSource::Header(X_FORWARDED_FOR)] {
                let mut headers = HeaderMap::new();
                for line in &lines {
                    for name in [X_FORWARDED_FOR, FORWARDED] {
                        headers.append(name, HeaderValue::from_bytes(line).unwrap());
                    }
                }
                let resolved = resolve("192.0.2.1".parse().unwrap(), &headers, &trusted, &source);
                prop_assert_eq!(resolved, Resolved { client: "192.0.2.1".parse().unwrap(), trusted: None });
            }
        }
    }
}
