//! The decision: from peer and headers to client.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};

use crate::TrustedPeer;
use crate::hops::{self, Hop};
use crate::trusted::TrustedProxies;

/// Which header field of a trusted peer names the hops before it.
///
/// Parses from the name of the field, or `none`; `X-Forwarded-For` and `Forwarded` are the lists, any other holds one
/// address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// `X-Forwarded-For`, the de-facto list.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239), its `for` parameters.
    Forwarded,
    /// One field that holds the client's address alone, such as `CF-Connecting-IP`.
    Header(HeaderName),
    /// No field: a trusted peer is the client, too.
    None,
}

impl FromStr for Source {
    type Err = SourceError;

    fn from_str(name: &str) -> Result<Self, SourceError> {
        if name.eq_ignore_ascii_case("none") {
            return Ok(Self::None);
        }
        match HeaderName::from_bytes(name.as_bytes()) {
            Ok(name) if name == X_FORWARDED_FOR => Ok(Self::XForwardedFor),
            Ok(name) if name == FORWARDED => Ok(Self::Forwarded),
            Ok(name) => Ok(Self::Header(name)),
            Err(_) => Err(SourceError(name.to_owned())),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
            Self::Header(name) => name.as_str(),
            Self::None => "none",
        })
    }
}

/// A [`Source`] that is no name of a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad source {0:?}: neither the name of a header field nor none")]
pub struct SourceError(String);

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What [`resolve`] found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) client: IpAddr,
    /// What a trusted peer vouches for; `None` when the peer is not trusted.
    pub(crate) trusted: Option<TrustedPeer>,
}

/// Finds the client. `peer` has been folded to IPv4 where it was mapped.
pub(crate) fn resolve(peer: IpAddr, headers: &HeaderMap, trusted: &TrustedProxies, source: &Source) -> Resolved {
    if !trusted.contains(peer) {
        return Resolved { client: peer, trusted: None };
    }
    let mut vouched = match source {
        Source::XForwardedFor => walk(hops::of_list(headers, &X_FORWARDED_FOR), trusted),
        Source::Forwarded => walk(hops::of_forwarded(headers), trusted),
        Source::Header(name) => walk(hops::of_list(headers, name).take(1), trusted),
        Source::None => TrustedPeer::default(),
    };
    vouched.hops.reverse();
    Resolved { client: vouched.hops.first().copied().unwrap_or(peer), trusted: Some(vouched) }
}

/// The hops from the nearest to the first that is not trusted, which is the client and the last one
/// to be believed.
///
/// Each element was written by the hop to the right of it, so the element where the walk ends is vouched for as well. Of
/// scheme and host, those nearest to the client count.
fn walk<'a>(nearest_first: impl Iterator<Item = Hop<'a>>, trusted: &TrustedProxies) -> TrustedPeer {
    let mut vouched = TrustedPeer::default();
    for hop in nearest_first.take(MAX_HOPS) {
        if hop.scheme.is_some() {
            vouched.scheme = hop.scheme;
        }
        if let Some(host) = hop.host.and_then(|host| HeaderValue::from_bytes(host).ok()) {
            vouched.host = Some(host);
        }
        let Some(address) = hop.address else { break };
        vouched.hops.push(address);
        if !trusted.contains(address) {
            break;
        }
    }
    vouched
}

