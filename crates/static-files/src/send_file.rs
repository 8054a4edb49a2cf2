//! Files that the inner service names in `X-Sendfile` or `X-Accel-Redirect`.

mod future;
mod layer;
mod named_file;
mod response;
mod service;

pub use self::future::SendFileFuture;
pub use self::layer::{SendFileBuilder, SendFileLayer};
pub use self::service::SendFileService;
