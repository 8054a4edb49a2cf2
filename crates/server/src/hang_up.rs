//! Answers that are none.

use http::Response;

/// Response extension: the response, an error (4xx, 5xx), is not sent. In its stead the connection is closed over
/// HTTP/1.1, and the stream reset over HTTP/2. What nginx has the status 444 for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HangUp;

impl HangUp {
    /// Whether `response` is not to be sent.
    pub(crate) fn is_for<B>(response: &Response<B>) -> bool {
        let status = response.status();
        // Of the status alone most responses are told.
        (status.is_client_error() || status.is_server_error()) && response.extensions().get::<Self>().is_some()
    }
}
