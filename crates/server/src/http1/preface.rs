//! Detection of HTTP/2 with prior knowledge on connections without TLS (RFC 9113 §3.3).

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncRead;
use tokio::sync::watch;
use tokio::time::timeout;

use super::framed_io::FramedIo;
use crate::http2::PREFACE;
use crate::service::ConnectionService;

/// A connection on which the client sent the HTTP/2 preface.
pub(crate) struct PriorKnowledge<T, S> {
    pub(crate) socket: T,
    /// The bytes that were already read from the connection.
    pub(crate) first: Bytes,
    pub(crate) service: ConnectionService<S>,
    pub(crate) draining: watch::Receiver<bool>,
}

/// The protocol of a connection, detected from its first bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum DetectedProtocol {
    Http1,
    Http2,
    /// The protocol is unknown, because the client sent too few bytes.
    Unknown,
}

/// Returns whether the first bytes of a connection are the HTTP/2 preface or a prefix of it.
pub(super) fn may_be_preface(bytes: &[u8]) -> bool {
    bytes.starts_with(PREFACE) || PREFACE.starts_with(bytes)
}

/// Reads bytes until the protocol of the connection is known, or until the head timeout.
pub(super) async fn detect<T>(io: &mut FramedIo<T>, head_timeout: Duration) -> DetectedProtocol
where
    T: AsyncRead + Unpin,
{
    let detected = async {
        while may_be_preface(io.held()) {
            if io.held().len() >= PREFACE.len() {
                return DetectedProtocol::Http2;
            }
            let Some(more) = poll_fn(|cx| io.poll_first(cx)).await else { return DetectedProtocol::Unknown };
            io.put_back(&more);
        }
        DetectedProtocol::Http1
    };
    match timeout(head_timeout, detected).await {
        Ok(protocol) => protocol,
        // An HTTP/1.1 method may also begin with `PRI`.
        Err(_) if io.held().len() <= b"PRI".len() => DetectedProtocol::Http1,
        Err(_) => DetectedProtocol::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::{HalfClose, HeadLimits};
    use std::sync::Arc;
    use tokio::io::{AsyncWriteExt, duplex};

    #[tokio::test(start_paused = true)]
    async fn detects_the_http2_preface_for_any_read_boundaries() {
        for (bytes, expected) in [
            (&PREFACE[..], DetectedProtocol::Http2),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0", DetectedProtocol::Http2),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r!", DetectedProtocol::Http1),
            (b"PRI * HTTP/1.1\r\n", DetectedProtocol::Http1),
            (b"POST / HTTP/1.1\r\n", DetectedProtocol::Http1),
            (b"P", DetectedProtocol::Http1),
            (b"PRI", DetectedProtocol::Http1),
            (b"PRI ", DetectedProtocol::Unknown),
            (b"PRI * HTTP/2.0\r\n\r\n", DetectedProtocol::Unknown),
        ] {
            for piece in [1, 7, 100] {
                let (mut near, far) = duplex(64);
                let limits = HeadLimits { size: 1024, target: 1024, fields: 10 };
                let mut io = FramedIo::new(far, limits, HalfClose::default(), Arc::default());
                let writer = async {
                    for piece in bytes.chunks(piece) {
                        near.write_all(piece).await.unwrap();
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                };
                let (_, protocol) = tokio::join!(writer, detect(&mut io, Duration::from_secs(1)));
                assert_eq!(protocol, expected, "{}", bytes.escape_ascii());
                assert!(bytes.starts_with(io.held()));
            }
        }
    }

    #[tokio::test]
    async fn protocol_of_an_incomplete_http2_preface_is_unknown() {
        let (mut near, far) = duplex(64);
        let limits = HeadLimits { size: 1024, target: 1024, fields: 10 };
        let mut io = FramedIo::new(far, limits, HalfClose::default(), Arc::default());
        near.write_all(b"PRI * HT").await.unwrap();
        drop(near);
        assert_eq!(detect(&mut io, Duration::from_secs(1)).await, DetectedProtocol::Unknown);
    }
}
