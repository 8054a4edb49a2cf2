//! HTTP/2 with prior knowledge, in the clear (RFC 9113 §3.3): its preface is no request of HTTP/1.1.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncRead;
use tokio::sync::watch;
use tokio::time::timeout;

use super::io::FramedIo;
use crate::http2::PREFACE;
use crate::service::ConnectionService;

/// A connection whose client speaks HTTP/2.
pub(crate) struct PriorKnowledge<T, S> {
    pub(crate) socket: T,
    /// What was read from it.
    pub(crate) first: Bytes,
    pub(crate) service: ConnectionService<S>,
    pub(crate) draining: watch::Receiver<bool>,
}

/// What a connection begins with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    Http1,
    Http2,
    /// Neither, and nothing more comes.
    Nothing,
}

/// Whether these first bytes of a connection are the preface, or the beginning of it.
pub(super) fn may_be(bytes: &[u8]) -> bool {
    bytes.starts_with(PREFACE) || PREFACE.starts_with(bytes)
}

/// Reads on until it is known which protocol the held bytes begin.
pub(super) async fn read<T>(io: &mut FramedIo<T>, time: Duration) -> Beginning
where
    T: AsyncRead + Unpin,
{
    let whole = async {
        while may_be(io.held()) {
            if io.held().len() >= PREFACE.len() {
                return Beginning::Http2;
            }
            let Some(more) = poll_fn(|cx| io.poll_first(cx)).await else { return Beginning::Nothing };
            io.put_back(&more);
        }
        Beginning::Http1
    };
    match timeout(time, whole).await {
        Ok(beginning) => beginning,
        // A method may begin with `PRI`, too.
        Err(_) if io.held().len() <= b"PRI".len() => Beginning::Http1,
        Err(_) => Beginning::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::{HalfClose, HeadLimits};
    use std::sync::Arc;
    use tokio::io::{AsyncWriteExt, duplex};

    #[tokio::test(start_paused = true)]
    async fn the_preface_is_told_from_requests_however_it_comes_in() {
        for (bytes, beginning) in [
            (&PREFACE[..], Beginning::Http2),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0", Beginning::Http2),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r!", Beginning::Http1),
            (b"PRI * HTTP/1.1\r\n", Beginning::Http1),
            (b"POST / HTTP/1.1\r\n", Beginning::Http1),
            (b"P", Beginning::Http1),
            (b"PRI", Beginning::Http1),
            (b"PRI ", Beginning::Nothing),
            (b"PRI * HTTP/2.0\r\n\r\n", Beginning::Nothing),
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
                let (_, found) = tokio::join!(writer, read(&mut io, Duration::from_secs(1)));
                assert_eq!(found, beginning, "{}", bytes.escape_ascii());
                assert!(bytes.starts_with(io.held()));
            }
        }
    }

    #[tokio::test]
    async fn an_end_within_the_preface_is_nothing() {
        let (mut near, far) = duplex(64);
        let limits = HeadLimits { size: 1024, target: 1024, fields: 10 };
        let mut io = FramedIo::new(far, limits, HalfClose::default(), Arc::default());
        near.write_all(b"PRI * HT").await.unwrap();
        drop(near);
        assert_eq!(read(&mut io, Duration::from_secs(1)).await, Beginning::Nothing);
    }
}
