//! The fuzz targets of the server: the PROXY protocol and HTTP/2 parsers. Each function accepts any bytes and
//! panics if an invariant is violated.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use crate::listen::proxy_protocol::{ProxyProtocolVersions, read};
pub use crate::protocol::http2::fuzz::frames;

/// Checks that bytes after a PROXY protocol header do not change its result, and that a truncated header fails.
pub fn proxy_protocol(bytes: &[u8]) {
    let Some((source, length)) = header(bytes) else { return };
    let only = &bytes[..length];
    assert_eq!(header(only), Some((source, length)));
    assert_eq!(header(&[only, b"GET / HTTP/1.1\r\n"].concat()), Some((source, length)));
    for cut in [0, length / 2, length.saturating_sub(1)] {
        assert_eq!(header(&only[..cut]), None, "accepted a PROXY protocol header that was truncated after {cut} bytes");
    }
}

/// Returns the source address in a PROXY protocol header, and the length of the header.
fn header(bytes: &[u8]) -> Option<(Option<SocketAddr>, usize)> {
    let mut rest = bytes;
    let read = pin!(read(&mut rest, ProxyProtocolVersions::Any)).poll(&mut Context::from_waker(Waker::noop()));
    match read {
        Poll::Ready(Ok(source)) => Some((source, bytes.len() - rest.len())),
        Poll::Ready(Err(_)) => None,
        Poll::Pending => panic!("a read from memory must not be pending"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rproxy_seeds::run;

    const CRATE: &str = env!("CARGO_MANIFEST_DIR");

    #[test]
    fn http2_frames_fuzz_target_passes_on_the_mutated_corpus() {
        run(CRATE, "frames", frames);
    }

    #[test]
    fn proxy_protocol_fuzz_target_passes_on_the_mutated_corpus() {
        run(CRATE, "proxy_protocol", proxy_protocol);
    }
}
