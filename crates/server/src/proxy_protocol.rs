//! The PROXY protocol, versions 1 and 2: a load balancer's word on who connected to it.

use std::io;
use std::net::{IpAddr, SocketAddr};

use ppp::{HeaderResult, PartialResult};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Which versions of the PROXY protocol are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyVersions {
    /// The text header.
    V1,
    /// The binary header.
    V2,
    /// Either.
    Any,
}

/// Reads exactly the header from the front of `stream`. `None`: the balancer speaks for itself
/// (`LOCAL`, `UNKNOWN`), as in its health checks.
pub(crate) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    versions: ProxyVersions,
) -> io::Result<Option<SocketAddr>> {
    // Both versions are longer than this, and differ within it.
    let mut header = vec![0; V2_SIGNATURE.len()];
    stream.read_exact(&mut header).await?;
    if header == V2_SIGNATURE && versions != ProxyVersions::V1 {
        let mut rest = [0; 4];
        stream.read_exact(&mut rest).await?;
        header.extend_from_slice(&rest);
        let length = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
        if length > V2_MAX {
            return Err(bad("version 2 header too long"));
        }
        header.resize(header.len() + length, 0);
        stream.read_exact(&mut header[16..]).await?;
    } else if header.starts_with(b"PROXY ") && versions != ProxyVersions::V2 {
        while !header.ends_with(b"\r\n") {
            if header.len() >= V1_MAX {
                return Err(bad("version 1 header too long"));
            }
            header.push(stream.read_u8().await?);
        }
    } else {
        return Err(bad("not a header of an accepted version"));
    }
    let parsed = HeaderResult::parse(&header);
    if parsed.is_incomplete() {
        return Err(bad("incomplete"));
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
        HeaderResult::V1(Err(_)) => Err(bad("malformed version 1 header")),
        HeaderResult::V2(Err(_)) => Err(bad("malformed version 2 header")),
    }
}

fn socket(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip.to_canonical(), port)
}

fn bad(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

const V2_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// The specification's largest version 1 line.
const V1_MAX: usize = 107;

/// Addresses and a generous set of TLVs.
const V2_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    async fn parse(bytes: &[u8]) -> Result<(Option<String>, usize), String> {
        let mut rest = bytes;
        let source = read(&mut rest, ProxyVersions::Any).await.map_err(|error| error.to_string())?;
        Ok((source.map(|source| source.to_string()), rest.len()))
    }

    #[tokio::test]
    async fn headers_name_the_source_and_end_where_they_end() {
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
    async fn anything_else_is_an_error() {
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

    /// A version 2 header: command, family, addresses, TLVs.
    fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u16).to_be_bytes();
        [&V2_SIGNATURE[..], &[0x20 | command, family], &length, body].concat()
    }

    fn parse_now(bytes: &[u8]) -> Result<(Option<String>, usize), String> {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(parse(bytes))
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reading_panic(
            signature in prop_oneof![Just(&V2_SIGNATURE[..]), Just(&b"PROXY "[..]), Just(&b""[..])],
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = parse_now(&[signature, &bytes].concat());
        }

        #[test]
        fn whatever_tlvs_follow_the_source_and_the_end_stay(
            ip in any::<[u8; 4]>(),
            port in any::<u16>(),
            // A type and a value each; the last may lie about its length.
            tlvs in proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..30)), 0..6),
            lie in proptest::option::of(any::<u16>()),
            rest in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let tlvs = tlvs.iter().flat_map(|(kind, value)| {
                [&[*kind][..], &(value.len() as u16).to_be_bytes(), value].concat()
            });
            let mut body = [&ip[..], &[10, 0, 0, 1], &port.to_be_bytes(), &[0, 80]].concat();
            body.extend(tlvs);
            body.extend(lie.iter().flat_map(|length| [&[4][..], &length.to_be_bytes()].concat()));
            let header = binary(1, 0x11, &body);
            // No more is read than the header, whatever is in it; and who is said to have connected is no matter of
            // what else is said.
            let source = SocketAddr::from((ip, port)).to_string();
            prop_assert_eq!(parse_now(&[&header[..], &rest].concat()), Ok((Some(source), rest.len())));
        }

        #[test]
        fn a_header_that_is_cut_off_is_no_header(at in 0usize..28) {
            let header = binary(1, 0x11, &[192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x34, 0, 80]);
            prop_assert!(parse_now(&header[..at]).is_err());
        }
    }
}
