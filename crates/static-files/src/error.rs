//! The errors of the construction of a layer.

use std::io;
use std::path::PathBuf;

/// An error in the configuration of a [`StaticFilesLayer`](crate::StaticFilesLayer) or
/// [`SendFileLayer`](crate::SendFileLayer).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StaticFilesError {
    /// The root is not a directory that can be opened.
    #[error("cannot open the folder {}", path.display())]
    Root {
        /// The path of the root.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The fallback is not the path of a file below the root.
    #[error("bad fallback {0:?}: must be the path of a file below the root, such as index.html")]
    Fallback(String),
    /// The fallback cannot be opened.
    #[error("cannot open the fallback {}", path.display())]
    UnreadableFallback {
        /// The path of the fallback.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The prefix of `X-Accel-Redirect` is not a path.
    #[error("bad prefix {0:?}: must be a path that begins with a slash, without percent-encoding, such as /protected")]
    Prefix(String),
}