/// A client can fill its head with trusted addresses, and each costs its parsing here and its place further on.
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
    fn the_client_is_the_first_hop_from_the_right_that_nobody_vouches_for() {
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
            let resolved = resolve(peer.parse().unwrap(), &headers, &trusted, &Source::XForwardedFor);
            assert_eq!(resolved.client, client.parse::<IpAddr>().unwrap(), "{peer} {line}");
            let expected = hops.map(|hops| hops.iter().map(|hop| hop.parse().unwrap()).collect::<Vec<IpAddr>>());
            assert_eq!(resolved.trusted.map(|trusted| trusted.hops), expected, "{peer} {line}");
        }
    }

    #[test]
    fn a_walk_ends_after_64_trusted_hops() {
        let trusted: TrustedProxies = "10.0.0.0/8".parse().unwrap();
        let line = "10.0.0.1,".repeat(3000) + "10.0.0.2";
        let resolved = resolve("10.0.0.3".parse().unwrap(), &xff(&[line]), &trusted, &Source::XForwardedFor);
        assert_eq!(resolved.client, "10.0.0.1".parse::<IpAddr>().unwrap());
        assert_eq!(resolved.trusted.unwrap().hops.len(), MAX_HOPS);
    }

    #[test]
    fn scheme_and_host_of_forwarded_are_those_of_the_client() {
        let trusted: TrustedProxies = "10.0.0.0/8".parse().unwrap();
        for (line, scheme, host) in [
            ("for=192.0.2.7;proto=https;host=a.example", Some(Scheme::HTTPS), Some("a.example")),
            ("for=192.0.2.7;Proto=\"HTTP\";host=\"a.example:81\"", Some(Scheme::HTTP), Some("a.example:81")),
            // The first proxy's word on the client's request, not the second's on the first one's.
            ("for=192.0.2.7;proto=https;host=a, for=10.0.0.2;proto=http;host=b", Some(Scheme::HTTPS), Some("a")),
            ("for=192.0.2.7, for=10.0.0.2;proto=https;host=b", Some(Scheme::HTTPS), Some("b")),
            // What the client wrote itself is to the left of its address.
            ("for=6.6.6.6;proto=https;host=evil, for=192.0.2.7", None, None),
            ("for=6.6.6.6;proto=https;host=evil, for=192.0.2.7;proto=http", Some(Scheme::HTTP), None),
            ("for=_hidden;proto=https", Some(Scheme::HTTPS), None),
            ("for=192.0.2.7;proto=gopher", None, None),
            ("for=192.0.2.7;proto=https;proto=http", None, None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(FORWARDED, line.parse().unwrap());
            let resolved = resolve("10.0.0.1".parse().unwrap(), &headers, &trusted, &Source::Forwarded);
            let peer = resolved.trusted.unwrap();
            assert_eq!(peer.forwarded_scheme(), scheme.as_ref(), "{line}");
            assert_eq!(peer.forwarded_host().map(|host| host.to_str().unwrap()), host, "{line}");
        }
    }

    #[test]
    fn one_named_header_is_one_hop() {
        let trusted: TrustedProxies = "cloudflare".parse().unwrap();
        let source = Source::Header(HeaderName::from_static("cf-connecting-ip"));
        let mut headers = HeaderMap::new();
        headers.insert("cf-connecting-ip", "192.0.2.7".parse().unwrap());
        headers.insert("x-forwarded-for", "6.6.6.6".parse().unwrap());
        let resolved = resolve("104.16.0.1".parse().unwrap(), &headers, &trusted, &source);
        assert_eq!(resolved.client, "192.0.2.7".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn a_source_is_the_name_of_its_field() {
        for (name, source) in [
            ("X-Forwarded-For", Source::XForwardedFor),
            ("forwarded", Source::Forwarded),
            ("CF-Connecting-IP", Source::Header(HeaderName::from_static("cf-connecting-ip"))),
            ("None", Source::None),
        ] {
            assert_eq!(name.parse::<Source>().unwrap(), source);
            assert_eq!(source.to_string(), name.to_ascii_lowercase());
        }
        assert!("two words".parse::<Source>().unwrap_err().to_string().contains("\"two words\""));
    }

    /// A chain of proxies: the trusted ones in the order in which they wrote, each as it likes to write.
    fn chain(source: &Source, hops: &[(u32, u8)]) -> Vec<String> {
        let client = (CLIENT, 0);
        let hops = hops.iter().map(|(hop, style)| (u32::from(Ipv4Addr::new(10, 0, 0, 0)) | (hop & 0xff_ffff), *style));
        std::iter::once(client)
            .chain(hops)
            .map(|(hop, style)| {
                let address = Ipv4Addr::from_bits(hop);
                match (source, style % 6) {
                    (Source::Forwarded, 0) => format!("for={address}"),
                    (Source::Forwarded, 1) => format!("For=\"{address}:4711\";proto=https"),
                    (Source::Forwarded, 2) => format!("by=_us; for=\"[::ffff:{address}]\""),
                    (Source::Forwarded, 3) => format!("host=\"a\\\",for=6.6.6.6;\\\\\";for={address}"),
                    (Source::Forwarded, 4) => format!("for=\"{address}\";host=\"\""),
                    (Source::Forwarded, _) => format!("proto=http;for={address};x=\"\\\\\\\"\""),
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

    /// What may stand in a field, and what is likely to confuse.
    fn garbage() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![
            4 => proptest::sample::select(&b"\",;\\=,\" []:_"[..]),
            2 => proptest::sample::select(&b"for=10.0.0.1"[..]),
            1 => any::<u8>().prop_filter("allowed in a field", |byte| *byte >= b' ' && *byte != 0x7f),
        ];
        proptest::collection::vec(byte, 0..200)
    }

    proptest! {
        #[test]
        fn garbage_to_the_left_of_the_client_never_changes_the_answer(
            garbage in proptest::collection::vec(garbage(), 0..3),
            hops in proptest::collection::vec(any::<(u32, u8)>(), 0..MAX_HOPS - 1),
            lines in proptest::collection::vec(any::<bool>(), MAX_HOPS),
            forwarded in any::<bool>(),
        ) {
            let source = if forwarded { Source::Forwarded } else { Source::XForwardedFor };
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
        fn an_untrusted_peer_is_the_client_whatever_it_says(lines in proptest::collection::vec(garbage(), 0..3)) {
            let trusted: TrustedProxies = "10.0.0.0/8".parse().unwrap();
            for source in [Source::XForwardedFor, Source::Forwarded, Source::Header(X_FORWARDED_FOR)] {
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
