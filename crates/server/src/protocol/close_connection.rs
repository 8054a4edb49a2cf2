//! A response extension that closes the connection instead of sending an error response.

use http::Response;

/// Response extension: closes the connection instead of sending this error response (4xx or 5xx).
///
/// Over HTTP/2, the stream is reset instead. This is like the status 444 of nginx.
///
/// # Examples
///
/// ```
/// use http::{Response, StatusCode};
/// use rproxy_server::CloseConnection;
///
/// let mut response = Response::new("never sent");
/// *response.status_mut() = StatusCode::NOT_FOUND;
/// response.extensions_mut().insert(CloseConnection);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseConnection;

impl CloseConnection {
    /// Returns whether the connection must be closed instead of sending `response`.
    pub(crate) fn applies_to<B>(response: &Response<B>) -> bool {
        let status = response.status();
        // The status is checked first, because it decides for most responses without a look at the extensions.
        (status.is_client_error() || status.is_server_error()) && response.extensions().get::<Self>().is_some()
    }
}
