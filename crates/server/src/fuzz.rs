//! What the fuzzers call: any bytes, and what must hold of them.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

pub use crate::http1::fuzz::{framing, request_head};
pub use crate::http2::fuzz::frames;
use crate::proxy_protocol::{ProxyVersions, read};

/// A PROXY protocol header ends where it ends, whatever follows; and a part of one is none.
pub fn proxy_protocol(bytes: &[u8]) {
    let Some((source, length)) = header(bytes) else { return };
    let only = &bytes[..length];
    assert_eq!(header(only), Some((source, length)));
    assert_eq!(header(&[only, b"GET / HTTP/1.1\r\n"].concat()), Some((source, length)));
    for cut in [0, length / 2, length.saturating_sub(1)] {
        assert_eq!(header(&only[..cut]), None, "cut at {cut}");
    }
}

/// Who is said to have connected, and how long the header is.
fn header(bytes: &[u8]) -> Option<(Option<SocketAddr>, usize)> {
    let mut rest = bytes;
    let read = pin!(read(&mut rest, ProxyVersions::Any)).poll(&mut Context::from_waker(Waker::noop()));
    match read {
        Poll::Ready(Ok(source)) => Some((source, bytes.len() - rest.len())),
        Poll::Ready(Err(_)) => None,
        Poll::Pending => panic!("bytes that are there are waited for"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rproxy_seeds::run;

    const CRATE: &str = env!("CARGO_MANIFEST_DIR");

    #[test]
    fn framing_holds_near_its_seeds() {
        run(CRATE, "framing", framing);
    }

    #[test]
    fn request_head_holds_near_its_seeds() {
        run(CRATE, "request_head", request_head);
    }

    #[test]
    fn frames_hold_near_their_seeds() {
        run(CRATE, "frames", frames);
    }

    #[test]
    fn proxy_protocol_holds_near_its_seeds() {
        run(CRATE, "proxy_protocol", proxy_protocol);
    }
}
