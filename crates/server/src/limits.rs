//! What a client may make the server hold, and for how long.

use std::num::NonZeroU64;
use std::time::Duration;

use crate::http2;

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

/// The most that one client connection can make this crate, hyper and h2 hold, in bytes: what
/// [`Limits::worst_case`] computes. Beside it there are what the service holds for each request (a buffer of its
/// upstream's, the state of an encoder), and the kernel's own buffers (`net.ipv4.tcp_rmem`, `tcp_wmem`, `tcp_mem`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorstCase {
    /// Of an HTTP/1.1 connection: a head that is read, one request whose content and response nobody takes.
    pub http1: usize,
    /// Of an HTTP/2 connection apart from its streams: frames on their way in and out.
    pub http2: usize,
    /// Of each HTTP/2 stream: a head, content that nobody takes, and a response that the client does not take.
    pub stream: usize,
}

impl Limits {
    /// What a connection with these limits can make the server hold.
    ///
    /// ```
    /// let limits = rproxy_server::Limits::default();
    /// let worst = limits.worst_case();
    /// assert!(worst.http1 < 512 << 10);
    /// assert!(worst.http2 + limits.concurrent_streams as usize * worst.stream < 96 << 20);
    /// ```
    pub fn worst_case(&self) -> WorstCase {
        let head = self.head_size + self.fields * FIELD;
        WorstCase {
            // Read into a vector that grows by doubling, then by hyper; parsed; the response.
            http1: TLS + 2 * self.head_size + head + 2 * http1_buffer(self),
            http2: TLS + http2::CODEC,
            // A head holds all that h2 lets pass until it is rejected, before there is a response.
            stream: (head + http2::SEND_BUFFER + LARGEST_FRAME).max(http2::head(self)) + http2::content(self),
        }
    }
}

/// What hyper may hold of what is read from an HTTP/1.1 connection, and as much of what is to be written. The scanner's
/// limits come first; these only have to be no tighter.
pub(crate) fn http1_buffer(limits: &Limits) -> usize {
    (limits.head_size * 2).max(64 * 1024)
}

/// What rustls holds for a connection: its state, 64 KiB to be sent, a record that is read, its plain text.
const TLS: usize = if cfg!(feature = "tls") { 128 * 1024 } else { 0 };

/// A field in a map: its entry, and its place in the index.
pub(crate) const FIELD: usize = 128;

/// The largest piece of a body that a service hands over at a time.
const LARGEST_FRAME: usize = 64 * 1024;

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
