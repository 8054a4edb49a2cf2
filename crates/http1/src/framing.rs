//! The framing of request bodies.

/// The framing of a request body (RFC 9112 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestBodyFraming {
    /// The request has no content.
    None,
    /// The content has this length in bytes, which is not 0.
    Length(u64),
    /// The content has the transfer coding `chunked`.
    Chunked,
    /// The request has no content, and its response may switch protocols (RFC 9110 §7.8).
    ///
    /// The meaning of the bytes that follow depends on the response.
    Upgrade,
}
