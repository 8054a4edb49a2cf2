//! What a client may make the server hold, and for how long.

use std::time::Duration;

/// The limits of a connection. [`Limits::default`] is safe for the open internet.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of a request head, request line included; more is answered 431. Default 32 KiB.
    pub head_size: usize,
    /// Bytes of a request target; more is answered 414. Default 8 KiB.
    pub target_size: usize,
    /// Fields of a request head; more is answered 431. Default 100.
    pub fields: usize,
    /// From the first byte of a head to its last; more is answered 408. Default 15 s.
    pub head_timeout: Duration,
    /// How long a connection may wait between requests. Default 75 s.
    pub idle_timeout: Duration,
    /// How long a TLS handshake may take. Default 10 s.
    pub handshake_timeout: Duration,
    /// Connections open at once, over all workers; more wait in the kernel's queue. Default 16,384.
    pub connections: usize,
    /// HTTP/2 streams open at once on one connection. Default 128.
    pub concurrent_streams: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_size: 32 * 1024,
            target_size: 8 * 1024,
            fields: 100,
            head_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(75),
            handshake_timeout: Duration::from_secs(10),
            connections: 16_384,
            concurrent_streams: 128,
        }
    }
}
