//! A limit on concurrent compressions.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// A limit on the number of responses that are compressed concurrently.
///
/// A brotli encoder takes up to thirty megabytes for a long body. Without a limit, clients that request large responses
/// without reading them could cause thousands of encoders. Excess responses are sent uncompressed.
///
/// A limit is a `static`, because the memory that it protects belongs to the process.
///
/// # Examples
///
/// ```
/// use rproxy_compression::{CompressionLayer, EncoderLimit};
///
/// static ENCODERS: EncoderLimit = EncoderLimit::new(16);
///
/// let layer = CompressionLayer::new().encoder_limit(&ENCODERS);
/// # let _ = layer;
/// ```
#[derive(Debug)]
pub struct EncoderLimit {
    used: AtomicUsize,
    max: usize,
}

/// The process-wide limit on concurrent compressions, for all layers without a separate limit.
pub(crate) static DEFAULT: EncoderLimit = EncoderLimit::new(64);

impl EncoderLimit {
    /// Creates a limit of `max` concurrent compressions.
    pub const fn new(max: usize) -> Self {
        Self { used: AtomicUsize::new(0), max }
    }

    pub(crate) fn acquire(&'static self) -> Option<EncoderPermit> {
        let one_more = |permits| (permits < self.max).then_some(permits + 1);
        self.used.fetch_update(Relaxed, Relaxed, one_more).is_ok().then(|| EncoderPermit(self))
    }
}

/// A permit to compress one response.
#[derive(Debug)]
pub(crate) struct EncoderPermit(&'static EncoderLimit);

impl Drop for EncoderPermit {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_the_number_of_concurrent_encoders() {
        static LIMIT: EncoderLimit = EncoderLimit::new(3);
        let mut permits: Vec<_> = (0..3).map_while(|_| LIMIT.acquire()).collect();
        assert_eq!(permits.len(), 3);
        assert!(LIMIT.acquire().is_none());
        permits.pop();
        assert!(LIMIT.acquire().is_some());
        drop(permits);
        assert_eq!(LIMIT.used.load(Relaxed), 0);
    }
}
