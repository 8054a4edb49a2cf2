//! What a client may make the server hold, and for how long.

use std::num::NonZeroU64;
use std::time::Duration;

/// The limits of a connection. [`Limits::default`] is safe for the open internet.
///
/// ```
/// use rproxy_server::Limits;
/// use std::time::Duration;
///
/// let mut limits = Limits::default();
/// limits.idle_timeout = Duration::from_secs(20);
/// limits.connections_per_client = 100;
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of a request head, request line included; more is answered 431. Default 32 KiB.
    pub head_size: usize,
    /// Bytes of a request target; more is answered 414. Default 8 KiB.
    pub target_size: usize,
    /// Fields of a request head; more is answered 431. Default 100.
    pub fields: usize,
    /// From the first byte of a head to its last; more is answered 408. An HTTP/2 connection has as long for its
    /// preface. Default 15 s.
    pub head_timeout: Duration,
    /// How long a connection may wait between requests. Default 75 s.
    pub idle_timeout: Duration,
    /// How long a client may take nothing of what there is for it: then an HTTP/2 stream is reset (a window that
    /// does not open), or the connection (a socket that takes no bytes). Default 60 s.
    pub send_timeout: Duration,
    /// How long a TLS handshake may take. Default 10 s.
    pub handshake_timeout: Duration,
    /// TLS handshakes at once, over all workers; with one more, the one that waits longest for its client is given
    /// up. Default 4,096.
    pub handshakes: usize,
    /// Requests on one connection, which then ends in good order; `None` for any number, the default.
    pub requests: Option<NonZeroU64>,
    /// Connections open at once, over all workers; more wait in the kernel's queue. Default 16,384.
    pub connections: usize,
    /// Connections of one address at once (for IPv6 of one /64), over all workers; more are closed at once. Default
    /// 12,288, so that nobody alone has all of [`connections`](Self::connections).
    /// [`Server::uncounted`](crate::Server::uncounted) exempts proxies.
    pub connections_per_client: usize,
    /// HTTP/2 streams open at once on one connection. Default 128.
    pub concurrent_streams: u32,
}

impl Limits {
    /// Whether these are as many requests as a connection may have.
    pub(crate) fn are_served(&self, requests: u64) -> bool {
        self.requests.is_some_and(|most| requests >= most.get())
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_size: 32 * 1024,
            target_size: 8 * 1024,
            fields: 100,
            head_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(75),
            send_timeout: Duration::from_secs(60),
            handshake_timeout: Duration::from_secs(10),
            handshakes: 4096,
            requests: None,
            connections: 16_384,
            connections_per_client: 12_288,
            concurrent_streams: 128,
        }
    }
}
