//! The URI that the client sent.

use http::Uri;
use http::request::Parts;

/// The URI of a request as it was before a router changed it, for keys, costs and exemptions that go by the path.
///
/// axum strips the prefix of `Router::nest` from the URI and keeps the whole in an extension, which is read with the
/// feature `axum`. Without the feature this is `head.uri`.
#[must_use]
pub fn original_uri(head: &Parts) -> &Uri {
    #[cfg(feature = "axum")]
    if let Some(axum::extract::OriginalUri(original)) = head.extensions.get() {
        return original;
    }
    &head.uri
}
