//! A tower layer that compresses responses.

use tower_layer::Layer;

use crate::coding::Coding;
use crate::config::Config;
use crate::encoder_limit::EncoderLimit;
use crate::service::CompressionService;

/// A layer that compresses responses with the content coding that the client prefers.
///
/// # Examples
///
/// ```
/// use rproxy_compression::{Coding, CompressionLayer};
///
/// let layer = CompressionLayer::new().codings([Coding::Brotli, Coding::Gzip]).min_size(1024);
/// # let _ = layer;
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct CompressionLayer {
    config: Config,
}

impl CompressionLayer {
    /// Creates a layer with all content codings, for responses of at least 256 bytes.
    pub const fn new() -> Self {
        Self { config: Config::DEFAULT }
    }

    /// Sets the content codings that the layer applies. The order is that of [`Coding::ALL`].
    pub fn codings(mut self, codings: impl IntoIterator<Item = Coding>) -> Self {
        self.config.codings = codings.into_iter().collect();
        self
    }

    /// Sets the minimum content length in bytes of the responses that the layer compresses. Smaller responses hardly
    /// shrink.
    ///
    /// A response of unknown size is compressed.
    pub const fn min_size(mut self, bytes: u64) -> Self {
        self.config.min_size = bytes;
        self
    }

    /// Sets whether the layer compresses private responses. On by default.
    ///
    /// Off, it protects against [BREACH](crate#breach): an observer of the connection who controls a part of a response can
    /// find out a secret in the rest of it by the compressed size.
    pub const fn private(mut self, is_compressed: bool) -> Self {
        self.config.compresses_private = is_compressed;
        self
    }

    /// Sets the limit on concurrent compressions.
    ///
    /// By default, all layers of the process share a limit of 64.
    pub const fn encoder_limit(mut self, limit: &'static EncoderLimit) -> Self {
        self.config.encoder_limit = limit;
        self
    }
}

impl Default for CompressionLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for CompressionLayer {
    type Service = CompressionService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CompressionService::new(inner, self.config)
    }
}
