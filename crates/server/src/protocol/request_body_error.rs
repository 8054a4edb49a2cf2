//! The error of a request body.

use rproxy_http1::InvalidBody;

/// The error of a request body that ends early or is invalid.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestBodyError {
    /// The client closed the connection before the end of the content.
    #[error("the client closed the connection before the end of the content")]
    Incomplete,
    /// The chunked coding of the content is invalid (RFC 9112 §7.1).
    #[error("the chunked coding of the content is invalid")]
    Invalid(#[source] InvalidBody),
    /// The HTTP/2 stream failed.
    #[error("the HTTP/2 stream failed before the end of the content")]
    Http2(#[source] hyper::Error),
}
