//! The URI that the client sent, before a router such as axum's changed it.

use http::Uri;
use http::request::Parts;

/// Returns the request's URI as it was before a router changed it.
///
/// Use it for keys, costs and exemptions that depend on the path: axum strips the prefix of `Router::nest` from the URI.
/// With the feature `axum`, this reads the unchanged URI from axum's `OriginalUri` extension. Without the feature it
/// returns `head.uri`.
#[must_use]
pub fn original_uri(head: &Parts) -> &Uri {
    #[cfg(feature = "axum")]
    if let Some(axum::extract::OriginalUri(original)) = head.extensions.get() {
        return original;
    }
    &head.uri
}
