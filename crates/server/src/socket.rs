//! Sockets of clients, and whether they are still connected.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, Interest, Ready};
use tokio::net::{TcpStream, UnixStream};
#[cfg(feature = "tls")]
use tokio_rustls::server::TlsStream;

/// A connection to a client.
pub(crate) trait ClientSocket: AsyncRead + AsyncWrite + Unpin {
    /// Which directions have ended, also behind bytes that nobody has read. Costs no system call.
    fn ended(&self) -> Ended;

    /// Has the kernel probe a peer that sends no more, so that one that is gone is noticed without writing to it.
    fn probe(&self) {}

    /// Whether the connection is reset when it is dropped, and what was written with it may be lost.
    fn reset_on_drop(&self, _resets: bool) {}
}

/// The directions of a connection that have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    /// The client sends no more.
    pub(crate) read: bool,
    /// The client takes no more: the connection was reset, or timed out.
    pub(crate) write: bool,
}

impl From<Ready> for Ended {
    fn from(ready: Ready) -> Self {
        Self { read: ready.is_read_closed(), write: ready.is_write_closed() }
    }
}

/// What the runtime knows already; it is not waited for anything.
fn polled(ready: impl Future<Output = std::io::Result<Ready>>) -> Ended {
    match pin!(ready).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(ready)) => ready.into(),
        Poll::Ready(Err(_)) => Ended { read: true, write: true },
        Poll::Pending => Ended::default(),
    }
}

impl ClientSocket for TcpStream {
    fn ended(&self) -> Ended {
        polled(self.ready(Interest::READABLE | Interest::WRITABLE))
    }

    fn probe(&self) {
        let probes = TcpKeepalive::new().with_time(PROBE_INTERVAL).with_interval(PROBE_INTERVAL).with_retries(PROBES);
        // Without probes, the next write or the end of the request's time tells.
        let _ = SockRef::from(self).set_tcp_keepalive(&probes);
    }

    fn reset_on_drop(&self, resets: bool) {
        let _ = SockRef::from(self).set_linger(resets.then_some(Duration::ZERO));
    }
}

impl ClientSocket for UnixStream {
    fn ended(&self) -> Ended {
        polled(self.ready(Interest::READABLE | Interest::WRITABLE))
    }
}

#[cfg(feature = "tls")]
impl<T: ClientSocket> ClientSocket for TlsStream<T> {
    fn ended(&self) -> Ended {
        self.get_ref().0.ended()
    }

    fn probe(&self) {
        self.get_ref().0.probe();
    }

    fn reset_on_drop(&self, resets: bool) {
        self.get_ref().0.reset_on_drop(resets);
    }
}

impl<T: ClientSocket + ?Sized> ClientSocket for Box<T> {
    fn ended(&self) -> Ended {
        (**self).ended()
    }

    fn probe(&self) {
        (**self).probe();
    }

    fn reset_on_drop(&self, resets: bool) {
        (**self).reset_on_drop(resets);
    }
}

#[cfg(test)]
impl ClientSocket for tokio::io::DuplexStream {
    fn ended(&self) -> Ended {
        Ended::default()
    }
}

/// A client that closed its socket answers no probe (or resets); one that half-closed it does.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);
const PROBES: u32 = 3;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (listener.accept().await.unwrap().0, client)
    }

    async fn wait_for(server: &TcpStream, ended: Ended) {
        let wait = async {
            while server.ended() != ended {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(10), wait).await;
        assert!(waited.is_ok(), "{:?} instead of {ended:?}", server.ended());
    }

    #[tokio::test]
    async fn sees_an_end_behind_unread_bytes() {
        let (server, mut client) = pair().await;
        client.write_all(b"unread").await.unwrap();
        server.readable().await.unwrap();
        assert_eq!(server.ended(), Ended::default());
        client.shutdown().await.unwrap();
        wait_for(&server, Ended { read: true, write: false }).await;
    }

    #[tokio::test]
    async fn tells_a_reset_from_a_half_close() {
        let (mut server, mut client) = pair().await;
        client.shutdown().await.unwrap();
        assert_eq!(server.read(&mut [0; 1]).await.unwrap(), 0);
        wait_for(&server, Ended { read: true, write: false }).await;
        drop(client);
        // A closed socket answers bytes with a reset.
        server.write_all(b"a").await.unwrap();
        wait_for(&server, Ended { read: true, write: true }).await;
    }
}
