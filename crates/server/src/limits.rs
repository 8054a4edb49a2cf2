//! Limits on the memory, time and connections that a client can use.

use std::num::NonZeroU64;
use std::time::Duration;

/// The limits of a server and of its client connections.
///
/// The default limits are suitable for a server on the public internet.
///
/// # Examples
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
    /// The maximum size of a request head in bytes, including the request line. Larger ones get 431. Default: 32 KiB.
    pub head_size: usize,
    /// The maximum size of a request target in bytes. Larger ones get 414. Default: 8 KiB.
    ///
    /// The limit is at most 65,534 bytes, the longest [`Uri`](http::Uri), even if this value is larger.
    pub target_size: usize,
    /// The maximum number of fields in a request head. Heads with more get 431. Default: 100.
    pub fields: usize,
    /// The timeout for receiving a complete request head after its first byte. Slower clients get 408. Default: 15 s.
    ///
    /// It also applies to the preface of an HTTP/2 connection.
    pub head_timeout: Duration,
    /// The idle timeout of a connection without requests. Default: 75 s.
    pub idle_timeout: Duration,
    /// The timeout for sending a response to a client that does not read. Default: 60 s.
    ///
    /// An HTTP/2 stream whose window stays closed is reset, and so is a connection whose socket accepts no data.
    pub send_timeout: Duration,
    /// The timeout of a TLS handshake. Default: 10 s.
    pub handshake_timeout: Duration,
    /// The maximum number of TLS handshakes in progress, over all workers. Default: 4,096.
    ///
    /// At the limit, a new handshake evicts the oldest one.
    pub handshakes: usize,
    /// The maximum number of requests on one connection, after which it is closed gracefully. Default: no limit.
    pub requests: Option<NonZeroU64>,
    /// The maximum number of open connections, over all workers. Default: 16,384.
    ///
    /// Further connections wait in the accept queue of the kernel.
    pub connections: usize,
    /// The maximum number of open connections per client, over all workers. Default: 12,288.
    ///
    /// A client is an IPv4 address or an IPv6 /64. Further connections are closed at once. The default is below that of
    /// [`connections`](Self::connections), so that one client cannot use up all of them.
    /// [`Server::exempt_proxies`](crate::Server::exempt_proxies) exempts proxies.
    pub connections_per_client: usize,
    /// The maximum number of concurrent streams on one HTTP/2 connection. Default: 128.
    pub concurrent_streams: u32,
}

impl Limits {
    /// Returns whether a connection has reached its maximum number of requests.
    pub(crate) fn is_request_limit_reached(&self, requests: u64) -> bool {
        self.requests.is_some_and(|max| requests >= max.get())
    }
}

/// The memory of a header field in a header map, including its index entry.
pub(crate) const FIELD: usize = 128;

/// The longest target that [`http::Uri`] and h2 parse. h2 would reject a longer one before the service sees it.
pub(crate) const LONGEST_TARGET: usize = 65_534;

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
