//! The conversion of HTTP/2 errors.

use crate::error::{ProxyError, ProxyErrorKind};

/// Converts an HTTP/2 error that occurred before the response head into a [`ProxyError`].
pub(super) fn to_proxy_error(error: h2::Error) -> ProxyError {
    let kind =
        if error.is_library() { ProxyErrorKind::HttpProtocolError } else { ProxyErrorKind::ConnectionTerminated };
    ProxyError::caused(kind, error)
}
