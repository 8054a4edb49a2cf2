//! The configuration of [`CompressionLayer`](crate::CompressionLayer).

use crate::coding::CodingSet;
use crate::encoder_limit::{self, EncoderLimit};

/// The configuration that a [`CompressionLayer`](crate::CompressionLayer) copies into its services.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    pub(crate) codings: CodingSet,
    pub(crate) min_size: u64,
    /// Whether to compress responses that can contain data of one user.
    pub(crate) compresses_private: bool,
    pub(crate) encoder_limit: &'static EncoderLimit,
}

impl Config {
    pub(crate) const DEFAULT: Self = Self {
        codings: CodingSet::ALL,
        min_size: 256,
        compresses_private: true,
        encoder_limit: &encoder_limit::DEFAULT,
    };
}
