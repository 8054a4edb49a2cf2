//! The target that the client sent.

use http::{Request, Uri};

/// The URI of a request as it was before a router changed it: axum strips the prefix of `Router::nest` from the URI, and
/// keeps the whole in an extension.
pub(crate) fn target<B>(request: &Request<B>) -> &Uri {
    #[cfg(feature = "axum")]
    if let Some(axum::extract::OriginalUri(original)) = request.extensions().get() {
        return original;
    }
    request.uri()
}
