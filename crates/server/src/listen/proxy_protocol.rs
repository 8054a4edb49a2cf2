//! The PROXY protocol, versions 1 and 2, by which a load balancer sends the address of the client.

use std::io;
use std::net::{IpAddr, SocketAddr};

use ppp::{HeaderResult, PartialResult};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The accepted versions of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyProtocolVersions {
    /// Version 1 of the PROXY protocol, with a text header.
    V1,
    /// Version 2 of the PROXY protocol, with a binary header.
    V2,
    /// Versions 1 and 2 of the PROXY protocol.
    Any,
}

/// Reads exactly the PROXY protocol header from the stream, and returns the address of the client.
///
/// Returns `None` for the load balancer's own connections (`LOCAL`, `UNKNOWN`), such as health checks.
pub(crate) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    versions: ProxyProtocolVersions,
) -> io::Result<Option<SocketAddr>> {
    // Headers of both versions are at least this long, and differ within these bytes.
    let mut header = vec![0; V2_SIGNATURE.len()];
    stream.read_exact(&mut header).await?;
    if header == V2_SIGNATURE && versions != ProxyProtocolVersions::V1 {
        let mut rest = [0; 4];
        stream.read_exact(&mut rest).await?;
        header.extend_from_slice(&rest);
        let length = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
        if length > V2_MAX {
            return Err(invalid("PROXY protocol v2 header too long"));
        }
        header.resize(header.len() + length, 0);
        stream.read_exact(&mut header[16..]).await?;
    } else if header.starts_with(b"PROXY ") && versions != ProxyProtocolVersions::V2 {
        while !header.ends_with(b"\r\n") {
            if header.len() >= V1_MAX {
                return Err(invalid("PROXY protocol v1 header too long"));
            }
            header.push(stream.read_u8().await?);
        }
    } else {
        return Err(invalid("not a PROXY protocol header of an accepted version"));
    }
    let parsed = HeaderResult::parse(&header);
    if parsed.is_incomplete() {
        return Err(invalid("incomplete header"));
    }
    match parsed {
        HeaderResult::V1(Ok(header)) => Ok(match header.addresses {
            ppp::v1::Addresses::Tcp4(tcp) => Some(socket(tcp.source_address.into(), tcp.source_port)),
            ppp::v1::Addresses::Tcp6(tcp) => Some(socket(tcp.source_address.into(), tcp.source_port)),
            ppp::v1::Addresses::Unknown => None,
        }),
        HeaderResult::V2(Ok(header)) => Ok(match (header.command, header.addresses) {
            (ppp::v2::Command::Proxy, ppp::v2::Addresses::IPv4(ip)) => {
                Some(socket(ip.source_address.into(), ip.source_port))
            }
            (ppp::v2::Command::Proxy, ppp::v2::Addresses::IPv6(ip)) => {
                Some(socket(ip.source_address.into(), ip.source_port))
            }
            _ => None,
        }),
        HeaderResult::V1(Err(_)) => Err(invalid("malformed PROXY protocol v1 header")),
        HeaderResult::V2(Err(_)) => Err(invalid("malformed PROXY protocol v2 header")),
    }
}

fn socket(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip.to_canonical(), port)
}

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

const V2_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// The maximum length of a PROXY protocol v1 header in the specification.
const V1_MAX: usize = 107;

/// The maximum length of a PROXY protocol v2 header, enough for the addresses and many TLVs.
const V2_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    async fn parse(bytes: &[u8]) -> Result<(Option<String>, usize), String> {
        let mut rest = bytes;
        let source = read(&mut rest, ProxyProtocolVersions::Any).await.map_err(|error| error.to_string())?;
        Ok((source.map(|source| source.to_string()), rest.len()))
    }

    #[tokio::test]
    async fn reads_the_source_address_and_nothing_after_the_proxy_protocol_header() {
        let v2 = |command: u8, family: u8, body: &[u8]| {
            let length = (body.len() as u16).to_be_bytes();
            [&V2_SIGNATURE[..], &[0x20 | command, family], &length, body, b"GET"].concat()
        };
        let v4 = [192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x34, 0, 80];
        let with_tlv = [&v4[..], &[0x04, 0, 1, 0]].concat();
        for (bytes, source) in [
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 80\r\nGET".to_vec(), Some("192.0.2.1:4660")),
            (b"PROXY TCP6 2001:db8::1 ::1 4660 80\r\nGET".to_vec(), Some("[2001:db8::1]:4660")),
            (b"PROXY UNKNOWN\r\nGET".to_vec(), None),
            (v2(1, 0x11, &v4), Some("192.0.2.1:4660")),
            (v2(1, 0x11, &with_tlv), Some("192.0.2.1:4660")),
            (v2(0, 0x00, &[]), None),
        ] {
            assert_eq!(parse(&bytes).await, Ok((source.map(String::from), 3)), "{}", bytes.escape_ascii());
        }
    }

    #[tokio::test]
    async fn rejects_malformed_and_oversized_proxy_protocol_headers() {
        for bytes in [
            &b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..],
            b"PROXY TCP4 192.0.2.1\r\n\r\n\r\n",
            b"PROXY TCP4 192.0.2.300 10.0.0.1 1 2\r\n",
            b"PROXY ",
            &[b"PROXY UNKNOWN".as_slice(), &[b'x'; 200]].concat(),
            &[&V2_SIGNATURE[..], &[0x21, 0x11, 0xff, 0xff]].concat(),
            &[&V2_SIGNATURE[..], &[0x21, 0x11, 0, 2, 1, 2]].concat(),
        ] {
            assert!(parse(bytes).await.is_err(), "{}", bytes.escape_ascii());
        }
    }

    /// Builds a PROXY protocol v2 header. The body holds addresses and TLVs.
    fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u16).to_be_bytes();
        [&V2_SIGNATURE[..], &[0x20 | command, family], &length, body].concat()
    }

    fn parse_now(bytes: &[u8]) -> Result<(Option<String>, usize), String> {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(parse(bytes))
    }

    proptest! {
        #[test]
        fn reading_a_proxy_protocol_header_never_panics(
            signature in prop_oneof![Just(&V2_SIGNATURE[..]), Just(&b"PROXY "[..]), Just(&b""[..])],
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = parse_now(&[signature, &bytes].concat());
        }

        #[test]
        fn proxy_protocol_tlvs_do_not_change_the_source_address(
            ip in any::<[u8; 4]>(),
            port in any::<u16>(),
            // Types and values. The last one may have a wrong length.
            tlvs in proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..30)), 0..6),
            wrong_length in proptest::option::of(any::<u16>()),
            rest in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let tlvs = tlvs.iter().flat_map(|(kind, value)| {
                [&[*kind][..], &(value.len() as u16).to_be_bytes(), value].concat()
            });
            let mut body = [&ip[..], &[10, 0, 0, 1], &port.to_be_bytes(), &[0, 80]].concat();
            body.extend(tlvs);
            body.extend(wrong_length.iter().flat_map(|length| [&[4][..], &length.to_be_bytes()].concat()));
            let header = binary(1, 0x11, &body);

            let source = SocketAddr::from((ip, port)).to_string();
            prop_assert_eq!(parse_now(&[&header[..], &rest].concat()), Ok((Some(source), rest.len())));
        }

        #[test]
        fn rejects_a_truncated_proxy_protocol_header(at in 0usize..28) {
            let header = binary(1, 0x11, &[192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x34, 0, 80]);
            prop_assert!(parse_now(&header[..at]).is_err());
        }
    }
}
