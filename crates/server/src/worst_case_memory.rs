//! The memory that one client can use.

use crate::limits::{FIELD, Limits};
use crate::protocol::{http1, http2};

/// The maximum memory in bytes that this crate and h2 can use for one client connection.
///
/// [`Limits::worst_case_memory`] computes it. It does not include the memory of the service for each request, such as an
/// encoder's, and the socket buffers of the kernel (`net.ipv4.tcp_rmem`, `tcp_wmem`, `tcp_mem`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorstCaseMemory {
    /// The memory of an HTTP/1.1 connection with an incomplete head, unread request content and an unsent response.
    pub http1: usize,
    /// The memory of an HTTP/2 connection with buffered frames in both directions, without its streams.
    pub http2: usize,
    /// The memory of an HTTP/2 stream with a request head, unread request content and an unsent response.
    pub stream: usize,
}

impl Limits {
    /// Computes the maximum memory that a connection can use with these limits.
    ///
    /// # Examples
    ///
    /// ```
    /// let limits = rproxy_server::Limits::default();
    /// let worst = limits.worst_case_memory();
    /// assert!(worst.http1 < 512 << 10);
    /// assert!(worst.http2 + limits.concurrent_streams as usize * worst.stream < 96 << 20);
    /// ```
    pub fn worst_case_memory(&self) -> WorstCaseMemory {
        let head = self.head_size + self.fields * FIELD;
        WorstCaseMemory {
            // The head in a buffer that grows by doubling, its fields, a read of content and the one before that the
            // service has not taken, the bytes of later requests, and the head of a response.
            http1: TLS
                + 2 * self.head_size
                + self.fields * FIELD
                + 2 * http1::CONTENT_READ
                + http1::MAX_AHEAD
                + self.head_size,
            http2: TLS + http2::CODEC,
            // Before it is rejected, a head can take all that h2 accepts, but there is no response yet.
            stream: (head + http2::SEND_BUFFER + LARGEST_FRAME).max(http2::head(self)) + http2::content(self),
        }
    }
}

/// The memory that rustls uses for a connection: state, 64 KiB to send, a received record and its plaintext.
const TLS: usize = if cfg!(feature = "tls") { 128 * 1024 } else { 0 };

/// The maximum size of a frame of a response body.
const LARGEST_FRAME: usize = 64 * 1024;
