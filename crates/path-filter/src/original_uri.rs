//! The URI that the client sent, before a router such as axum's changed it.

use http::{Request, Uri};

/// Returns the URI of the request before a router changed it.
///
/// axum strips the prefix of `Router::nest` from the URI, and keeps the original in an extension.
pub(crate) fn original_uri<B>(request: &Request<B>) -> &Uri {
    #[cfg(feature = "axum")]
    if let Some(axum::extract::OriginalUri(original)) = request.extensions().get() {
        return original;
    }
    request.uri()
}
