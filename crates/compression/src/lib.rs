//! Middleware that compresses responses with brotli, gzip or zstd.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod body;
mod budget;
mod coding;
mod config;
mod encoder_limit;
mod entity_tag;
mod future;
mod layer;
mod media_type;
mod request;
mod response;
mod service;

pub use self::body::ResponseBody;
pub use self::coding::Coding;
pub use self::encoder_limit::EncoderLimit;
pub use self::future::ResponseFuture;
pub use self::layer::CompressionLayer;
pub use self::service::CompressionService;
