//! Detection of HTTP/2 with prior knowledge on connections without TLS (RFC 9113 §3.3).

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::timeout;

use super::client_io::ClientIo;
use crate::connection_config::ConnectionConfig;
use crate::protocol::connection_service::ConnectionService;
use crate::protocol::http2::PREFACE;
use crate::transport::client_socket::ClientSocket;

/// A connection on which the client sent the HTTP/2 preface.
pub(crate) struct PriorKnowledge<T, S> {
    pub(crate) socket: T,
    /// The bytes that were already read from the connection.
    pub(crate) first: Bytes,
    pub(crate) service: ConnectionService<S>,
    pub(crate) config: Arc<ConnectionConfig>,
    pub(crate) draining: watch::Receiver<bool>,
}

/// The protocol of a connection, detected from its first bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum DetectedProtocol {
    /// HTTP/1.1, with the bytes that were read.
    Http1(Bytes),
    /// HTTP/2. The bytes that were read are the input of the connection.
    Http2,
    /// The protocol is unknown, because the client sent too few bytes.
    Unknown,
}

/// Returns whether the first bytes of a connection are the HTTP/2 preface or a prefix of it.
pub(super) fn may_be_preface(bytes: &[u8]) -> bool {
    bytes.starts_with(PREFACE) || PREFACE.starts_with(bytes)
}

/// Reads bytes after the `first` ones, until the protocol of the connection is known, or until the head timeout.
pub(super) async fn detect<T>(io: &mut ClientIo<T>, first: Bytes, head_timeout: Duration) -> DetectedProtocol
where
    T: ClientSocket,
{
    io.input.extend_from_slice(&first);
    let is_known = async {
        while may_be_preface(&io.input) {
            if io.input.len() >= PREFACE.len() {
                return Some(true);
            }
            if !poll_fn(|cx| io.poll_more(cx)).await {
                return None;
            }
        }
        Some(false)
    };
    match timeout(head_timeout, is_known).await {
        Ok(Some(true)) => DetectedProtocol::Http2,
        Ok(Some(false)) => DetectedProtocol::Http1(std::mem::take(&mut io.input).freeze()),
        // An HTTP/1.1 method may also begin with `PRI`.
        Err(_) if io.input.len() <= b"PRI".len() => DetectedProtocol::Http1(std::mem::take(&mut io.input).freeze()),
        Ok(None) | Err(_) => DetectedProtocol::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::HalfClose;
    use tokio::io::{AsyncWriteExt, duplex};

    #[tokio::test(start_paused = true)]
    async fn detects_the_http2_preface_for_any_read_boundaries() {
        for (bytes, expected) in [
            (&PREFACE[..], "HTTP/2"),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0", "HTTP/2"),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r!", "HTTP/1.1"),
            (b"PRI * HTTP/1.1\r\n", "HTTP/1.1"),
            (b"POST / HTTP/1.1\r\n", "HTTP/1.1"),
            (b"P", "HTTP/1.1"),
            (b"PRI", "HTTP/1.1"),
            (b"PRI ", "unknown"),
            (b"PRI * HTTP/2.0\r\n\r\n", "unknown"),
        ] {
            for piece in [1, 7, 100] {
                let (mut near, far) = duplex(64);
                let mut io = ClientIo::new(far, HalfClose::default());
                let writer = async {
                    for piece in bytes.chunks(piece) {
                        near.write_all(piece).await.unwrap();
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                };
                let (_, protocol) = tokio::join!(writer, detect(&mut io, Bytes::new(), Duration::from_secs(1)));
                let read = match &protocol {
                    DetectedProtocol::Http1(read) => read,
                    _ => &io.input[..],
                };
                assert!(bytes.starts_with(read), "{}", bytes.escape_ascii());
                let is_expected = match protocol {
                    DetectedProtocol::Http1(_) => expected == "HTTP/1.1",
                    DetectedProtocol::Http2 => expected == "HTTP/2",
                    DetectedProtocol::Unknown => expected == "unknown",
                };
                assert!(is_expected, "{} is not {expected}", bytes.escape_ascii());
            }
        }
    }

    #[tokio::test]
    async fn protocol_of_an_incomplete_http2_preface_is_unknown() {
        let (mut near, far) = duplex(64);
        let mut io = ClientIo::new(far, HalfClose::default());
        near.write_all(b"PRI * HT").await.unwrap();
        drop(near);
        assert_eq!(detect(&mut io, Bytes::new(), Duration::from_secs(1)).await, DetectedProtocol::Unknown);
    }
}
