//! Client sockets, and the detection of closed connections.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, Interest, Ready};
use tokio::net::{TcpStream, UnixStream};
#[cfg(feature = "tls")]
use tokio_rustls::server::TlsStream;

/// The socket of a connection to a client.
pub(crate) trait ClientSocket: AsyncRead + AsyncWrite + Unpin {
    /// Returns the closed directions of the connection, even if received bytes are still unread. Makes no system call.
    fn closed(&self) -> ClosedDirections;

    /// Enables TCP keep-alive probes, which detect a lost client without writing data.
    fn enable_keepalive(&self) {}

    /// Sets whether dropping the socket resets the connection, which may discard written bytes.
    fn reset_on_drop(&self, _resets: bool) {}
}

/// The closed directions of a connection: from the client, to the client, or both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClosedDirections {
    /// Whether the client has shut down its write half.
    pub(crate) read: bool,
    /// Whether the connection was reset or timed out.
    pub(crate) write: bool,
}

impl From<Ready> for ClosedDirections {
    fn from(ready: Ready) -> Self {
        Self { read: ready.is_read_closed(), write: ready.is_write_closed() }
    }
}

/// Returns the closed directions that the runtime has already recorded, without waiting.
fn poll_closed(ready: impl Future<Output = std::io::Result<Ready>>) -> ClosedDirections {
    match pin!(ready).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(ready)) => ready.into(),
        Poll::Ready(Err(_)) => ClosedDirections { read: true, write: true },
        Poll::Pending => ClosedDirections::default(),
    }
}

impl ClientSocket for TcpStream {
    fn closed(&self) -> ClosedDirections {
        poll_closed(self.ready(Interest::READABLE | Interest::WRITABLE))
    }

    fn enable_keepalive(&self) {
        let probes = TcpKeepalive::new().with_time(PROBE_INTERVAL).with_interval(PROBE_INTERVAL).with_retries(PROBES);
        // On error, a write or a timeout detects the lost client later.
        let _ = SockRef::from(self).set_tcp_keepalive(&probes);
    }

    fn reset_on_drop(&self, resets: bool) {
        let _ = SockRef::from(self).set_linger(resets.then_some(Duration::ZERO));
    }
}

impl ClientSocket for UnixStream {
    fn closed(&self) -> ClosedDirections {
        poll_closed(self.ready(Interest::READABLE | Interest::WRITABLE))
    }
}

#[cfg(feature = "tls")]
impl<T: ClientSocket> ClientSocket for TlsStream<T> {
    fn closed(&self) -> ClosedDirections {
        self.get_ref().0.closed()
    }

    fn enable_keepalive(&self) {
        self.get_ref().0.enable_keepalive();
    }

    fn reset_on_drop(&self, resets: bool) {
        self.get_ref().0.reset_on_drop(resets);
    }
}

impl<T: ClientSocket + ?Sized> ClientSocket for Box<T> {
    fn closed(&self) -> ClosedDirections {
        (**self).closed()
    }

    fn enable_keepalive(&self) {
        (**self).enable_keepalive();
    }

    fn reset_on_drop(&self, resets: bool) {
        (**self).reset_on_drop(resets);
    }
}

#[cfg(test)]
impl ClientSocket for tokio::io::DuplexStream {
    fn closed(&self) -> ClosedDirections {
        ClosedDirections::default()
    }
}

/// The interval of TCP keep-alive probes, which half-closed clients still acknowledge.
///
/// A client that closed its socket resets the connection or does not respond.
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

    async fn wait_for(server: &TcpStream, closed: ClosedDirections) {
        let wait = async {
            while server.closed() != closed {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(10), wait).await;
        assert!(waited.is_ok(), "{:?} instead of {closed:?}", server.closed());
    }

    #[tokio::test]
    async fn detects_a_half_close_after_unread_bytes() {
        let (server, mut client) = pair().await;
        client.write_all(b"unread").await.unwrap();
        server.readable().await.unwrap();
        assert_eq!(server.closed(), ClosedDirections::default());
        client.shutdown().await.unwrap();
        wait_for(&server, ClosedDirections { read: true, write: false }).await;
    }

    #[tokio::test]
    async fn distinguishes_a_connection_reset_from_a_half_close() {
        let (mut server, mut client) = pair().await;
        client.shutdown().await.unwrap();
        assert_eq!(server.read(&mut [0; 1]).await.unwrap(), 0);
        wait_for(&server, ClosedDirections { read: true, write: false }).await;
        drop(client);
        // A closed socket responds to data with a reset.
        server.write_all(b"a").await.unwrap();
        wait_for(&server, ClosedDirections { read: true, write: true }).await;
    }
}
